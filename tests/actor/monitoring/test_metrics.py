"""An actor's page: the counters, read back by Prometheus' own parser, and over a socket."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actor.monitoring.metrics import Counters, page_address, render
from actor.stats import LinkStats, WorkerStats
from protocol.errors import UserError


def scraped(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(page)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_every_counter_has_a_series() -> None:
    link = LinkStats(
        sent=2,
        applied=3,
        refused=4,
        lost=5,
        unlogged=19,
        unanswered=17,
        credit=16,
        unreflected=18,
        weights_version=9,
        round_trip_s=15.5,
        connected=True,
    )
    worker = WorkerStats(
        env_steps=1,
        collect_s=10.5,
        learn_s=11.5,
        compress_s=0.25,
        wait_s=12.5,
        residual_norm=13.5,
        residual_age=14.5,
        beta1=0.5,
    )
    counters = Counters(bytes_up=6, bytes_down=7, dials=8, link=link, worker=worker)
    found = scraped(render(counters).decode())
    own = sorted(value for (name, _), value in found.items() if name.startswith("farflung_actor_"))
    assert own == [0.25, 0.5, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5, 16, 17, 18, 19]


def test_labels() -> None:
    found = scraped(render(Counters(link=LinkStats(applied=3, refused=1), worker=WorkerStats(wait_s=0.5))).decode())
    assert found["farflung_actor_gradients_answered_total", (("outcome", "applied"),)] == 3
    assert found["farflung_actor_gradients_answered_total", (("outcome", "refused"),)] == 1
    assert found["farflung_actor_work_seconds_total", (("part", "wait"),)] == 0.5


def test_the_run_is_told_once_it_is_known() -> None:
    assert "run_info" not in render(Counters()).decode()
    found = scraped(render(Counters(link=LinkStats(run="r1"))).decode())
    assert found["farflung_actor_run_info", (("run", "r1"),)] == 1


def test_addresses() -> None:
    assert page_address("127.0.0.1:9401") == ("127.0.0.1", 9401)
    assert page_address("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize("text", ["", ":1", "9401", "h:", "h:x", "h:70000"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UserError, match="expected HOST:PORT"):
        page_address(text)
