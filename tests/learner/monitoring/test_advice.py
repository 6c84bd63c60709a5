"""What is said of a run that will not learn, once, and of one that does nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learner.config import experiment
from learner.monitoring.advice import FLAT_STEPS, LASTING, SAMPLE_STEPS, WAITING_STEPS, Adviser
from learner.progress import WINDOW, Progress
from protocol.messages import Episode, Losses, Report
from protocol.moments import Moments

SOUND = Losses(entropy=0.5, value=0.5, gradient_norm=1.0)
LENGTH = 100


def adviser(**tables: Any) -> Adviser:
    return Adviser(experiment({"run": {}, "learner": {}, "actor": {}, **tables}))


def told(
    found: Adviser, looks: int, losses: Losses = SOUND, score: float = 1.0, rise: float = 1.0, moments: Any = None
) -> list[str]:
    """Kinds that were said, of a run of so many looks whose episodes all have one score, which rises with each."""
    progress, kinds = Progress(), list[str]()
    for number in range(looks):
        episode = Episode(score + rise * number, LENGTH)
        progress.record(Report(SAMPLE_STEPS, (episode,) * WINDOW, losses))
        kinds += [advice.kind for advice in found.look(progress, moments)]
    assert kinds == [advice.kind for advice in found.given]
    return kinds


def test_nothing_is_said_of_a_run_that_learns() -> None:
    assert told(adviser(), 4 * LASTING) == []


@pytest.mark.parametrize(
    ("losses", "score", "rise", "kind"),
    [
        (Losses(entropy=0.001, value=0.5, gradient_norm=1.0), 1.0, -1.0, "entropy_gone"),
        (Losses(entropy=-3.0, value=0.5, gradient_norm=1.0), 1.0, -1.0, "entropy_gone"),
        (Losses(entropy=0.5, value=5e6, gradient_norm=1.0), 1.0, 1.0, "values_not_fitted"),
        (Losses(entropy=0.5, value=5e15, gradient_norm=1.0), -1e6 * LENGTH, 1e6, "rewards_large"),
        (Losses(entropy=0.5, value=0.5, gradient_norm=5e4), 1.0, 1.0, "gradients_clipped_away"),
    ],
)
def test_what_lasts_is_said_once(losses: Losses, score: float, rise: float, kind: str) -> None:
    assert told(adviser(), LASTING - 1, losses, score, rise) == []
    assert told(adviser(), 4 * LASTING, losses, score, rise) == [kind]


def test_a_return_that_never_moved() -> None:
    looks = FLAT_STEPS // SAMPLE_STEPS + 1
    assert told(adviser(), looks - 1, score=-200.0, rise=0.0) == []
    found = adviser()
    assert told(found, 2 * looks, score=-200.0, rise=0.0) == ["return_flat"]
    assert found.given[0].setting == "actor.novelty_weight"
    assert "50,000 steps" in found.given[0].text
    assert "at -200:" in found.given[0].text
    another_life = Adviser(experiment({"run": {}, "learner": {}, "actor": {}}), begun=True)
    assert told(another_life, 2 * looks, score=500.0, rise=0.0) == [], "it may be at its best"


def test_where_no_episode_ends_that_is_said() -> None:
    found, progress = adviser(), Progress()
    progress.record(Report(WAITING_STEPS - 1, (), SOUND))
    assert found.look(progress, None) == []
    progress.record(Report(1, (), SOUND))
    assert [each.kind for each in found.look(progress, None)] == ["no_episode_ended"]
    assert found.look(progress, None) == []


def test_a_rate_that_is_gone_while_the_run_goes_on() -> None:
    annealed = {"anneal": "linear", "anneal_steps": 20_000, "anneal_floor": 0.05}
    assert told(adviser(learner=annealed), 10) == []
    assert told(adviser(learner=annealed), 11) == ["rate_annealed"]
    assert told(adviser(learner=annealed, run={"until_steps": 22_000}), 11) == [], "it ends here"
    assert told(adviser(learner=annealed | {"anneal_floor": 0.3}), 20) == [], "a third still learns"


def test_observations_that_never_changed() -> None:
    blind = Moments(FLAT_STEPS, np.array([1.0, 2.0, 5.0]), np.zeros(3))
    assert told(adviser(), 2, moments=blind) == ["observations_constant"]
    assert [each.kind for each in adviser().look(Progress(), blind)] == ["observations_constant"], "no episode ended"
    for moving in range(3):
        sees = Moments(FLAT_STEPS, blind.mean, np.eye(3)[moving])
        assert told(adviser(), 2, moments=sees) == []


def test_a_run_that_is_first_looked_at_late_has_not_stood_still() -> None:
    """Episodes of a thousand steps, or another life of the learner: what was before is not known."""
    found, progress = adviser(), Progress(env_steps=10 * FLAT_STEPS)
    for number in range(LASTING):
        progress.record(Report(SAMPLE_STEPS, (Episode(100.0 + 5 * number, LENGTH),) * WINDOW, SOUND))
        assert found.look(progress, None) == []


def test_an_error_that_is_small_beside_returns_is_none() -> None:
    assert told(adviser(), 2 * LASTING, Losses(entropy=0.5, value=1e6, gradient_norm=1.0), 1e5, 1e4) == []


def test_who_has_no_policy_to_speak_of_is_not_told_of_its_entropy() -> None:
    assert told(adviser(), 2 * LASTING, Losses(entropy=0.0, value=0.5, gradient_norm=1.0), 1.0, -1.0) == []


def test_a_run_at_its_target_is_left_in_peace() -> None:
    assert told(adviser(run={"until_return": 0.5}), 4 * LASTING, Losses(entropy=0.0, value=1e9)) == []


def test_without_a_window_of_episodes_nothing_is_known() -> None:
    found, progress = adviser(), Progress()
    progress.record(Report(10**6, (Episode(1.0, LENGTH),) * (WINDOW - 1), Losses()))
    assert found.look(progress, None) == []
