"""MLflow: what it is called with, and where it is installed, that a file store holds it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from learner.monitoring.sinks.mlflow import PARAMETERS, MlflowSink
from learner.monitoring.sinks.sink import SinkFollower
from tests.learner.courses import BEGAN_UNIX_S, moment
from tests.learner.monitoring.sinks.fakes import RESULT, STARTED, fake_mlflow, follow


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
