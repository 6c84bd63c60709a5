"""MLflow: what it is called with, and where it is installed, that a file store holds it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from learner.monitoring.sinks import mlflow as module
from learner.monitoring.sinks.charts import Points
from learner.monitoring.sinks.mlflow import PARAMETERS, LeftOut, MlflowSink
from learner.monitoring.sinks.sink import SinkFollower
from tests.learner.courses import BEGAN_UNIX_S, moment
from tests.learner.monitoring.sinks.fakes import RESULT, STARTED, Recorder, fake_mlflow, follow


@pytest.fixture(autouse=True)
def _answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server has to be there."""
    monkeypatch.setattr(module, "require_reachable", lambda url: None)


def test_it_is_called_as_its_documents_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    client = fake_mlflow(monkeypatch)
    follow(MlflowSink("http://tracking"))
    assert client.named("create_experiment") == [(("farflung",), {})]
    ((run, options),) = client.named("create_run")
    assert (run, options["run_name"]) == (("e1",), "test-7")
    (_, told), *metrics = client.named("log_batch")
    settings = {"run.seed": "7", "actor.env": "CartPole-v1", "actor.env_options.a b_": "1"}
    assert dict(told["params"]) == settings
    assert ("metrics/success", 0.25, int(1e3 * (BEGAN_UNIX_S + 2)), 2000) in metrics[0][1]["metrics"]
    assert ((("r1", "farflung.solved", "True"), {})) in client.named("set_tag")
    assert client.named("set_terminated") == [(("r1", "FINISHED"), {})]


def test_names_that_it_does_not_take_are_made_plain_and_settings_come_in_its_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = fake_mlflow(monkeypatch)
    many = {"actor": {f"s{number}": number for number in range(PARAMETERS + 1)}}
    follower = SinkFollower(MlflowSink("http://tracking"), many, lambda: 0.0)
    for line in (STARTED, moment(1, metrics={"50 % [km]": 1.0}), RESULT | {"exit_code": 1}):
        follower(line)
    batches = [options for _, options in client.named("log_batch")]
    assert [len(batch["params"]) for batch in batches[:2]] == [PARAMETERS, 1]
    assert "metrics/50 _ _km_" in {metric[0] for metric in batches[2]["metrics"]}
    assert client.named("set_terminated") == [(("r1", "FAILED"), {})]


def scalars(sink: MlflowSink, **metrics: float) -> None:
    sink.scalars(Points(1000, 5.0, {f"metrics/{name}": value for name, value in metrics.items()}))


def names_of(client: Recorder) -> list[list[str]]:
    """Of metrics, in each request."""
    told = [options["metrics"] for _, options in client.named("log_batch") if "metrics" in options]
    return [[metric[0] for metric in metrics] for metrics in told]


STRANGERS = {"success/": 1.0, "a//b": 2.0, "../x": 3.0, ".": 4.0, "..": 5.0, "a": 6.0, "a/b": 7.0, "x" * 250: 8.0}


def test_every_name_of_a_metric_has_one_of_its_own_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    client = fake_mlflow(monkeypatch)
    sink = MlflowSink("http://tracking")
    sink.start("r", {}, 0)
    scalars(sink, **STRANGERS)
    scalars(sink, **{"a!": 1.0, "a?": 2.0, "a_": 3.0})
    scalars(sink, **{"a?": 1.0})
    first, *rest = names_of(client)
    assert [name.removeprefix("metrics/") for name in first[:-1]] == [
        *("success_", "a__b", ".._x", "_", "__", "a", "a_b"),
    ]
    assert all(len(name) <= 250 for name in first)
    assert rest == [["metrics/a_", "metrics/a_ 2", "metrics/a_ 3"], ["metrics/a_ 2"]]


def test_settings_have_names_of_their_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    client = fake_mlflow(monkeypatch)
    MlflowSink("http://tracking").start("r", {"actor": {"env_options": {"a!": 1, "a?": 2, "b/": 3}}}, 0)
    ((_, told),) = client.named("log_batch")
    assert [name for name, _ in told["params"]] == [
        *("actor.env_options.a_", "actor.env_options.a_ 2", "actor.env_options.b_"),
    ]


class Refused(Exception):
    error_code = "INVALID_PARAMETER_VALUE"


def test_a_metric_that_is_refused_does_not_cost_the_others_and_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = fake_mlflow(monkeypatch)
    taken: list[list[str]] = []

    def log_batch(run: str, metrics: Sequence[tuple[str, float, int, int]] = (), params: object = ()) -> None:
        if any(metric[0] == "metrics/bad" for metric in metrics):
            raise Refused("no such thing")
        taken.append([metric[0] for metric in metrics])

    client.log_batch = log_batch  # type: ignore[attr-defined]
    sink = MlflowSink("http://tracking")
    sink.start("r", {}, 0)
    taken.clear()
    with pytest.raises(LeftOut, match="does not take metrics/bad, which is left out: no such thing"):
        scalars(sink, good=1.0, bad=2.0, better=3.0)
    assert taken == [["metrics/good"], ["metrics/better"]]
    scalars(sink, good=1.0, bad=2.0, better=3.0)
    assert taken[2:] == [["metrics/good", "metrics/better"]]


def test_what_fails_otherwise_is_not_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    client = fake_mlflow(monkeypatch)
    sink = MlflowSink("http://tracking")
    sink.start("r", {}, 0)
    calls: list[object] = []

    def log_batch(*_: object, **__: object) -> None:
        calls.append(1)
        raise ConnectionError("gone")

    client.log_batch = log_batch  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError):
        scalars(sink, good=1.0, better=3.0)
    assert calls == [1]


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_file_store_takes_every_name(tmp_path: Path) -> None:
    sink = MlflowSink(f"file:{tmp_path}/store")
    sink.start("strange", {"actor": {"env_options": {"a/": 1, "a?": 2, "..": 3}}}, 0)
    for _ in range(2):
        scalars(sink, **STRANGERS, **{"a!": 1.0, "a?": 2.0})
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"file:{tmp_path}/store")
    experiment = client.get_experiment_by_name("farflung")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert len(run.data.metrics) == len(STRANGERS) + 2
    assert len(client.get_metric_history(run.info.run_id, "metrics/a_ 2")) == 2


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_file_store_holds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    uri = f"file:{tmp_path}/store"
    follow(MlflowSink(uri))
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("ours")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["actor.env"] == "CartPole-v1"
    history = client.get_metric_history(run.info.run_id, "metrics/success")
    assert [(each.step, each.value) for each in history] == [(2000, 0.25), (3000, 0.375)]
