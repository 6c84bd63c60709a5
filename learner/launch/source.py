"""Checkpoints of other runs that a new one may begin with: found and read. Knows files; starts nothing.

A checkpoint does not say what its layers are called. Its run's ``manifest.json`` does, two folders up or beside a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import safetensors

from learner.durability import checkpoint as checkpoints
from learner.durability.checkpoint import Checkpoint, CheckpointFault
from learner.launch.experiment_file import load
from learner.launch.initial import InitialError
from learner.launch.run_directory import EXPERIMENT, MANIFEST
from learner.launch.transfer import Source, Wanted
from protocol import manifest as manifests
from protocol.errors import UserError
from protocol.manifest import Manifest, Origin, digest_of

Announcer = Callable[[str, dict[str, object]], None]
OURS = ("checkpoint-", "best", "base-")  # names of checkpoints begin so, also of those that nobody can read


def sort(
    paths: Sequence[Path],
    *,
    best: bool = False,
    only: Sequence[str] = (),
    leave: Sequence[str] = (),
    optimizer: bool = False,
    begun: Path | None = None,
) -> tuple[Path | None, Wanted | None]:
    """What ``actor init`` wrote, and what another run did, of the paths that were given with --initial; one of each.

    begun: directory of a run that may go on. What it began with may be gone by now. Raises UserError.
    """
    files = [path for path in paths if not _holds_weights(path, begun)]
    weights = [path for path in paths if path not in files]
    if len(files) > 1 or len(weights) > 1:
        few = files if len(files) > 1 else weights
        what = "files of `actor init`" if few is files else "runs to begin with"
        raise UserError(f"--initial: {' and '.join(map(str, few))} are two {what}; one is enough")
    flags = {
        "--initial-best": best,
        "--initial-only": only,
        "--initial-except": leave,
        "--initial-optimizer": optimizer,
    }
    asked = [flag for flag, value in flags.items() if value]
    if asked and not weights:
        raise UserError(f"{asked[0]} is of the weights of another run: name it with --initial RUN_OR_CHECKPOINT")
    wanted = Wanted(weights[0], best, tuple(only), tuple(leave), optimizer) if weights else None
    return (files[0] if files else None), wanted


def read(wanted: Wanted, announce: Announcer) -> Source:
    """The checkpoint that is meant, whole. announce: hears of newer ones that are damaged. Raises UserError."""
    run_dir, path, kept = _found(wanted, announce)
    manifest = _manifest(run_dir, path, kept)
    theta = kept.arrays.get("theta")
    if theta is None or (theta.dtype.str, theta.shape) != ("<f4", (manifest.layout.length,)):
        raise InitialError(path, f"its parameters are not the {manifest.layout.length} of its run")
    if not np.isfinite(theta).all():
        raise InitialError(path, "its parameters are not all finite: the run had diverged; an older checkpoint may do")
    optimizer = ""
    if wanted.optimizer:
        optimizer = load(run_dir / EXPERIMENT, (), {}, kept=True).learner.optimizer.name
    return Source(path, manifest.run, kept.version, manifest.layout, kept.arrays, optimizer)


def again(origin: Origin) -> Wanted:
    """What a run began with, to be read once more, where it died before it had written it down itself."""
    return Wanted(Path(origin.path), False, origin.only, origin.leave, origin.optimizer)


def is_same(origin: Origin, wanted: Wanted) -> bool:
    """Whether a run that began so may have been asked to begin with this; its newest checkpoint is another by now."""
    patterns = (origin.only, origin.leave, origin.optimizer) == (wanted.only, wanted.leave, wanted.optimizer)
    return patterns and Path(origin.path).is_relative_to(wanted.path.absolute())


def _holds_weights(path: Path, begun: Path | None) -> bool:
    """Whether it is a run's directory or a checkpoint. What cannot be read is what it is called."""
    if path.is_dir():
        return True
    if not path.exists():
        return begun is not None and _began_with(begun, path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return "farflung" in (file.metadata() or {})
    except (OSError, ValueError, safetensors.SafetensorError):
        return path.name.startswith(OURS)


def _began_with(run_dir: Path, path: Path) -> bool:
    try:
        kept = manifests.decode((run_dir / MANIFEST).read_bytes())
    except (OSError, UserError):
        return False  # what is wrong is told when the run begins
    return kept.initial is not msgspec.UNSET and Path(kept.initial.path).is_relative_to(path.absolute())


def _found(wanted: Wanted, announce: Announcer) -> tuple[Path, Path, Checkpoint]:
    """The run's directory, the file in it and what the file holds."""
    path = wanted.path.absolute()
    if not path.is_dir():
        if wanted.best:
            raise InitialError(path, "--initial-best is of a run's directory, and this is a file")
        kept = checkpoints.load(path)
        return _home(path), path, kept
    if not (path / MANIFEST).exists():
        near = f"; {path.parent} is one" if (path.parent / MANIFEST).exists() else ""
        raise InitialError(path, f"this is no run's directory: it has no {MANIFEST}{near}")
    folder = path / "checkpoints"
    try:
        if wanted.best:
            found = checkpoints.load_best(folder) if folder.exists() else None
            if found is None:
                raise InitialError(path, "it has no best checkpoint: nobody has evaluated the run while it trained")
            return path, folder / checkpoints.BEST, found
        newest = checkpoints.newest(folder) if folder.exists() else checkpoints.Found(None, ())
    except OSError as error:
        raise InitialError(folder, error.strerror or str(error)) from None
    if newest.checkpoint is None or newest.path is None:
        raise newest.bad[0] if newest.bad else InitialError(path, "it has no checkpoint yet")
    for bad in newest.bad:
        announce("checkpoint_refused", {"path": str(bad.path), "cause": bad.cause})
    return path, newest.path, newest.checkpoint


def _home(path: Path) -> Path:
    """The folder of the manifest that a checkpoint's layers are named in."""
    for folder in (path.parent.parent, path.parent):
        if (folder / MANIFEST).is_file():
            return folder
    cause = f"a checkpoint does not say what its layers are called; {MANIFEST} of its run does, and is neither in"
    raise InitialError(path, f"{cause} {path.parent.parent} nor beside it")


def _manifest(run_dir: Path, path: Path, kept: Checkpoint) -> Manifest:
    try:
        data = (run_dir / MANIFEST).read_bytes()
    except OSError as error:
        raise InitialError(run_dir / MANIFEST, error.strerror or str(error)) from None
    manifest = manifests.decode(data)
    if digest_of(data).hex() != kept.manifest:
        raise CheckpointFault(path, f"it belongs to another run than {run_dir / MANIFEST}")
    return manifest
