"""The commands plot and export through the real parser: where they write, and one line for what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from learner import cli
from tests.learner.courses import run_dir

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs ``learner`` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["learner", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        said = capsys.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    return run


def test_one_run_is_drawn_into_its_directory_and_several_beside_them(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra plots, is not installed")
    one, two = run_dir(tmp_path / "one"), run_dir(tmp_path / "two", 1)
    code, out, _ = command("plot", one)
    assert (code, out.splitlines()) == (0, [f"wrote {one / 'plot.png'}", f"wrote {one / 'plot.svg'}"])
    assert command("plot", one, two, "--bootstrap")[0] == 0
    assert (tmp_path / "plot.png").exists()
    assert command("plot", one, two, "--out", "deep/here.png")[0] == 0
    assert (tmp_path / "deep" / "here.svg").exists()


def test_a_run_that_has_nothing_to_show_yet_is_left_out(command: Command, tmp_path: Path) -> None:
    run_dir(tmp_path / "one")
    run_dir(tmp_path / "two", recorded=b"")
    code, _, err = command("export", "one", "two", "--csv", "tables")
    assert code == 0
    assert err == f"note: {tmp_path / 'two'}: it has not recorded any progress yet: left out\n"
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["one.csv"]


def test_runs_of_one_name_are_told_apart_by_their_parents(command: Command, tmp_path: Path) -> None:
    for parent in ("x", "y"):
        run_dir(tmp_path / parent / "run")
    assert command("export", "x/run", "y/run", "--csv", "tables")[0] == 0
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {"x-run.csv", "y-run.csv"}


def test_runs_are_compared_on_a_terminal_and_in_a_file(command: Command, tmp_path: Path) -> None:
    run_dir(tmp_path / "one")
    run_dir(tmp_path / "two", envs=4)
    code, out, _ = command("compare", "one", "two", "--csv", "table.csv")
    assert code == 0
    assert [line.split() for line in out.splitlines()[:2]] == [["one", "two"], ["actor.envs", "unset", "4"]]
    assert out.splitlines()[-1] == "wrote table.csv"
    code, _, err = command("compare", "one", "two", "--csv", "one")
    assert (code, err) == (2, "error: one: Is a directory\n")
    assert command("compare", "nowhere")[0] == 2


def test_an_export_goes_both_ways_at_once(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    run_dir(tmp_path / "one")
    code, out, _ = command("export", "one", "--csv", "tables", "--tensorboard", "events")
    assert (code, len(out.splitlines())) == (0, 2)
    assert list((tmp_path / "events" / "one").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plot", "nowhere"], "there is no such directory"),
        (["plot", "file"], "it is a file"),
        (["plot", "stranger"], "it has no experiment.toml; is it a run directory?"),
        (["plot", "empty"], "no progress was recorded yet in any of these runs"),
        (["export", "empty", "--csv", "tables"], "no progress was recorded yet in any of these runs"),
        (["export", "one"], "say where to: --tensorboard DIR, --csv DIR or both"),
        (["export", "one", "--csv", "file"], "file"),
        (["export", "x/p/run", "y/p/run", "--csv", "tables"], "two of these runs would be called p-run"),
    ],
)
def test_what_a_person_gets_wrong_is_one_line(
    command: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    run_dir(tmp_path / "one")
    run_dir(tmp_path / "empty", recorded=b"")
    (tmp_path / "stranger").mkdir()
    (tmp_path / "file").write_text("")
    for parent in ("x/p", "y/p"):
        run_dir(tmp_path / parent / "run")
    code, _, err = command(*arguments)
    (line,) = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert code == 2
    assert line.startswith("error: ")
    assert words in line


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("matplotlib", ["plot", "one"], "farflung[plots]"),
        ("tensorboard", ["export", "one", "--tensorboard", "events"], "farflung[tensorboard]"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, command: Command, tmp_path: Path, package: str, arguments: list[str], extra: str
) -> None:
    run_dir(tmp_path / "one")
    for name in [name for name in sys.modules if name.split(".")[0] == package or name == "learner.analysis.plot"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = command(*arguments)
    assert (code, err) == (2, f"error: {package} is not installed: pip install '{extra}'\n")


def test_what_is_no_run_is_passed_over_aloud(command: Command, tmp_path: Path) -> None:
    one, empty, file = run_dir(tmp_path / "one"), tmp_path / "empty", tmp_path / "notes"
    empty.mkdir()
    file.touch()
    code, out, err = command("export", one, empty, file, "--csv", "table")
    assert code == 0
    assert "table/one.csv" in out
    assert [line.partition(": ")[0] for line in err.splitlines() if "left out" in line] == ["note", "note"]
    assert (str(empty) in err, str(file) in err) == (True, True)
    code, _, err = command("export", empty, file, "--csv", "table")
    assert (code, err.splitlines()[-1]) == (2, "error: none of these is the directory of a run")
    assert command("export", empty, "--csv", "table")[0] == 2
