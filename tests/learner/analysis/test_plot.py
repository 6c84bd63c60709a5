"""Pictures: every kind of run can be drawn, and the file is one that a README can show."""

from __future__ import annotations

from pathlib import Path

import pytest

mpl = pytest.importorskip("matplotlib", reason="matplotlib, of the extra plots, is not installed")

from learner.analysis.plot import COLORS, caption, draw, legend, short, write  # noqa: E402
from learner.analysis.runs import Group, grouped, load  # noqa: E402
from tests.learner.courses import life, moment, run_dir, text  # noqa: E402

SCORE = {"event": "evaluated", "actor": "judge", "version": 50, "mean": 33.0, "ci95": 2.0}
RESUMED = text(*life(), {"event": "started", "wall_s": 0.0}, *(moment(i, env_steps=4000 + i) for i in range(3)), SCORE)


def groups_of(folder: Path) -> list[Group]:
    """Two seeds, one of them resumed and evaluated; and an older run alone, whose learner wrote less."""
    later = ("lag", "received", "sent")
    old = [{key: value for key, value in line.items() if not key.startswith(later)} for line in life()[:-1]]
    paths = [
        run_dir(folder / "a", 0),
        run_dir(folder / "b", 1, recorded=RESUMED, epoch=2),
        run_dir(folder / "c", 2, recorded=text(*old), density=0.01),
    ]
    return grouped([load(path) for path in paths])


def test_both_files_are_written_again_the_same(tmp_path: Path) -> None:
    groups = groups_of(tmp_path)
    png, svg = write(groups, tmp_path / "deep" / "plot", "range")
    assert png.read_bytes().startswith(b"\x89PNG")
    first = svg.read_text()
    write(groups, tmp_path / "deep" / "plot", "range")
    assert svg.read_text() == first


def test_the_svg_has_text_its_colours_and_a_white_ground(tmp_path: Path) -> None:
    _, svg = write(groups_of(tmp_path), tmp_path / "plot", "bootstrap")
    drawn = svg.read_text()
    for words in ("target 55", "environment steps", "actor.density=0.01, 1 seed", "lag, updates", COLORS[1]):
        assert words in drawn
    assert "fill: #ffffff" in drawn


def test_one_group_has_a_title_and_one_old_run_says_what_it_lacks(tmp_path: Path) -> None:
    _, svg = write([groups_of(tmp_path)[1]], tmp_path / "plot", "range")
    assert "1 seed" in svg.read_text()
    assert svg.read_text().count("not recorded") == 2


def test_the_caption_says_what_lines_and_bands_are(tmp_path: Path) -> None:
    groups = groups_of(tmp_path)
    words = caption(groups, "range")
    for part in ("mean over seeds", "least to greatest", "diamonds", "1 of 3 not ended", "1 resumed"):
        assert part in words
    assert "bootstrapped" in caption(groups, "bootstrap")
    assert caption(groups[1:], "range") == "One seed."


@pytest.mark.parametrize(
    ("value", "tick"),
    [(0, "0"), (0.5, "0.5"), (500, "500"), (2500, "2,500"), (40_000, "40 k"), (150_000, "150 k"), (1.5e6, "1.5 M")],
)
def test_a_tick_is_short(value: float, tick: str) -> None:
    assert short(value, 0) == tick


def test_a_legend_is_of_settings_where_they_fit_and_of_runs_elsewhere(tmp_path: Path) -> None:
    runs = [load(run_dir(tmp_path / "short")), load(run_dir(tmp_path / f"{'x' * 150}-7", envs=2))]
    few = [Group("defaults", (runs[0],)), Group("actor.density=0.01", tuple(runs))]
    assert legend(few) == ["defaults, 1 seed", "actor.density=0.01, 2 seeds"]
    many = [Group("defaults", (runs[0],)), Group("actor.density=0.01, " * 9, (runs[1],))]
    short, long = legend(many)
    assert short == "short, 1 seed"
    assert long.startswith("xxxx")
    assert long.endswith("xx-7, 1 seed")
    assert "x...x" in long
    assert legend([Group("a ...", (runs[0],)), Group("a ...", (runs[0],))]) == ["short, 1 seed"] * 2


@pytest.mark.parametrize("label", ["a", "m" * 40, "m" * 60, "m" * 90, "i$" * 80])
def test_no_name_runs_off_the_picture(tmp_path: Path, label: str) -> None:
    runs = [load(run_dir(tmp_path / f"{number}{'W' * 90}", envs=number)) for number in range(1, 5)]
    figure = draw([Group(f"{number}{label}", (run,)) for number, run in enumerate(runs)], "range")
    figure.savefig(tmp_path / "drawn.png")
    (box,) = [drawn.get_window_extent() for drawn in figure.legends]
    assert box.x0 >= 0.0
    assert box.x1 <= figure.bbox.x1
