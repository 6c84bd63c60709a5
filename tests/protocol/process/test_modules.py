"""What --allow-module names is found in the working directory, and nothing else there is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import SettingError, UserError
from protocol.process.modules import Beside, ModuleRefused, allow, import_allowed, load


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [each for each in sys.meta_path if not isinstance(each, Beside)])
    for name in [name for name in sys.modules if name.startswith("my_")]:  # of other tests
        monkeypatch.delitem(sys.modules, name)
    held = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - held:
        del sys.modules[name]


def test_a_module_and_a_package_that_are_named_are_found_and_others_are_not(here: Path) -> None:
    (here / "my_rooms.py").write_text("WIDTH = 3\n")
    (here / "my_house").mkdir()
    (here / "my_house/__init__.py").touch()
    (here / "my_house/doors.py").write_text("COUNT = 2\n")
    (here / "my_secrets.py").touch()
    allowed = allow(["my_rooms", "my_house.doors"])
    import_allowed("my_rooms", allowed)
    import_allowed("my_house.doors", allowed)
    assert (sys.modules["my_rooms"].WIDTH, sys.modules["my_house.doors"].COUNT) == (3, 2)
    with pytest.raises(ImportError):
        importlib.import_module("my_secrets")


def test_a_package_that_is_named_brings_its_modules(here: Path) -> None:
    (here / "my_lab").mkdir()
    (here / "my_lab/envs.py").touch()
    (here / "my_lab/__init__.py").touch()
    (here / "my_labour.py").touch()
    allowed = allow(["my_lab"])
    assert import_allowed("my_lab.envs", allowed).__name__ == "my_lab.envs"
    with pytest.raises(UserError, match="does not allow; --allow-module my_labour would"):
        import_allowed("my_labour", allowed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n1 / 0", r"raised ZeroDivisionError: division by zero \(my_fault.py, line 2\)"),
        ("def f(:", r"raised SyntaxError: invalid syntax \(my_fault.py, line 1\)"),
        ("import sys\nsys.exit(0)", r"raised SystemExit: 0 \(my_fault.py, line 2\)"),
    ],
)
def test_whatever_a_module_does_when_it_is_imported_is_one_sentence(here: Path, text: str, said: str) -> None:
    (here / "my_fault.py").write_text(text)
    with pytest.raises(UserError, match=rf"^actor\.algorithm names module 'my_fault', which {said}$"):
        import_allowed("my_fault", allow(["my_fault"]), "actor.algorithm")


def test_a_module_beside_that_it_needs_is_named(here: Path) -> None:
    (here / "my_envs.py").write_text("import my_physics\n")
    (here / "my_physics.py").touch()
    with pytest.raises(UserError, match="--allow-module my_physics lets it be found there"):
        import_allowed("my_envs", allow(["my_envs"]))
    import_allowed("my_envs", allow(["my_envs", "my_physics"]))


@pytest.mark.parametrize("name", ["actor", "learner.cli", "protocol"])
def test_what_is_ours_is_refused_by_name(here: Path, name: str) -> None:
    with pytest.raises(ModuleRefused, match=f"--allow-module {name.partition('.')[0]}: this is a package of Farflung"):
        allow([name])


@pytest.mark.parametrize("name", ["json", "gymnasium", "sys"])
def test_of_two_with_one_name_neither_is_taken(here: Path, name: str) -> None:
    allow([name])
    (here / f"{name}.py").touch()
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "Beside"]
    with pytest.raises(ModuleRefused, match=f"there is {here / name}.py, and .* has the same name; rename yours"):
        allow([name])


def test_the_same_module_on_the_path_too_is_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "my_rooms.py").touch()
    monkeypatch.syspath_prepend(str(here))
    import_allowed("my_rooms", allow(["my_rooms"]))
    assert sys.modules["my_rooms"].__file__ == str(here / "my_rooms.py")


def test_an_environment_that_goes_elsewhere_takes_nothing_away(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "my_rooms.py").touch()
    allowed = allow(["my_rooms"])
    (here / "away").mkdir()
    monkeypatch.chdir(here / "away")
    import_allowed("my_rooms", allowed)
    assert sys.modules["my_rooms"].__file__ == str(here / "my_rooms.py")


def test_a_module_that_is_not_allowed_is_not_looked_for(here: Path) -> None:
    (here / "my_rooms.py").write_text("raise SystemExit")
    with pytest.raises(UserError, match="--allow-module my_rooms would"):
        import_allowed("my_rooms", allow(["other"]))


def test_what_a_setting_names_is_taken_from_an_allowed_module(here: Path) -> None:
    (here / "my_parts.py").write_text("def build():\n    return 7\n")
    assert load("actor.network", "my_parts:build", allow(["my_parts"]), "farflung.networks")() == 7
    with pytest.raises(SettingError, match=r"actor\.network = 'my_parts:biuld'.*has no 'biuld'"):
        load("actor.network", "my_parts:biuld", allow(["my_parts"]), "farflung.networks")
    with pytest.raises(UserError, match=r"actor\.network asks to import module 'my_parts'.*--allow-module my_parts"):
        load("actor.network", "my_parts:build", frozenset(), "farflung.networks")


def test_what_an_installed_package_registers_needs_no_flag(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "parts-1.0.dist-info").mkdir()
    (here / "parts-1.0.dist-info/METADATA").write_text("Name: parts\nVersion: 1.0\n")
    points = "[farflung.networks]\nwide = parts_of_theirs:build\ngone = parts_of_theirs:missing\n"
    (here / "parts-1.0.dist-info/entry_points.txt").write_text(points)
    (here / "parts_of_theirs.py").write_text("def build():\n    return 9\n")
    monkeypatch.syspath_prepend(here)
    assert load("actor.network", "wide", frozenset(), "farflung.networks")() == 9
    with pytest.raises(SettingError, match=r"actor\.network = 'tall'.*MODULE:NAME.*register gone, wide"):
        load("actor.network", "tall", frozenset(), "farflung.networks")
    with pytest.raises(UserError, match=r"parts_of_theirs:missing.*cannot be loaded"):
        load("actor.network", "gone", frozenset(), "farflung.networks")
