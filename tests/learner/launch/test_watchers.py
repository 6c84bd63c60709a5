"""Who is to hear a run's lines is found, or refused in one sentence before anything is started."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from learner.config import Experiment, LearnerSettings
from learner.launch import watchers
from learner.launch.options import Options
from learner.launch.watchers import find_watchers, watched
from protocol.errors import UserError

HOOKS = """
heard = []
nothing = 7
def hear(event): heard.append(event)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with modules of a user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    (tmp_path / "acme_hooks.py").write_text(HOOKS)
    (tmp_path / "acme_broken.py").write_text("import sys\nsys.exit('no licence')\n")
    held = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - held:
        del sys.modules[name]


def options(hook: str = "", allowed: tuple[str, ...] = (), **asked: Any) -> Options:
    experiment = Experiment(learner=LearnerSettings(on_event=hook), actor={"env": "CartPole-v1"})
    return Options(experiment, (), None, Path("runs/a"), False, allowed, None, False, False, 0.0, **asked)


def refused(asked: Options) -> str:
    with pytest.raises(UserError) as caught:
        find_watchers(asked, lambda: 0.0)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_nobody_hears_a_run_that_nobody_asked_to_hear(here: Path) -> None:
    assert find_watchers(options(), lambda: 0.0) == []


def test_who_watches_is_known_before_it_is_found() -> None:
    assert watched(options()) == []
    assert watched(options("acme_absent:hear", mlflow="file:store")) == [
        "--mlflow",
        "learner.on_event acme_absent:hear",
    ]


def test_a_callable_that_is_allowed_is_found_in_the_working_directory(here: Path) -> None:
    ((name, hear),) = find_watchers(options("acme_hooks:hear", ("acme_hooks",)), lambda: 0.0)
    assert name == "learner.on_event acme_hooks:hear"
    hear({"event": "started"})
    assert sys.modules["acme_hooks"].heard == [{"event": "started"}]


@pytest.mark.parametrize(
    ("hook", "allowed", "why"),
    [
        (
            "acme_hooks:hear",
            (),
            "learner.on_event asks to import module 'acme_hooks', which this machine does not allow",
        ),
        ("acme_hooks:other", ("acme_hooks",), "module acme_hooks has no 'other'"),
        ("acme_hooks:nothing", ("acme_hooks",), "it is int, and nothing that can be called"),
        ("acme_broken:hear", ("acme_broken",), "SystemExit: no licence"),
        ("acme_absent:hear", ("acme_absent",), "which cannot be imported: No module named 'acme_absent'"),
        ("acme", (), "one of your own is MODULE:NAME with --allow-module MODULE"),
    ],
)
def test_a_callable_that_cannot_be(here: Path, hook: str, allowed: tuple[str, ...], why: str) -> None:
    assert why in refused(options(hook, allowed))


@pytest.mark.parametrize(("flag", "package"), [("tensorboard",) * 2, ("wandb",) * 2, ("mlflow",) * 2])
@pytest.mark.parametrize("spec", [None, ModuleSpec("a folder of that name", None)])
def test_a_program_that_is_not_installed(
    here: Path, monkeypatch: pytest.MonkeyPatch, flag: str, package: str, spec: ModuleSpec | None
) -> None:
    monkeypatch.setattr(watchers, "find_spec", lambda name: spec)
    wanted: dict[str, Any] = {flag: here / "charts" if flag == "tensorboard" else "acme"}
    told = f"--{flag} needs {package}, which is not installed: pip install 'farflung[{package}]'"
    assert refused(options(**wanted)) == told


def test_programs_that_are_installed_are_not_imported_yet(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "find_spec", lambda name: ModuleSpec(name, None, origin="here"))
    for name in ("wandb", "mlflow"):  # of other tests
        monkeypatch.delitem(sys.modules, name, raising=False)
    asked = options(tensorboard=here / "charts", wandb="acme", mlflow="file:store")
    found = find_watchers(asked, lambda: 0.0)
    assert [name for name, _ in found] == ["tensorboard", "wandb", "mlflow"]
    assert (here / "charts" / "a").is_dir()
    assert not {"wandb", "mlflow"} & set(sys.modules)


def test_a_folder_that_cannot_be_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "find_spec", lambda name: ModuleSpec(name, None, origin="here"))
    (here / "file").touch()
    assert refused(options(tensorboard=here / "file")).startswith(f"--tensorboard {here / 'file'}: ")
