"""Layers of another run: taken by name and shape, against a plain loop; and one sentence for what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from learner.launch.initial import Initial, InitialError
from learner.launch.transfer import MOST_ROWS, Fitted, Source, Wanted, fit
from protocol.layout import Entry, Layout

OLD = Layout((Entry("body.w0", (3, 4)), Entry("body.b0", (3,)), Entry("head.w", (2, 3)), Entry("head.b", (2,))))
NEW = Layout((Entry("head.w", (5, 3)), Entry("head.b", (5,)), Entry("body.w0", (3, 4)), Entry("body.b0", (3,))))
MANY = Layout(tuple(Entry(f"deep.w{number}", (number + 1,)) for number in range(8)))
RUN = Path("runs/old")


def source(layout: Layout = OLD, **arrays: np.ndarray) -> Source:
    """Of version 40, trained with Adam. arrays: beside θ, with __ for the dot in their names."""
    theta = 100.0 + np.arange(layout.length, dtype=np.float32)
    kept = {name.replace("__", "."): array for name, array in arrays.items()}
    return Source(RUN / "checkpoints/x", "old-1", 40, layout, {"theta": theta, **kept}, "adam")


def remembering(arrays: Mapping[str, np.ndarray]) -> Source:
    """The same with these statistics."""
    plain = source()
    return replace(plain, arrays=plain.arrays | dict(arrays))


def first(layout: Layout = OLD, observations: int = 0) -> Initial:
    return Initial(np.arange(layout.length, dtype=np.float32), layout, "toy", observations, 0, "")


def fitted(here: Layout, there: Source, **wanted: object) -> Fitted:
    return fit(first(here), there, Wanted(RUN, **wanted), "adam")  # type: ignore[arg-type]


def named(theta: np.ndarray, layout: Layout) -> dict[str, list[float]]:
    """Each layer's numbers, cut out one by one."""
    numbers, found = list(map(float, theta)), {}
    for entry in layout.entries:
        found[entry.name] = [numbers.pop(0) for _ in range(int(np.prod(entry.shape)))]
    return found


@pytest.mark.parametrize(
    ("only", "leave"),
    [
        (("body.*",), ()),
        ((), ("head.*",)),
        (("*.b*",), ()),
        (("*",), ()),
        (("body.*",), ("*.b0",)),
    ],
)
def test_layers_are_taken_by_name_and_the_others_begin_anew(only: tuple[str, ...], leave: tuple[str, ...]) -> None:
    made = fitted(NEW, source(), only=only, leave=leave)
    old, new, found = (
        named(theta, layout)
        for theta, layout in ((source().arrays["theta"], OLD), (first(NEW).theta, NEW), (made.theta, NEW))
    )
    shapes = {entry.name: entry.shape for entry in OLD.entries}
    taken = []
    for entry in NEW.entries:
        chosen = not only or any(fnmatchcase(entry.name, pattern) for pattern in only)
        chosen = chosen and not any(fnmatchcase(entry.name, pattern) for pattern in leave)
        if chosen and shapes.get(entry.name) == entry.shape:
            taken.append(entry.name)
        assert found[entry.name] == (old if entry.name in taken else new)[entry.name]
    assert made.origin.copied_layers == len(taken)
    assert made.origin.copied_parameters == sum(len(new[name]) for name in taken)
    assert made.origin.left == tuple(entry.name for entry in NEW.entries if entry.name not in taken)


def test_all_of_it_is_taken_where_nothing_else_is_said() -> None:
    there = source()
    made = fitted(OLD, there)
    np.testing.assert_array_equal(made.theta, there.arrays["theta"])
    assert made.theta is not there.arrays["theta"]
    assert made.told() == {
        "from": "runs/old/checkpoints/x",
        "version": 40,
        "copied_layers": 4,
        "copied_parameters": 23,
        "left_layers": 0,
        "left": "",
        "statistics": "none are kept",
        "optimizer": False,
    }


