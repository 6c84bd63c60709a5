"""Actors come where the learner is starved and go where it is not; the rule in use is the one that is shipped.

A model of a learner, the rule in Python, Kubernetes' algorithm with the behaviour that the manifests ask for. Then
promtool evaluates deploy/prometheus/autoscaling.rules.yml over the very same series and must find the same numbers at
every step, so what is shown of the one is shown of the other.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.autoscaler import ACTORS, HERE, NAMES, STEP_S, USEFUL, WAIT, WORK, Autoscaler, Plant, Rule, Series

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/autoscaling.rules.yml"
COMPONENTS = ROOT / "deploy/kubernetes/components"
RECORDED: dict[str, dict[str, list[float]]] = json.loads(Path(__file__).with_name("recorded.json").read_text())

MINUTE = 60 // STEP_S
Weather = Callable[[Plant, int], dict[str, bool]]  # what happens before a step, by its number


def hpa() -> dict[str, Any]:
    return dict(yaml.safe_load((COMPONENTS / "hpa/hpa.yaml").read_text())["spec"])


def still(_: Plant, __: int) -> dict[str, bool]:
    return {}


def play(plant: Plant, begin: int, minutes: int, weather: Weather = still) -> list[int]:
    """Replicas after each step, from ``begin`` of them that train already."""
    spec, rule = hpa(), Rule()
    scaler = Autoscaler(spec["behavior"], spec["minReplicas"], spec["maxReplicas"], begin)
    plant.scale(begin, 0, startup_s=0)
    path = []
    for step in range(minutes * MINUTE):
        plant.step(step * STEP_S, **weather(plant, step))
        scaler.look(rule.wanted(plant.series, step), step * STEP_S)
        plant.scale(scaler.replicas, step * STEP_S)
        path.append(scaler.replicas)
    return path


def changes(path: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(path) if after != before]


@pytest.mark.parametrize("seed", range(5))
def test_a_starved_learner_gets_actors_until_it_is_busy_and_no_more(seed: int) -> None:
    plant = Plant(share=0.035, seed=seed)  # 20 actors make 0.7
    path = play(plant, 2, 30)
    assert min(changes(path)) > 0, "it never went back"
    assert 17 <= path[-1] <= 24
    assert path[15 * MINUTE] == path[-1], "it was there within a quarter of an hour"


@pytest.mark.parametrize("seed", range(5))
def test_an_overloaded_learner_is_relieved_in_steps(seed: int) -> None:
    path = play(Plant(share=0.035, seed=seed, lag_each=0.1), 60, 45)
    assert max(changes(path)) < 0, "it never went back"
    assert path[: 4 * MINUTE] == [60] * 4 * MINUTE, "not for a moment's load"
    assert 17 <= path[-1] <= 24
    first = min(changes(path))
    assert first >= -15, "a quarter at most"


@pytest.mark.parametrize("seed", range(5))
def test_late_gradients_are_a_load_of_their_own(seed: int) -> None:
    """An idle learner that hears a hundred actors hears them all too late."""
    path = play(Plant(share=0.002, seed=seed, lag_each=1.0), 2, 60)
    assert 20 <= path[-1] <= 29
    assert min(changes(path)) > 0


@pytest.mark.parametrize("share", [0.033, 0.035, 0.038])
@pytest.mark.parametrize("seed", range(3))
def test_noise_moves_nobody(seed: int, share: float) -> None:
    """For four hours, where each scrape's load is up to 20 % off."""
    assert changes(play(Plant(share=share, seed=seed, noise=0.2), 20, 240)) == []


@pytest.mark.parametrize("share", [0.0298, 0.042])
@pytest.mark.parametrize("seed", range(3))
def test_noise_at_the_edge_of_the_band_moves_once_to_its_middle(seed: int, share: float) -> None:
    moved = changes(play(Plant(share=share, seed=seed, noise=0.3), 20, 240))
    assert all(by > 0 for by in moved) or all(by < 0 for by in moved), "back and forth"
    assert abs(sum(moved)) <= 5


