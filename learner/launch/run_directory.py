"""One run's directory: what it holds and who may use it. Knows files; no sockets, no arrays.

``experiment.toml`` as resolved, ``manifest.json``, ``epoch`` (lives of the learner so far), ``checkpoints/``,
``journal/``, ``progress.jsonl`` and, once a life has ended, ``result.json``. One learner at a time holds the directory:
it is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from learner.config import Experiment, actor_table
from learner.durability.disk import DISK
from learner.durability.journal import segment_files
from learner.launch.changes import learner_changes
from learner.launch.experiment_file import load
from learner.launch.toml import dumps
from learner.progress import RENAMED_IN_RESULT, with_present
from protocol import manifest as manifests
from protocol.errors import UserError
from protocol.manifest import Changes, Manifest
from protocol.process.stdio import json_line
from protocol.setting_names import DEFAULTS_EDITION

EARLY_LINES = 1000  # actors start while θ₀ is made and have little to say by then
OPERATOR = 0  # root's processes may be a learner
LOCK, EPOCH, EXPERIMENT, MANIFEST, RESULT = "lock", "epoch", "experiment.toml", "manifest.json", "result.json"
# A directory with nothing but these holds no run: what a learner leaves that died before it began, and what a new file
# system has at its root, which a volume shows.
NO_RUN = {LOCK, f".{LOCK}.tmp", f".{MANIFEST}.tmp", "lost+found"}
AS_BEGUN = "It goes on as it began with --resume, or with --continue and no EXPERIMENT."
SEEN_BYTES = 4096  # of progress.jsonl in which one whole line is looked for: several times the longest
PROGRESS = "progress.jsonl"


def edition_of(path: Path | None) -> int:
    """Of the actor's defaults that the run in this directory began with; the present one where there is none."""
    try:
        kept = manifests.decode((path / MANIFEST).read_bytes()) if path is not None else None
    except (OSError, UserError):
        kept = None  # what is wrong is told when the run begins
    if kept is None:
        return DEFAULTS_EDITION
    named: object = msgspec.msgpack.decode(kept.actor_table, type=dict[str, Any]).get("defaults", 1)
    return named if isinstance(named, int) else DEFAULTS_EDITION


class RunDirectoryError(UserError):
    """A directory that this run cannot use. path: which. cause: why, and what would help.

    code, passing: as in UserError.
    """

    def __init__(self, path: Path, cause: str, code: int | None = None, *, passing: bool = False) -> None:
        super().__init__(path, cause, code=code, passing=passing)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"run directory {self.path}: {self.cause}"


class Ended(msgspec.Struct):
    """What tells whether a run is over, of result.json. return_target: None where no mean return was asked for."""

    solved: bool
    return_target: float | None
    env_steps: int
    version: int
    checkpoint_version: int | None
    exit_code: int

    @property
    def saved(self) -> bool:
        """Whether what was reached is on disk."""
        return self.checkpoint_version == self.version and self.exit_code in (0, 3)


