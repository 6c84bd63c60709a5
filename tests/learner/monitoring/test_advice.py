"""What is said of a run that will not learn, once, and of one that does nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learner.config import experiment
from learner.monitoring.advice import FLAT_STEPS, LASTING, SAMPLE_STEPS, Adviser
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
    ("losses", "score", "kind"),
    [
        (Losses(entropy=0.001, value=0.5, gradient_norm=1.0), 1.0, "entropy_gone"),
        (Losses(entropy=0.5, value=5e6, gradient_norm=1.0), 1.0, "values_not_fitted"),
        (Losses(entropy=0.5, value=5e9, gradient_norm=1.0), -1e6 * LENGTH, "rewards_large"),
        (Losses(entropy=0.5, value=0.5, gradient_norm=5e4), 1.0, "gradients_clipped_away"),
    ],
)
def test_what_lasts_is_said_once(losses: Losses, score: float, kind: str) -> None:
    rise = max(1.0, abs(score) / 100)
    assert told(adviser(), LASTING - 1, losses, score, rise) == []
    assert told(adviser(), 4 * LASTING, losses, score, rise) == [kind]


def test_a_return_that_never_moved() -> None:
    looks = FLAT_STEPS // SAMPLE_STEPS
    assert told(adviser(), looks - 1, score=-200.0, rise=0.0) == []
    found = adviser()
    assert told(found, 2 * looks, score=-200.0, rise=0.0) == ["return_flat"]
    assert found.given[0].setting == "actor.entropy_weight"
    assert "50,000 steps" in found.given[0].text
    assert "-200 to -200" in found.given[0].text


def test_a_rate_that_is_gone_while_the_run_goes_on() -> None:
    annealed = {"anneal": "linear", "anneal_steps": 20_000, "anneal_floor": 0.05}
    assert told(adviser(learner=annealed), 10) == []
    assert told(adviser(learner=annealed), 11) == ["rate_annealed"]
    assert told(adviser(learner=annealed, run={"until_steps": 22_000}), 11) == [], "it ends here"
    assert told(adviser(learner=annealed | {"anneal_floor": 0.3}), 20) == [], "a third still learns"


def test_observations_that_never_changed() -> None:
    blind = Moments(FLAT_STEPS, np.array([1.0, 2.0, 5.0]), np.array([0.0, 0.0, 9.0]))
    assert told(adviser(), 2, moments=blind) == ["observations_constant"]
    sees = Moments(FLAT_STEPS, blind.mean, np.array([0.0, 1.0, 9.0]))
    assert told(adviser(), 2, moments=sees) == []


def test_a_run_at_its_target_is_left_in_peace() -> None:
    assert told(adviser(run={"until_return": 0.5}), 4 * LASTING, Losses(entropy=0.0, value=1e9)) == []


def test_without_a_window_of_episodes_nothing_is_known() -> None:
    found, progress = adviser(), Progress()
    progress.record(Report(10**6, (Episode(1.0, LENGTH),) * (WINDOW - 1), Losses()))
    assert found.look(progress, None) == []