def test_a_load_that_changes_is_followed() -> None:
    """A lighter task in the middle: more actors; then a heavier one: fewer. Never a step back on the way."""

    def weather(plant: Plant, step: int) -> dict[str, bool]:
        plant.share = {0: 0.035, 1: 0.02, 2: 0.05}[step // (60 * MINUTE)]
        return {}

    path = play(Plant(share=0.035, seed=1), 20, 180, weather)
    assert path[59 * MINUTE] == 20
    assert 29 <= path[119 * MINUTE] <= 41
    assert 12 <= path[-1] <= 17
    hours = [changes(path[hour * 60 * MINUTE : (hour + 1) * 60 * MINUTE]) for hour in range(3)]
    assert hours[0] == []
    assert min(hours[1]) > 0 > max(hours[2])


@pytest.mark.parametrize("begin", [2, 20, 60])
def test_nobody_goes_where_there_are_no_metrics(begin: int) -> None:
    """For an hour, in the middle of any change."""

    def weather(plant: Plant, step: int) -> dict[str, bool]:
        return {"scraped": not 3 * MINUTE <= step < 63 * MINUTE}

    plant = Plant(share=0.035, seed=2)
    path = play(plant, begin, 63, weather)
    assert len(set(path[3 * MINUTE :])) == 1


def test_nobody_goes_while_the_learner_is_restarted_or_cut_off() -> None:
    """Its counters begin anew, and for twenty minutes nobody reaches it: it looks idle and alone."""

    def weather(plant: Plant, step: int) -> dict[str, bool]:
        if step == 10 * MINUTE:
            plant.restart()
        return {"cut_off": 10 * MINUTE <= step < 30 * MINUTE}

    path = play(Plant(share=0.035, seed=3), 20, 60, weather)
    assert min(path) == 20
    assert max(path) <= 24


def test_actors_elsewhere_are_not_asked_for_here() -> None:
    """A hundred dial in from outside and keep it half busy: the cluster adds what is missing, and not a hundred."""
    series: Series = {name: [] for name in NAMES}
    plant = Plant(share=0.0035, seed=4, noise=0.0, lag_each=0.0)
    plant.scale(104, 0, startup_s=0)
    for step in range(10):
        plant.step(step * STEP_S)
    series = plant.series
    series[HERE] = [4.0] * 10
    assert series[ACTORS][-1] == 104
    assert Rule().wanted(series, 9) == 200 - 100
    plant.share = 0.01
    for step in range(10, 30):
        plant.step(step * STEP_S)
    series[HERE] = [4.0] * 30
    assert Rule().wanted(series, 29) == 1, "overloaded, and those elsewhere are not ours to send away"


def test_more_actors_are_no_help_to_those_that_wait() -> None:
    plant = Plant(share=0.01, seed=5, noise=0.0)
    plant.scale(10, 0, startup_s=0)
    for step in range(10):
        plant.step(step * STEP_S)
    assert Rule().wanted(plant.series, 9) == 20
    plant.series[WAIT], plant.series[WORK] = plant.series[WORK], plant.series[WAIT]
    assert Rule().wanted(plant.series, 9) == 10


@pytest.mark.parametrize("seed", range(5))
def test_no_more_are_asked_for_than_learning_gains_by(seed: int) -> None:
    """An idle learner that could serve twenty, and learning that twelve actors are useful to."""
    path = play(Plant(share=0.035, seed=seed, useful=12.0), 2, 60)
    assert 11 <= path[-1] <= 13
    assert min(changes(path)) > 0, "it never went back"


@pytest.mark.parametrize(("useful", "ends"), [(12.0, range(11, 14)), (18.0, range(20, 21))])
def test_who_adds_next_to_nothing_goes_and_a_few_too_many_stay(useful: float, ends: range) -> None:
    path = play(Plant(share=0.035, seed=1, noise=0.2, useful=useful), 20, 240)
    assert path[-1] in ends
    assert max(changes(path), default=-1) < 0, "it never went back"


def test_those_elsewhere_count_among_the_useful() -> None:
    plant = Plant(share=0.0035, seed=4, noise=0.0, lag_each=0.0, useful=110.0)
    plant.scale(104, 0, startup_s=0)
    for step in range(10):
        plant.step(step * STEP_S)
    plant.series[HERE] = [4.0] * 10
    assert Rule().wanted(plant.series, 9) == 110 - 100
    plant.series[USEFUL] = [50.0] * 10
    assert Rule().wanted(plant.series, 9) == 1, "none is needed here, and one is kept"


def test_both_autoscalers_behave_alike() -> None:
    scaled = yaml.safe_load((COMPONENTS / "keda/scaledobject.yaml").read_text())["spec"]
    asked, (trigger,) = hpa(), scaled["triggers"]
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == asked["behavior"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (asked["minReplicas"], asked["maxReplicas"])
    (metric,) = asked["metrics"]
    assert metric["external"]["target"] == {"type": trigger["metricType"], "averageValue": "1"}
    assert trigger["metadata"]["threshold"] == "1"
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert "fallback" not in scaled


# The shipped rule


def recorded(name: str, actors_here: float) -> Series:
    """A real learner's series; its light actors tell nothing of how they spend their time."""
    found: Series = {other: list(values) for other, values in RECORDED[name].items()}
    samples = len(found[ACTORS])
    return {
        **found,
        HERE: [actors_here] * samples,
        WAIT: [None] * samples,
        WORK: [None] * samples,
        USEFUL: [None] * samples,
    }


@pytest.mark.parametrize(
    ("name", "here", "verdict"), [("starved", 1, 2), ("saturated", 16, None), ("saturated_small", 16, None)]
)
def test_real_learners_are_judged_rightly(name: str, here: int, verdict: int | None) -> None:
    """One that heard five gradients a second, and two that were sent more than they could apply."""
    series = recorded(name, here)
    wanted = Rule().wanted(series, len(series[ACTORS]) - 1)
    assert wanted is not None
    assert wanted == verdict if verdict else wanted <= here - 2


def left_open() -> bool:
    """Whether this promtool is Prometheus 3's; skips where there is none."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    told = subprocess.run(["promtool", "--version"], capture_output=True, text=True, check=True)
    version = (told.stdout + told.stderr).split("version ")[1]
    return int(version.split(".")[0]) >= 3


def labels(name: str) -> list[str]:
    """The series as Prometheus sees it; some stand for several."""
    if name in (WAIT, WORK):
        part = "wait" if name == WAIT else "learn"
        return [f'farflung_learner_actor_seconds_total{{job="farflung-learner",namespace="farflung",part="{part}"}}']
    return [f'{name}{{job="farflung-learner",namespace="farflung"}}']


def inputs(series: Series) -> list[dict[str, str]]:
    """promtool's input_series; ``up`` has one series for each pod."""
    found = []
    for name, values in series.items():
        if name == HERE:
            pods = int(max(value or 0 for value in values))
            for pod in range(pods):
                told = " ".join("1" if value is not None and pod < value else "stale" for value in values)
                found.append({"series": f'up{{job="farflung-actor",namespace="farflung",pod="{pod}"}}', "values": told})
            continue
        told = " ".join("stale" if value is None else repr(value) for value in values)
        found += [{"series": label, "values": told} for label in labels(name)]
    return found


def agree(series: Series, folder: Path, *, namespace: bool = True) -> None:
    """The shipped rule, evaluated by Prometheus' own engine, gives what ``Rule`` gives, at each step.

    namespace: whether its series have such a label, as all in a cluster do.
    """
    rule = Rule(left_open())
    expected = []
    for step in range(2, len(series[ACTORS])):
        wanted = rule.wanted(series, step)
        one = {"labels": 'farflung:actors_wanted{namespace="farflung"}', "value": wanted}
        expected.append(
            {
                "expr": "farflung:actors_wanted",
                "eval_time": f"{step * STEP_S}s",
                "exp_samples": [] if wanted is None else [one],
            }
        )
    assert {wanted["exp_samples"] != [] for wanted in expected}, "nothing was compared"
    case = {"interval": f"{STEP_S}s", "input_series": inputs(series), "promql_expr_test": expected}
    test = {"rule_files": [str(RULES)], "evaluation_interval": f"{STEP_S}s", "tests": [case]}
    path = folder / "test.yml"
    text = json.dumps(test)
    if not namespace:
        text = text.replace(',namespace=\\"farflung\\"', "").replace('{namespace=\\"farflung\\"}', "{}")
        assert "namespace" not in text
    path.write_text(text)
    said = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, (said.stdout + said.stderr)[-4000:]


@pytest.mark.parametrize(("share", "begin"), [(0.035, 2), (0.035, 60), (0.035, 20)], ids=["out", "in", "still"])
def test_the_shipped_rule_decides_as_its_model_does(share: float, begin: int, tmp_path: Path) -> None:
    plant = Plant(share=share, seed=7)
    play(plant, begin, 30)
    agree(plant.series, tmp_path)


@pytest.mark.parametrize(("useful", "begin"), [(12.0, 2), (12.0, 20), (18.0, 20), (40.0, 2)])
def test_the_shipped_rule_heeds_what_is_useful_as_its_model_does(useful: float, begin: int, tmp_path: Path) -> None:
    plant = Plant(share=0.035, seed=10)

    def weather(plant: Plant, step: int) -> dict[str, bool]:
        plant.useful = None if step < 4 * MINUTE or step >= 25 * MINUTE else useful
        return {}

    play(plant, begin, 40, weather)
    agree(plant.series, tmp_path)


def test_the_shipped_rule_decides_so_through_a_restart_and_a_cut(tmp_path: Path) -> None:
    def weather(plant: Plant, step: int) -> dict[str, bool]:
        if step == 10 * MINUTE:
            plant.restart()
        return {"cut_off": 10 * MINUTE <= step < 15 * MINUTE}

    plant = Plant(share=0.035, seed=8)
    play(plant, 20, 20, weather)
    agree(plant.series, tmp_path)


def test_the_shipped_rule_does_without_namespaces(tmp_path: Path) -> None:
    """One machine, one run."""
    plant = Plant(share=0.035, seed=9)
    play(plant, 2, 15)
    agree(plant.series, tmp_path, namespace=False)


@pytest.mark.parametrize("name", list(RECORDED))
def test_the_shipped_rule_judges_real_learners_so(name: str, tmp_path: Path) -> None:
    agree(recorded(name, 16), tmp_path)
