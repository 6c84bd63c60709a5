"""Which of the paths given with --initial are weights, and which checkpoint is meant: real files, no run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from learner.durability.checkpoint import Checkpoint, CheckpointFault, save, save_best
from learner.launch.initial import InitialError
from learner.launch.source import again, is_same, read, sort
from learner.launch.transfer import Source, Wanted
from protocol import manifest as manifests
from protocol.errors import UserError
from protocol.manifest import Origin, digest_of
from tests.learner.books import LAYOUT, manifest
from tests.learner.courses import run_dir
from tests.learner.launch.test_initial import written

ORIGIN = Origin(
    path="/runs/old/checkpoints/checkpoint-000000000040.safetensors",
    run="old",
    version=40,
    only=(),
    leave=("head.*",),
    copied_layers=1,
    copied_parameters=6,
    left=("head.w",),
    statistics_rows=0,
    optimizer=False,
)


def kept(version: int, digest: str, score: float | None = None) -> Checkpoint:
    theta = np.full(LAYOUT.length, version, np.float32)
    return Checkpoint(digest, version, 1, {}, {"theta": theta}, None if score is None else {"mean": score})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory with two checkpoints and a best one."""
    path = run_dir(tmp_path / "run")
    digest = digest_of((path / "manifest.json").read_bytes()).hex()
    (path / "checkpoints").mkdir()
    for version in (3, 8):
        save(path / "checkpoints", kept(version, digest), keep=5)
    save_best(path / "checkpoints", kept(5, digest, 12.5))
    return path


def found(wanted: Wanted) -> Source:
    told: list[str] = []
    source = read(wanted, lambda event, fields: told.append(event))
    assert told == []
    return source


def test_the_newest_the_best_or_the_one_that_is_named(run: Path) -> None:
    newest = run / "checkpoints" / "checkpoint-000000000008.safetensors"
    assert (found(Wanted(run)).version, found(Wanted(run)).path) == (8, newest)
    assert found(Wanted(run, best=True)).version == 5
    assert found(Wanted(run / "checkpoints" / "best.safetensors")).version == 5
    older = found(Wanted(run / "checkpoints" / "checkpoint-000000000003.safetensors"))
    assert (older.version, older.run, older.layout) == (3, "test-7", LAYOUT)
    np.testing.assert_array_equal(older.arrays["theta"], np.full(10, 3.0))
    assert found(Wanted(run, optimizer=True)).optimizer == "preconditioned"


def test_a_damaged_one_is_passed_over_and_told(run: Path) -> None:
    newest = run / "checkpoints" / "checkpoint-000000000008.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    told: list[tuple[str, object]] = []
    source = read(Wanted(run), lambda event, fields: told.append((event, fields["path"])))
    assert source.version == 3
    assert told == [("checkpoint_refused", str(newest))]
    with pytest.raises(CheckpointFault):
        read(Wanted(newest), lambda event, fields: None)


def test_a_copy_has_its_manifest_beside_it_or_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "away" / "deep" / "weights.safetensors"
    copy.parent.mkdir(parents=True)
    shutil.copy(run / "checkpoints" / "best.safetensors", copy)
    with pytest.raises(
        InitialError, match=r"a checkpoint does not say what its layers are called; manifest\.json of its"
    ):
        found(Wanted(copy))
    shutil.copy(run / "manifest.json", copy.parent)
    assert found(Wanted(copy)).version == 5


def test_weights_that_had_diverged_are_refused(run: Path) -> None:
    digest = digest_of((run / "manifest.json").read_bytes()).hex()
    theta = np.full(LAYOUT.length, np.nan, np.float32)
    save(run / "checkpoints", Checkpoint(digest, 9, 1, {}, {"theta": theta}), keep=5)
    with pytest.raises(InitialError, match="its parameters are not all finite"):
        found(Wanted(run))


def test_another_run_s_manifest_is_not_believed(run: Path) -> None:
    (run / "manifest.json").write_bytes(manifests.encode(manifest(seed=1)))
    with pytest.raises(CheckpointFault, match="it belongs to another run than"):
        found(Wanted(run))


def test_what_is_no_run_or_has_learnt_nothing(run: Path, tmp_path: Path) -> None:
    for wanted, words in (
        (Wanted(tmp_path / "absent"), "No such file or directory"),
        (Wanted(tmp_path), r"this is no run's directory: it has no manifest\.json$"),
        (Wanted(run / "checkpoints"), rf"it has no manifest\.json; {run} is one"),
        (Wanted(run / "checkpoints" / "best.safetensors", best=True), "--initial-best is of a run's directory"),
        (Wanted(run_dir(tmp_path / "young")), "it has no checkpoint yet"),
        (Wanted(run_dir(tmp_path / "unseen"), best=True), "nobody has evaluated the run"),
    ):
        with pytest.raises(UserError, match=words):
            found(wanted)


def test_weights_are_told_from_what_actor_init_wrote(run: Path, tmp_path: Path) -> None:
    theta, newest = written(tmp_path), run / "checkpoints" / "checkpoint-000000000008.safetensors"
    assert sort([]) == (None, None)
    assert sort([theta]) == (theta, None)
    assert sort([run, theta], only=["w"], optimizer=True) == (theta, Wanted(run, only=("w",), optimizer=True))
    assert sort([newest], leave=["b"]) == (None, Wanted(newest, leave=("b",)))
    newest.write_bytes(b"torn")
    assert sort([newest]) == (None, Wanted(newest))
    assert sort([tmp_path / "absent"]) == (tmp_path / "absent", None)  # what is wrong with it is told when it is read


@pytest.mark.parametrize("flag", ["best", "only", "leave", "optimizer"])
def test_flags_need_another_run(tmp_path: Path, flag: str) -> None:
    with pytest.raises(UserError, match="is of the weights of another run: name it with --initial"):
        sort([written(tmp_path)], **{flag: ["w"]})  # type: ignore[arg-type]


def test_one_of_each_is_enough(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="are two runs to begin with; one is enough"):
        sort([run, run / "checkpoints" / "best.safetensors"])
    with pytest.raises(UserError, match="are two files of `actor init`; one is enough"):
        sort([written(tmp_path), tmp_path / "absent"])


def test_a_run_that_goes_on_knows_what_it_began_with_by_name(run: Path) -> None:
    gone = Path("/runs/old")
    assert sort([gone], begun=run) == (gone, None)
    (run / "manifest.json").write_bytes(manifests.encode(manifest(initial=ORIGIN)))
    assert sort([gone], leave=["head.*"], begun=run) == (None, Wanted(gone, leave=("head.*",)))
    assert is_same(ORIGIN, Wanted(gone, leave=("head.*",)))
    assert is_same(ORIGIN, again(ORIGIN))
    assert not is_same(ORIGIN, Wanted(gone))
    assert not is_same(ORIGIN, Wanted(Path("/runs/older"), leave=("head.*",)))