@pytest.mark.parametrize(
    ("here", "there", "words"),
    [
        (
            NEW,
            OLD,
            (
                "2 layers differ: head.w is [5, 3] here and [2, 3] there, head.b is [5] here and [2] there;"
                " --initial-except 'head.*' would begin without"
            ),
        ),
        (
            Layout(OLD.entries[:3]),
            OLD,
            "1 layer differs: head.b is absent here and [2] there; --initial-except 'head.b' would begin without",
        ),
        (
            OLD,
            Layout(OLD.entries[1:]),
            "1 layer differs: body.w0 is [3, 4] here and absent there; --initial-except 'body.w0' would begin without",
        ),
        (
            Layout((*OLD.entries, *MANY.entries)),
            OLD,
            (
                "8 layers differ: deep.w0 is [1] here and absent there, deep.w1 is [2] here and absent there,"
                " deep.w2 is [3] here and absent there, deep.w3 is [4] here and absent there,"
                " deep.w4 is [5] here and absent there, and 3 more; --initial-except 'deep.*' would begin without"
            ),
        ),
        (
            Layout((Entry("w", (2,)),)),
            Layout((Entry("w", (3,)),)),
            "no layer fits: w is [2] here and [3] there",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_how_to_leave_it_out(here: Layout, there: Layout, words: str) -> None:
    with pytest.raises(InitialError) as refused:
        fitted(here, source(there))
    assert str(refused.value) == f"initial parameters runs/old: {words}"


def test_the_patterns_that_a_refusal_names_would_do() -> None:
    for here in (NEW, Layout(OLD.entries[:3]), Layout((*OLD.entries, *MANY.entries))):
        with pytest.raises(InitialError) as refused:
            fitted(here, source())
        patterns = tuple(refused.value.cause.split("'")[1::2])
        assert fitted(here, source(), leave=patterns).origin.copied_layers >= 2


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            {"only": ("encoder.*",)},
            "--initial-only 'encoder.*' matches no layer; there are body.b0, body.w0, head.b, head.w",
        ),
        ({"leave": ("tail",)}, "--initial-except 'tail' matches no layer; there are body.b0, body.w0, head.b, head.w"),
        ({"only": ("head.*",)}, "no layer would be copied: of what the patterns leave none has the same shape"),
    ],
)
def test_patterns_that_choose_nothing(wanted: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(InitialError) as refused:
        fitted(NEW, source(), **wanted)
    assert refused.value.cause == words


def statistics(count: int, size: int) -> dict[str, np.ndarray]:
    mean = np.arange(size, dtype=np.float64)
    return {"observations.count": np.array(count), "observations.mean": mean, "observations.m2": count * (mean + 1)}


@pytest.mark.parametrize(("count", "kept"), [(7, 7), (MOST_ROWS, MOST_ROWS), (12 * MOST_ROWS, MOST_ROWS)])
def test_statistics_come_along_and_do_not_outweigh_what_is_seen_now(count: int, kept: int) -> None:
    made = fit(first(observations=3), remembering(statistics(count, 3)), Wanted(RUN), "adam")
    assert int(made.arrays["observations.count"]) == made.origin.statistics_rows == kept
    np.testing.assert_array_equal(made.arrays["observations.mean"], [0.0, 1.0, 2.0])
    np.testing.assert_allclose(made.arrays["observations.m2"] / kept, [1.0, 2.0, 3.0], rtol=1e-12)
    assert made.statistics == f"taken: {count} rows, which count as {kept}"


@pytest.mark.parametrize(
    ("there", "observations", "words"),
    [
        (statistics(7, 3), 4, "left: of 3 numbers there, 4 here"),
        (statistics(7, 3), 0, "left: of 3 numbers there, 0 here"),
        (statistics(0, 3), 3, "there are none"),
        ({}, 3, "there are none"),
    ],
)
def test_statistics_of_something_else_stay(there: dict[str, np.ndarray], observations: int, words: str) -> None:
    made = fit(first(observations=observations), remembering(there), Wanted(RUN), "adam")
    assert (made.arrays, made.origin.statistics_rows, made.statistics) == ({}, 0, words)


def test_the_optimizer_s_state_comes_where_it_is_asked_for() -> None:
    moving = np.ones(OLD.length, np.float32)
    there = source(optimizer__exp_avg=moving, staleness__x=moving)
    assert fitted(OLD, there).arrays == {}
    made = fitted(OLD, there, optimizer=True)
    assert list(made.arrays) == ["optimizer.exp_avg"]
    assert made.origin.optimizer


@pytest.mark.parametrize(
    ("here", "own", "wanted", "words"),
    [
        (OLD, "rmsprop", {}, "its optimizer is adam, and this run's is rmsprop"),
        (NEW, "adam", {"leave": ("head.*",)}, "its optimizer's state is of all its layers, and not all of them"),
        (Layout(OLD.entries[::-1]), "adam", {}, "its optimizer's state is of all its layers, and not all of them"),
        (OLD, "adam", {}, "there is no state in it"),
    ],
    ids=["another optimizer", "other layers", "another order", "the best"],
)
def test_an_optimizer_s_state_that_is_of_no_use(
    here: Layout, own: str, wanted: dict[str, tuple[str]], words: str
) -> None:
    with pytest.raises(InitialError, match=f"--initial-optimizer: {words}"):
        fit(first(here), source(), Wanted(RUN, optimizer=True, **wanted), own)  # type: ignore[arg-type]
