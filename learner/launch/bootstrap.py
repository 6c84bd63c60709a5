"""Builds all that a life of the learner holds once it has begun: θ, its books and its files. Knows files and processes.

The order is that in which a mistake is cheapest to report, and nothing here is half built: what could not begin raises.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import SystemRandom

import numpy as np
from msgspec import UNSET, UnsetType

from learner import config
from learner.config import LearnerSettings
from learner.durability import checkpoint as checkpoints
from learner.durability import journal as journals
from learner.durability.recovery import (
    Restored,
    RunFiles,
    blank,
    keep_first,
    make_parameters,
    open_journal,
    restore,
    restore_best,
)
from learner.durability.storage import RunStorage
from learner.launch import source as sources
from learner.launch.changes import require_state
from learner.launch.initial import Initial, given
from learner.launch.local_actors import LocalActors, check, initial
from learner.launch.options import Options
from learner.launch.relay import Announcer
from learner.launch.run_directory import RunDirectory, RunDirectoryError
from learner.launch.transfer import OPTIMIZER, Fitted, Source, Wanted, fit
from learner.monitoring.console import Console
from learner.monitoring.sinks.feed import Hear
from learner.optim.parameters import Parameters
from learner.progress import Progress
from learner.security.keyring import Keyring
from learner.state import Address, LearnerState
from learner.stream.writer import StreamWriter
from protocol import manifest as manifests
from protocol.frames import Limits
from protocol.manifest import Manifest, Origin, digest_of
from protocol.transport.learner_sockets import LearnerSockets


@dataclass(frozen=True)
class Resources:
    """What one start of the learner opened before it began.

    http: where the pages are served, None for none. ring: who may connect, None without keys. local: where this
    machine's actors dial; keys: the folder of their keys, None without. start: starts the thread that writes
    checkpoints. watchers: names, and what hears the run's lines.
    """

    options: Options
    directory: RunDirectory
    sockets: LearnerSockets
    console: Console
    http: socket.socket | None
    ring: Keyring | None
    local: str
    keys: Path | None
    start: Callable[[threading.Thread], None] = threading.Thread.start
    watchers: Sequence[tuple[str, Hear]] = ()


@dataclass(frozen=True)
class Begun:
    """One life, ready to be served. digest: of the manifest, in checkpoints. limits: of frames, as the layout has them.

    parameters, stream: belong to the math thread from here on. store: to the math thread and the disk thread.
    """

    state: LearnerState
    parameters: Parameters
    stream: StreamWriter
    store: RunStorage
    digest: str
    limits: Limits


@dataclass(frozen=True)
class _Numbers:
    parameters: Parameters
    progress: Progress
    store: RunStorage


@dataclass(frozen=True)
class _Beginning:
    """fitted: what another run had learnt, where this one has nothing of its own yet. digest: of the manifest."""

    first: Initial
    fitted: Fitted | None
    epoch: int
    digest: str


async def begin(
    resources: Resources,
    local_actors: LocalActors,
    roles: Callable[[str], frozenset[str]],
    announce: Announcer,
) -> Begun:
    """θ₀, what another run learnt, or the newest checkpoint and what the journal says since; then the state of it all.

    roles: what a public key may do. Raises UserError. Cancelled, it leaves nothing open.
    """
    options, directory, sockets = resources.options, resources.directory, resources.sockets
    settings = options.experiment.learner
    table = config.actor_table(options.experiment)
    if directory.resuming:
        require_state(directory.checkpoints, directory.journal, directory.kept(), settings)
    chosen = await asyncio.to_thread(_weights, options, directory, announce)
    first = await _theta(options, table, local_actors, directory)
    fitted = None if chosen is None else _fitted(first, *chosen, settings)
    manifest = _manifest(options, first, table, _origin(directory, fitted))
    epoch = directory.start_life(options.experiment, manifest)
    if directory.changed:
        resources.console.event("settings_changed", {"changed": directory.changed})
    digest = digest_of(manifests.encode(directory.manifest())).hex()
    limits = Limits.for_length(manifest.layout.length)
    sockets.set_limits(limits)
    begin_with = _Beginning(first, fitted, epoch, digest)
    numbers = await _uncut(partial(_restore, options, directory, begin_with, roles, announce))
    try:
        stream = StreamWriter(numbers.parameters, budgeted=settings.downlink_kbps is not None)
        state = LearnerState(
            options.experiment,
            manifest,
            Address(epoch, sockets.weights),
            stream.key_frame(epoch),
            numbers.progress,
            SystemRandom(),
            time.monotonic(),
        )
    except BaseException:
        numbers.store.close()
        raise
    return Begun(state, numbers.parameters, stream, numbers.store, digest, limits)


async def _theta(options: Options, table: bytes, local_actors: LocalActors, directory: RunDirectory) -> Initial:
    """θ₀: as it was handed over, or made while the table is checked and local actors start. table: theirs, msgpack.

    What is handed over for a run that goes on may have been made by another version, of a table of another edition.
    The run's own is then asked for what it is, unless the simulators are to be others, whose network nobody here knows.

    None of them starts before the table is known to be sound: a mistake is told in a second, and once.
    """
    run, modules, file = options.experiment.run, options.allow_modules, options.initial
    made = None
    if file is not None:
        kept = directory.manifest() if directory.resuming else None
        other = kept is None or manifests.makes_simulators(manifests.changes(directory.table(), table))
        made = given(file, options.experiment.actor.get("env"), run.seed, table if other else None)
        if kept is not None and kept.layout == made.layout:
            made = replace(made, observation_size=kept.observation_size)
    making = [] if made is not None else [asyncio.create_task(initial(table, run.seed, modules))]
    try:
        if run.actors:
            await check(table, modules)
            local_actors.start()
        return made or await making[0]
    finally:
        for task in making:
            task.cancel()  # where the check has said what is wrong
        await asyncio.gather(*making, return_exceptions=True)


def _weights(options: Options, directory: RunDirectory, announce: Announcer) -> tuple[Source, Wanted] | None:
    """The other run's, which this one is to begin with; None where it begins anew or has weights of its own.

    A run that goes on reads them again only where it died before it had written them down, and then the same file.
    Raises UserError, also where it did not begin with what is asked for now.
    """
    wanted = options.weights
    if directory.resuming:
        origin = directory.manifest().initial
        if wanted is not None and (origin is UNSET or not sources.is_same(origin, wanted)):
            begun = "θ₀ of its own" if origin is UNSET else f"the weights of {origin.path}"
            cause = (
                f"its run began with {begun}, and goes on with what it has learnt: leave --initial {wanted.path} out"
            )
            raise RunDirectoryError(directory.path, cause)
        wanted = None if origin is UNSET or _holds_weights(directory) else sources.again(origin)
    return None if wanted is None else (sources.read(wanted, announce), wanted)


def _holds_weights(directory: RunDirectory) -> bool:
    return bool(checkpoints.listed(directory.checkpoints) or journals.bases(directory.journal))


def _fitted(first: Initial, source: Source, wanted: Wanted, settings: LearnerSettings) -> Fitted:
    """Raises UserError, while nothing is written yet."""
    fitted = fit(first, source, wanted, settings.optimizer.name)
    if wanted.optimizer:
        _take(blank(settings, first.layout, first.observation_size), fitted)
    return fitted


def _take(parameters: Parameters, fitted: Fitted) -> None:
    """What was taken along beside θ; of the optimizer all or nothing. Raises StateMismatch."""
    own = parameters.checkpoint_arrays()
    if fitted.origin.optimizer:
        own = {name: array for name, array in own.items() if not name.startswith(OPTIMIZER)}
    parameters.restore(0, own | fitted.arrays)


def _origin(directory: RunDirectory, fitted: Fitted | None) -> Origin | UnsetType:
    if directory.resuming:
        return directory.manifest().initial
    return UNSET if fitted is None else fitted.origin


def _manifest(options: Options, first: Initial, table: bytes, origin: Origin | UnsetType) -> Manifest:
    run = options.experiment.run
    return Manifest(
        run=run.name or f"{first.env.rpartition('/')[2].rpartition(':')[2]}-{run.seed}",
        env=first.env,
        seed=run.seed,
        layout=first.layout,
        observation_size=first.observation_size,
        actor_table=table,
        actor_digest=digest_of(table),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        initial=origin,
    )


async def _uncut(restoring: Callable[[], _Numbers]) -> _Numbers:
    """In a thread, for a journal may be long. It writes, and the directory must not be another's before it has ended:
    so who cancels this waits for it.
    """
    future = asyncio.get_running_loop().run_in_executor(None, restoring)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if future.exception() is None:
            future.result().store.close()
        raise


def _restore(
    options: Options,
    directory: RunDirectory,
    begin_with: _Beginning,
    roles: Callable[[str], frozenset[str]],
    announce: Announcer,
) -> _Numbers:
    """The numbers to go on from, and the journal that leads on from them. announce: from this thread."""
    settings, first, fitted = options.experiment.learner, begin_with.first, begin_with.fitted
    files = RunFiles(
        directory.checkpoints, directory.journal, begin_with.digest, announce, journaled=directory.journaled
    )
    make = partial(blank, layout=first.layout, observations=first.observation_size)
    theta = np.array(first.theta if fitted is None else fitted.theta, np.float32)
    parameters = make_parameters(settings, theta, first.layout, first.observation_size)
    if fitted is not None:
        _take(parameters, fitted)
        keep_first(parameters, files, begin_with.epoch)
        announce("initial_weights", fitted.told())
    restored = restore(parameters, settings, make, files) if directory.resuming else Restored(Progress())
    # without a checkpoint too: a best may have been written before the first
    restored.progress.tasks = config.tasks(options.experiment)
    restore_best(restored.progress, files, lambda key: "evaluate" in roles(key))
    journaled = settings.journal is not None
    journal = open_journal(parameters, restored, settings, files, begin_with.epoch) if journaled else None
    return _Numbers(parameters, restored.progress, RunStorage(files, settings, journal))
