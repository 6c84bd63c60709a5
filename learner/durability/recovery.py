"""What a life of the learner goes on from: a checkpoint, and what the journal says since. Knows the run's files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learner.config import LearnerSettings, optimizer_settings
from learner.durability import checkpoint as checkpoints
from learner.durability import journal as journals
from learner.durability.checkpoint import Checkpoint, CheckpointFault
from learner.durability.disk import DISK, Disk
from learner.durability.journal import SEGMENT_BYTES, Journal
from learner.durability.journal_format import Head
from learner.durability.journal_replay import JournalReplay
from learner.optim.norms import make_norm_check
from learner.optim.optimizers import make_optimizer
from learner.optim.parameters import Parameters
from learner.optim.staleness import age_rule
from learner.progress import Best, Progress
from protocol.errors import UserError
from protocol.layout import Layout
from protocol.moments import Moments

Announcer = Callable[[str, dict[str, object]], None]
Make = Callable[[LearnerSettings], Parameters]


@dataclass(frozen=True)
class RunFiles:
    """Where a run's numbers are, and whose they must be. manifest: digest of the run's, in hexadecimal.

    announce: hears of what could not be used. journaled: the life before kept a journal, so one must be there.
    """

    checkpoints: Path
    journal: Path
    manifest: str
    announce: Announcer
    disk: Disk = DISK
    segment_bytes: int = SEGMENT_BYTES
    journaled: bool = False


@dataclass(frozen=True)
class Restored:
    """progress: of the run. checkpoint: what θ was first taken from, None where that is θ₀; path: of its file."""

    progress: Progress
    checkpoint: Checkpoint | None = None
    path: Path | None = None


def make_parameters(settings: LearnerSettings, theta: np.ndarray, layout: Layout, observations: int) -> Parameters:
    """θ₀ at version 0. theta: float32 [P], which is taken over. observations: numbers in a row of the moments, or 0."""
    moments = Moments.empty(observations) if observations else None
    optimizer, screen = make_optimizer(settings, theta), make_norm_check(settings, layout.length)
    return Parameters(theta, 0, optimizer, age_rule(settings), screen, layout, moments)


def blank(settings: LearnerSettings, layout: Layout, observations: int) -> Parameters:
    """The same with a θ of zeros, to be restored into."""
    return make_parameters(settings, np.zeros(layout.length, np.float32), layout, observations)


def keep_first(parameters: Parameters, files: RunFiles, epoch: int) -> None:
    """Writes a checkpoint of version 0: of θ₀ that nobody could make again. Raises CheckpointFault."""
    first = Checkpoint(files.manifest, parameters.version, epoch, {}, parameters.checkpoint_arrays())
    try:
        checkpoints.save(files.checkpoints, first, 1, files.disk)
    except OSError as error:
        raise CheckpointFault(files.checkpoints, error.strerror or str(error), error.errno) from None


def restore(parameters: Parameters, settings: LearnerSettings, make: Make, files: RunFiles) -> Restored:
    """Takes back the newest checkpoint that is whole and all that the journal says since. Nothing there: θ₀ stays.
    Segments beyond what could be reached are set aside.

    settings: that ``parameters`` were made with. Raises UserError where there are checkpoints or a journal and none of
    them can be begun from, or they are another run's: to begin again at θ₀ would lose the run in silence.
    """
    try:
        return _restore(parameters, settings, make, files)
    except OSError as error:
        raise journals.JournalError(files.journal, error.strerror or str(error), error.errno) from None


def _restore(parameters: Parameters, settings: LearnerSettings, make: Make, files: RunFiles) -> Restored:
    found = checkpoints.newest(files.checkpoints, journals.bases(files.journal, files.disk), files.disk)
    if found.checkpoint is None and found.bad:
        raise found.bad[0]
    for bad in found.bad:
        files.announce("checkpoint_refused", {"path": str(bad.path), "cause": bad.cause})
    if found.checkpoint is None:
        if journals.segment_files(files.journal, files.disk):
            raise journals.JournalError(files.journal, "there is no checkpoint that it leads on from")
        _announce_missing_journal(files, 0)
        return Restored(Progress())
    if found.checkpoint.manifest != files.manifest:
        raise UserError(f"{files.checkpoints}: its newest checkpoint belongs to another run")
    version = found.checkpoint.version
    parameters.restore(version, found.checkpoint.arrays)
    replay = JournalReplay(parameters, settings, make)
    found_on = replay.run(journals.read(files.journal, files.manifest, version, files.disk, files.announce))
    if version not in [record.version for record in found_on] and replay.parameters.version == version:
        _announce_missing_journal(files, version)
    if replay.parameters is not parameters:  # the tail is another optimizer's
        parameters.restore(replay.parameters.version, replay.parameters.checkpoint_arrays())
    if parameters.version > version:
        told: dict[str, object] = {"checkpoint": version, "version": parameters.version}
        files.announce("journal_repeated", told)
    lost = journals.set_aside(files.journal, parameters.version, files.disk)  # or a later life would repeat them
    if lost:
        told = {"version": parameters.version, "paths": [str(path) for path in lost]}
        files.announce("journal_unreachable", told)
    progress = Progress.restored(replay.counters or found.checkpoint.counters, parameters.version)
    return Restored(progress, found.checkpoint, found.path)


def _announce_missing_journal(files: RunFiles, version: int) -> None:
    """Says aloud that what should lead on from ``version`` is not there, where the life before wrote it."""
    if files.journaled:
        held = journals.segment_files(files.journal, files.disk)
        what = "nothing in it leads on from this version" if held else "it is gone, or empty"
        lost = "the run goes on, without what was applied and acknowledged since, if anything was"
        files.announce("journal_missing", {"path": str(files.journal), "version": version, "detail": f"{what}; {lost}"})


def open_journal(
    parameters: Parameters, restored: Restored, settings: LearnerSettings, files: RunFiles, epoch: int
) -> Journal:
    """The journal of a life that begins with ``parameters``. Raises UserError where it cannot be written.

    What they were restored from becomes a base, so that something leads to them whatever became of what lies before.
    What was read behind it may not be durable yet, and from here on it is promised to be.
    """
    version = parameters.version
    head = Head(files.manifest, epoch, 0, optimizer_settings(settings))
    journal = Journal(files.journal, head, files.disk, files.segment_bytes)
    try:
        files.disk.make_folder(files.journal, "run")
        if restored.checkpoint is None or restored.path is None:
            first = Checkpoint(files.manifest, version, epoch, {}, parameters.checkpoint_arrays())
            checkpoints.write(*journals.base_paths(files.journal, version), first, files.disk, "base")
        else:
            journals.write_base(files.journal, restored.path, restored.checkpoint.version, files.disk)
        journals.settle(files.journal, files.disk)
        journal.start_segment(version)
    except OSError as error:
        journal.close()
        raise journals.JournalError(files.journal, error.strerror or str(error), error.errno) from None
    return journal


def restore_best(progress: Progress, files: RunFiles, evaluates: Callable[[str], bool] = lambda _: True) -> None:
    """The files of the best rule: they may be newer than the checkpoint, and they are what must not be overwritten.

    evaluates: whether a key may, now. What another said does not count; the best of all is then the best of the rest,
    on disk too. Raises OSError where that cannot be written.
    """
    folder, disk = files.checkpoints, files.disk
    leads = folder / checkpoints.BEST
    there = [leads] if leads in disk.list(folder) else []
    found = {path: best for path in [*there, *checkpoints.best_paths(folder, disk)] if (best := _recalled(path, files))}
    progress.best = found.pop(leads, None)
    progress.runners_up = {
        best.public_key: best for best in found.values() if not best.public_key or evaluates(best.public_key)
    }
    if progress.best is not None and progress.best.public_key and not evaluates(progress.best.public_key):
        dropped, heirs = progress.best, progress.runners_up.values()
        progress.best = max(heirs, key=lambda each: each.mean, default=None)
        checkpoints.promote_best(folder, None if progress.best is None else progress.best.public_key, disk)
        told = {"version": dropped.version, "mean": dropped.mean, "why": "its key may not evaluate"}
        files.announce("best_dropped", told)
    if progress.best is not None:
        progress.runners_up.pop(progress.best.public_key, None)


def _recalled(path: Path, files: RunFiles) -> Best | None:
    try:
        kept = checkpoints.load(path, files.disk)
    except CheckpointFault as fault:
        files.announce("checkpoint_refused", {"path": str(fault.path), "cause": fault.cause})
        return None
    ours = kept.manifest == files.manifest and kept.score is not None
    return Best(kept.score["mean"], kept.version, kept.evaluator) if ours and kept.score else None
