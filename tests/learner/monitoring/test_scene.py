"""What the live view is drawn from, read from books that tests wrote."""

from __future__ import annotations

from learner.monitoring.bottleneck import Cause
from learner.monitoring.scene import Place, scene_of
from learner.monitoring.status import Sampler, status
from learner.monitoring.summary import summarize
from tests.learner.books import join, learner_state, trained


def test_a_scene_says_what_the_page_says() -> None:
    state, sampler = learner_state(trained([10.0, 20.0])), Sampler()
    join(state, "local-0", 3.0)
    join(state, "judge", 3.0, role="evaluate")
    state.training_since = 0.5
    for quarter in range(12):
        sampler.sample(state, 1.0 + quarter / 4)
    place = Place("runs/one", "http://127.0.0.1:9400", ("tcp://0.0.0.0:5555",))
    scene, page = scene_of(state, summarize(state, 4.0), sampler, place), status(state, 4.0, sampler)
    assert (scene.env, scene.seed, scene.epoch, scene.solved) == (page["env"], page["seed"], page["epoch"], False)
    assert (scene.limit.cause.value, scene.limit.text) == (page["limit"]["cause"], page["limit"]["text"])
    assert scene.states == {"training": 1, "evaluating": 1}
    assert scene.place == place
    assert [point.return_mean for point in scene.points] == [15.0] * 11


def test_a_scene_does_not_change_with_the_run() -> None:
    state, sampler = learner_state(trained([10.0])), Sampler()
    state.training_since = 0.0
    sampler.sample(state, 1.0)
    scene = scene_of(state, summarize(state, 1.0), sampler, Place())
    sampler.sample(state, 2.0)
    assert scene.points == []
    assert scene.limit.cause is Cause.NO_ACTORS
