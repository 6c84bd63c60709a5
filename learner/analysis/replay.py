"""``learner replay``: a run seen again from its journal, θ bit for bit. Knows a run's directory; starts nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from learner.config import LearnerSettings
from learner.durability import checkpoint as checkpoints
from learner.durability import journal as journals
from learner.durability.checkpoint import Checkpoint, state_digest
from learner.durability.journal_format import Head, Mark
from learner.durability.journal_replay import JournalReplay
from learner.durability.recovery import blank
from learner.launch.experiment_file import load
from learner.launch.run_directory import EXPERIMENT, MANIFEST, RunDirectoryError
from learner.optim.parameters import Parameters
from protocol import manifest as manifests
from protocol.errors import UserError
from protocol.manifest import Manifest, digest_of

Announcer = Callable[[str, dict[str, object]], None]


class Replay:
    """The journal of one run directory, repeated. Raises UserError where there is none.

    announce: called with each digest that was compared, with gaps, and at the end. omissions: sentences on what of the
    run could not be repeated or compared; with any of them "the same" says too much.
    """

    def __init__(self, path: Path, announce: Announcer) -> None:
        self._manifest, self._digest, self._settings = _run_of(path)
        self._checkpoints, self._journal, self._announce = path / "checkpoints", path / "journal", announce
        self._bases = journals.bases(self._journal)
        if not self._bases:
            kept = self._settings.journal is not None
            gone = "its journal is gone: journal/ holds nothing to begin from, though the run keeps one"
            never = 'it holds no journal; a run that is to be replayed has learner.durability = "journal"'
            raise RunDirectoryError(path, gone if kept else never)
        # listed before the journal is read, which leads to all of them
        self._checkpoint_files = dict(checkpoints.listed(self._checkpoints))
        self._marked: set[int] = set()
        self.omissions: list[str] = []
        self._replay: JournalReplay | None = None
        self._epoch = 0
        self.compared = self.differing = self.updates = 0

    def run(self, until: int | None, *, verify: bool) -> Parameters:
        """To version ``until``, or as far as the journal leads. verify: compare what is on the way.

        Raises UserError where ``until`` is not on the way.
        """
        began = time.perf_counter()
        first = min(self._bases)
        if until is not None and until < first:
            raise UserError(f"--until {until}: the journal begins at version {first}")
        for version, path in self._bases.items():
            if until is None or version <= until:
                self._replay_from(version, path, until, verify=verify)
        if self._replay is None:
            raise RunDirectoryError(self._journal, "there is no base that can be read")
        parameters = self._replay.parameters
        if until is not None and parameters.version != until:
            why = "".join(f"; {sentence}" for sentence in self.omissions)
            raise UserError(f"--until {until}: the journal leads to version {parameters.version}{why}")
        self._check_coverage(first, parameters.version, whole=until is None, verify=verify)
        told: dict[str, object] = {
            "run": self._manifest.run,
            "version": parameters.version,
            "theta": parameters.digest(),
            "updates": self.updates,
            "wall_s": round(time.perf_counter() - began, 3),
        }
        if verify:
            told |= {"compared": self.compared, "differing": self.differing}
        self._announce("replayed", told)
        return parameters

    def _check_coverage(self, first: int, reached: int, *, whole: bool, verify: bool) -> None:
        """For what nothing led to. whole: all was asked for, so nothing may lie beyond."""
        kept = sorted(version for version, path in self._checkpoint_files.items() if path.exists())
        later = [version for version in kept if version > reached]
        segments = [segment.path.name for segment in journals.segment_files(self._journal) if segment.version > reached]
        missed = [version for version in kept if first <= version <= reached and version not in self._marked]
        missed = [version for version in missed if version not in self._bases]
        ends = f"{self._journal}: it can be read to version {reached}"
        if whole and later:
            self.omissions.append(f"{ends}, and kept checkpoints lie beyond: {_listed(later)}")
        if whole and segments:
            self.omissions.append(f"{ends}, and segments lie beyond: {_listed(segments)}")
        if verify and missed:
            self.omissions.append(f"{self._journal}: it leads to no kept checkpoint of version {_listed(missed)}")
        if verify and not self.compared:
            self.omissions.append(f"{self._journal}: nothing was compared, for no checkpoint is noted on the way")

    def _replay_from(self, version: int, path: Path, until: int | None, *, verify: bool) -> None:
        """From one base on; nothing where what was played before has passed it."""
        if self._replay is not None and self._replay.parameters.version >= version:
            return
        try:
            base = checkpoints.load(path)
        except checkpoints.CheckpointFault as fault:
            self._announce("checkpoint_refused", {"path": str(path), "cause": fault.cause})
            self.omissions.append(str(fault))
            return
        if base.manifest != self._digest:
            raise checkpoints.CheckpointFault(path, "it belongs to another run")
        if self._replay is not None:
            self._announce("gap", {"from": self._replay.parameters.version, "to": version})
            if verify:
                gap = f"{self._replay.parameters.version} to {version}"
                self.omissions.append(f"{self._journal}: it does not lead from version {gap}")
        parameters = self._make(self._settings)
        parameters.restore(base.version, base.arrays)
        self._replay = replay = JournalReplay(parameters, self._settings, self._make)
        records = journals.read(self._journal, self._digest, version, announce=self._on_journal_event)
        for record in replay.run(records, until):
            if isinstance(record, Head):
                self._epoch = record.epoch
            elif verify:
                self._compare(record)
        self.updates += replay.parameters.version - version

    def _on_journal_event(self, event: str, fields: dict[str, object]) -> None:
        self._announce(event, fields)
        if event == "journal_damaged":
            behind = f"{fields['bytes']} bytes behind version {fields['version']} cannot be read"
            self.omissions.append(f"{fields['path']}: {behind}, more than one record; a crash leaves less")

    def _make(self, settings: LearnerSettings) -> Parameters:
        return blank(settings, self._manifest.layout, self._manifest.observation_size)

    def _compare(self, mark: Mark) -> None:
        """With the digest that was noted, and with the checkpoint's file while it is kept."""
        assert self._replay is not None
        digest, kept = self._replay.digest, self._checkpoint_files.get(mark.version)
        self._marked.add(mark.version)
        found = {"mark": mark.digest}
        if kept is not None:
            try:
                found["file"] = state_digest(checkpoints.load(kept).arrays)
            except checkpoints.CheckpointFault as fault:
                if kept.exists():  # else a learner that goes on has forgotten it meanwhile
                    found["file"] = fault.cause
        same = set(found.values()) == {digest}
        self.compared += 1
        self.differing += not same
        self._announce("same" if same else "differs", {"version": mark.version, "digest": digest, "compared": [*found]})

    def write(self, path: Path) -> None:
        """What was played to, as a checkpoint. Raises UserError."""
        assert self._replay is not None
        parameters, counters = self._replay.parameters, self._replay.counters or {}
        kept = Checkpoint(self._digest, parameters.version, self._epoch, counters, parameters.checkpoint_arrays())
        try:
            checkpoints.write(path, path.with_name(f".{path.name}.tmp"), kept)
        except OSError as error:
            raise checkpoints.CheckpointFault(path, error.strerror or str(error)) from None


def _listed(found: Sequence[object], most: int = 5) -> str:
    """The first of them, and how many there are where that is not all."""
    shown = ", ".join(map(str, found[:most]))
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"


def _run_of(path: Path) -> tuple[Manifest, str, LearnerSettings]:
    """A run directory's manifest, its digest in hexadecimal, and the learner's settings."""
    try:
        data = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise RunDirectoryError(path, f"there is no run: {MANIFEST}: {error.strerror}") from None
    return manifests.decode(data), digest_of(data).hex(), load(path / EXPERIMENT, (), {}, kept=True).learner