class RunDirectory:
    """A directory that this process holds. A context manager: leaving it closes the log and lets go of the lock, and
    removes a directory that ``prepare`` made and that nothing was written to.

    lost_lines: lines of progress.jsonl that could not be written; training goes on without them. journaled: the life
    before kept a journal; changed: settings of actors and of the learner that are others than in the life before; both
    are known after ``start_life``. heard_by: gets every event with its line as it is recorded.
    """

    def __init__(self, path: Path, resuming: bool, lock: IO[bytes], made: bool = False) -> None:
        self.path, self.resuming, self._made = path, resuming, made
        self.checkpoints, self.journal = path / "checkpoints", path / "journal"
        self.lost_lines = 0
        self.journaled = False
        self.changed: Changes = {}
        self.heard_by: Callable[[str, bytes], None] | None = None
        self._lock = lock
        self._log: IO[bytes] | None = None
        self._early: deque[bytes] = deque(maxlen=EARLY_LINES)  # recorded before ``start_life``
        self._torn = False

    @classmethod
    def prepare(cls, path: Path, resume: bool, proceed: bool = False) -> RunDirectory:
        """Takes hold of the directory before anything expensive is started. proceed: resume where there is a run.

        Raises RunDirectoryError: there is a run in it and ``resume`` is not set, or the reverse; it is in use; it
        cannot be written.
        """
        try:
            _resumes(path, resume, proceed)  # another's folder is left as it is, without a lock in it
            missing = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            for folder in missing or [path]:
                DISK.sync_folder(folder.parent, "run")
            lock = _locked(path)
            try:  # another may have begun in it, and died, since we looked
                return cls(path, _resumes(path, resume, proceed), lock, path in missing)
            except BaseException:
                lock.close()
                raise
        except OSError as error:
            raise RunDirectoryError(path, error.strerror or str(error), error.errno) from None

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            self._log.close()
        if self._made:
            with contextlib.suppress(OSError):
                _remove_unused(self.path)  # while nobody else can hold it
        self._lock.close()

    def start_life(self, experiment: Experiment, manifest: Manifest) -> int:
        """Writes down what is about to run, or compares it with what ran. Returns the epoch: 1 in the first life.

        Raises RunDirectoryError where a resumed run is another experiment, or the directory cannot be written.
        """
        try:
            if self.resuming:
                kept = self.kept()
                self.changed = self._compare(manifest) | ({} if kept is None else learner_changes(kept, experiment))
                self.journaled = kept is not None and kept.learner.journal is not None
            else:
                self._write(MANIFEST, manifests.encode(manifest))
            self._open_log()
            self._write(EXPERIMENT, dumps(experiment).encode())
            DISK.make_folder(self.checkpoints, "run")
            epoch = self._last_epoch() + 1
            self._write(EPOCH, f"{epoch}\n".encode())
        except OSError as error:
            raise RunDirectoryError(self.path, error.strerror or str(error), error.errno) from None
        return epoch

    def _open_log(self) -> None:
        """What changed is in it before the run's directory holds it: whoever dies between them leaves it told."""
        self._log = (self.path / PROGRESS).open("ab", buffering=0)
        while self._early:
            self._append(self._early.popleft())
        if self.changed:
            self.record("settings_changed", 0.0, {"changed": self.changed})

    def table(self) -> bytes:
        """The actor table that the run's last life had; its first where that cannot be read. Raises UserError."""
        kept = self.kept()
        return self.manifest().actor_table if kept is None else actor_table(kept)

    def manifest(self) -> Manifest:
        """The manifest of the run that is being resumed. Raises UserError."""
        return manifests.decode((self.path / MANIFEST).read_bytes())

    def kept(self) -> Experiment | None:
        """The experiment of the life before, which is about to be written over; None where it cannot be read."""
        with contextlib.suppress(UserError):
            return load(self.path / EXPERIMENT, (), {}, kept=True)
        return None

    def finished_exit_code(self, experiment: Experiment) -> int | None:
        """The exit code with which this run ended, if there is nothing left of what ``experiment`` asks; else None.

        None too where the last θ was not saved, which must be reached again, and where the directory is another
        experiment's, which ``start_life`` tells.
        """
        if not self.resuming or self.table() != actor_table(experiment):
            return None
        try:
            told = msgspec.json.decode((self.path / RESULT).read_bytes(), type=dict[str, Any])
            ended = msgspec.convert(with_present(told, RENAMED_IN_RESULT), Ended)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        if not ended.saved:
            return None
        target, steps = experiment.run.until_return, experiment.run.until_steps
        if ended.solved and target is not None and ended.return_target is not None and ended.return_target >= target:
            return 0
        if steps is not None and ended.env_steps >= steps:
            return 0 if target is None else 3
        return None

    def record(self, event: str, wall_s: float, fields: Mapping[str, object]) -> None:
        """Appends one line to progress.jsonl. wall_s: since the first environment step of this life.

        What the fields say of these three names is not heard: readers rely on them (deploy/PROGRESS.md).
        """
        stamp = {"event": event, "wall_s": round(wall_s, 3), "unix_s": round(time.time(), 3)}
        line = json_line(stamp | {name: value for name, value in fields.items() if name not in stamp})
        if self._log is None:
            self._early.append(line)
        else:
            self._append(line)
        if self.heard_by is not None:
            self.heard_by(event, line)

    def progress_lines(self, most: int) -> list[bytes]:
        """Lines of progress.jsonl, oldest first, evenly spread over it; none where it cannot be read.

        However long the run was, no more than ``most`` times SEEN_BYTES are read.
        """
        try:
            with (self.path / PROGRESS).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size > most * SEEN_BYTES:
                    return [_line_after(file, size * number // most) for number in range(most)]
                file.seek(0)
                lines = file.read().splitlines()
                return lines[:: -max(1, math.ceil(len(lines) / most))][::-1]  # the newest is among them
        except OSError:
            return []

    def write_result(self, summary: Mapping[str, object]) -> None:
        """Writes result.json whole or not at all. Raises OSError."""
        text = msgspec.json.format(json_line(summary), indent=2) + b"\n"
        self._write(RESULT, text)

    def _write(self, name: str, data: bytes) -> None:
        """Old contents or new ones, never half of them, whenever the machine stops. Raises OSError."""
        DISK.write_whole(self.path / name, self.path / f".{name}.tmp", data, "run")

    def _append(self, line: bytes) -> None:
        """Counts a line that a full disk does not take whole; the next one first ends what is left of it."""
        assert self._log is not None
        data = b"\n" + line if self._torn else line
        try:
            self._torn = self._log.write(data) != len(data)
            self.lost_lines += self._torn
        except OSError:
            self.lost_lines += 1

    def _compare(self, manifest: Manifest) -> Changes:
        """In which settings of actors this life differs from the last. Raises RunDirectoryError for another run."""
        table = self.table()
        difference = manifests.difference(msgspec.structs.replace(self.manifest(), actor_table=table), manifest)
        if difference is not None:
            raise RunDirectoryError(self.path, f"it holds another experiment. {difference} {AS_BEGUN}")
        return manifests.changes(table, manifest.actor_table)

    def _last_epoch(self) -> int:
        """As the file says; no less than the journal knows of, should that be lost: two lives must not share one."""
        known = max((segment.epoch for segment in segment_files(self.journal)), default=0)
        with contextlib.suppress(FileNotFoundError, ValueError):
            return max(known, int((self.path / EPOCH).read_text()))
        return known


def _line_after(file: IO[bytes], offset: int) -> bytes:
    """The first line that begins after ``offset``; what the search ends in where it is longer."""
    file.seek(offset)
    left = SEEN_BYTES - len(file.readline(SEEN_BYTES))
    return file.readline(left)


def _resumes(path: Path, resume: bool, proceed: bool) -> bool:
    """Whether a run in it is to go on, as it is now. Raises RunDirectoryError where that is not what was asked for."""
    held = {entry.name for entry in path.iterdir()} if path.exists() else set()
    resume = resume or (proceed and MANIFEST in held)
    if resume and MANIFEST not in held:
        raise RunDirectoryError(path, f"there is no run to resume: it has no {MANIFEST}")
    if not resume and held - NO_RUN:
        raise RunDirectoryError(path, "it is not empty; --resume goes on with its run, --run-dir names another")
    return resume


def _remove_unused(path: Path) -> None:
    """Removes a directory with nothing but the lock in it. Raises OSError."""
    if [entry.name for entry in path.iterdir()] == [LOCK]:
        (path / LOCK).unlink()
        path.rmdir()


def _locked(path: Path) -> IO[bytes]:
    """The lock of a directory, which nobody else may open: to read a file is enough to lock it.

    One that others may open, as earlier versions left it, is replaced: where it is held, only if the holder is another
    user's.
    """
    held, own = _open_lock(path / LOCK), None
    try:
        taken, ours = _taken(held), not os.fstat(held.fileno()).st_mode & 0o077
        if (taken and (ours or not _held_by_another_user(held))) or not _lies_at(held, path / LOCK):
            raise RunDirectoryError(path, "another learner is using it", passing=True)
        if ours:
            return held
        own = _open_lock(path / f".{LOCK}.tmp")
        if _taken(own) or not _lies_at(held, path / LOCK):  # another learner replaces it, or has
            raise RunDirectoryError(path, "another learner is using it", passing=True)
        (path / f".{LOCK}.tmp").replace(path / LOCK)
    except BaseException:
        held.close()
        if own is not None:
            own.close()
        raise
    held.close()
    return own


def _open_lock(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")


def _taken(lock: IO[bytes]) -> bool:
    """Whether somebody else has it; now we do where nobody had."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _lies_at(lock: IO[bytes], path: Path) -> bool:
    """Whether the file is still the one of that name."""
    return os.path.samestat(os.fstat(lock.fileno()), path.stat())


def _held_by_another_user(lock: IO[bytes]) -> bool:
    """Whether all who hold it are processes of users who could not run this learner. False where that is not known."""
    status = os.fstat(lock.fileno())
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        users = {Path("/proc", row[4]).stat().st_uid for row in rows if row[1] == "FLOCK" and row[5] == file}
    except (OSError, IndexError):
        return False
    return bool(users) and users.isdisjoint({OPERATOR, os.geteuid()})
