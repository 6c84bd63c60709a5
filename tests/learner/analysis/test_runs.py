"""Run directories that are looked back at: whole, going on, killed, resumed, broken; and which belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from learner.analysis.runs import UnreadableRun, grouped, load
from tests.learner.courses import life, moment, run_dir, text


def test_a_finished_run_needs_no_remark(tmp_path: Path) -> None:
    run = load(run_dir(tmp_path / "a", seed=3))
    assert (run.env, run.seed, run.target, run.created) == ("CartPole-v1", 3, 55.0, "2023-11-14T22:13:20Z")
    assert run.result == {"epoch": 1}
    assert run.remarks == []


def test_a_run_without_a_result_goes_on_or_was_killed(tmp_path: Path) -> None:
    path = run_dir(tmp_path / "a")
    (path / "result.json").unlink()
    assert load(path).result is None
    assert "has not ended" in load(path).remarks[0]


def test_a_result_of_an_earlier_life_is_not_of_this_one(tmp_path: Path) -> None:
    again = text(*life(), {"event": "started", "wall_s": 0.0}, moment(1, env_steps=9000))
    run = load(run_dir(tmp_path / "a", epoch=2, recorded=again))
    assert run.result is None
    assert [remark.split(":")[0] for remark in run.remarks[1:]] == ["2 lives"]


def test_torn_lines_and_short_windows_are_told(tmp_path: Path) -> None:
    run = load(run_dir(tmp_path / "a", recorded=text(moment(0)) + b"{\n" + text(moment(1))))
    assert "1 torn lines" in run.remarks[0]
    assert "fewer than 100 episodes" in run.remarks[1]


def test_a_manifest_is_not_needed(tmp_path: Path) -> None:
    path = run_dir(tmp_path / "a")
    (path / "manifest.json").write_text("{")
    assert (load(path).env, load(path).created) == ("CartPole-v1", None)


@pytest.mark.parametrize(
    ("name", "words"),
    [("experiment.toml", "it has no experiment.toml; is it a run"), ("progress.jsonl", "it has no progress.jsonl")],
)
def test_what_is_missing_is_named(tmp_path: Path, name: str, words: str) -> None:
    path = run_dir(tmp_path / "a")
    (path / name).unlink()
    with pytest.raises(UnreadableRun, match=words):
        load(path)


def test_a_directory_must_be_there_and_its_experiment_be_toml(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRun, match="no such directory"):
        load(tmp_path / "nowhere")
    path = run_dir(tmp_path / "a")
    (path / "experiment.toml").write_text("[run\n")
    with pytest.raises(UnreadableRun, match=r"experiment\.toml: "):
        load(path)
    (path / "experiment.toml").unlink()
    (path / "experiment.toml").mkdir()
    with pytest.raises(UnreadableRun, match=r"experiment\.toml: Is a directory"):
        load(path)


def test_seeds_of_one_experiment_are_one_group(tmp_path: Path) -> None:
    runs = [load(run_dir(tmp_path / f"{seed}", seed)) for seed in range(3)]
    (group,) = grouped(runs)
    assert (group.label, len(group.runs)) == ("CartPole-v1", 3)


def test_groups_are_named_after_what_tells_them_apart(tmp_path: Path) -> None:
    paths = [
        run_dir(tmp_path / "a", 0),
        run_dir(tmp_path / "b", 1, density=0.01),
        run_dir(tmp_path / "c", 2),
        run_dir(tmp_path / "d", 3, density=0.01, envs=4),
    ]
    groups = grouped([load(path) for path in paths])
    assert [len(group.runs) for group in groups] == [2, 1, 1]
    assert groups[1].label == "actor.density=0.01, actor.envs unset"
    assert groups[0].label == "defaults"


def test_a_long_value_is_cut_and_one_with_commas_is_one(tmp_path: Path) -> None:
    paths = [run_dir(tmp_path / "a", hidden=[64, 64, 32]), run_dir(tmp_path / "b", network="m" * 50)]
    labels = [group.label for group in grouped([load(path) for path in paths])]
    assert labels == [
        "actor.hidden=[64, 64, 32], actor.network unset",
        f"actor.network={'m' * 21}..., actor.hidden unset",
    ]


def test_what_an_earlier_version_did_not_have_tells_nothing_apart(tmp_path: Path) -> None:
    """Its file lacks settings that are new; neither these at their defaults nor empty ones are a difference."""
    paths = [run_dir(tmp_path / "a"), run_dir(tmp_path / "b", 1), run_dir(tmp_path / "c", 2)]
    for old in paths[1:]:
        lines = (old / "experiment.toml").read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("on_event", "norm_factor", "most_credit"))]
        (old / "experiment.toml").write_text("\n".join(kept))
    with (paths[2] / "experiment.toml").open("a") as file:
        file.write("\n[learner.of_another_version]\n")
    groups = grouped([load(path) for path in paths])
    assert [len(group.runs) for group in groups] == [2, 1]
    assert load(paths[0]).experiment["learner"].get("on_event") is None
