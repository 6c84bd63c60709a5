"""What documents name is there: links, anchors, paths, settings, metrics and commands; and they stay small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actor.config import read_settings
from learner.config import actor_table
from learner.launch.experiment_file import load
from tests.architecture.rules import ORDER
from tests.documents.commands import EXPERIMENTS, NOT_HERE, PATH, every_command, faults, option_exists, used
from tests.documents.markdown import anchors, commands, fences, links, prose, spans
from tests.documents.pages import BY_HAND, GENERATED, PAGES, RECORDS, ROOT, text_of

LANGUAGES = {"bash", "console", "mermaid", "python", "text", "toml"}
WIDTH = 120
LIMITS = {"README.md": 6 * 1024, "ARCHITECTURE.md": 11 * 1024}  # bytes: what is longer is not read at one sitting
LISTED = re.compile(r"^\| `((?:run|learner|actor)\.\w+)` \|", re.MULTILINE)  # in deploy/SETTINGS.md
SETTING = re.compile(r"(?<![\w/.@:-])(run|learner|actor)\.([a-z]\w*)(?![\w/-]|\.[a-z])")
FILES = {"key", "py", "toml", "sbatch", "yaml"}  # behind a dot: the name of a file
METRIC = re.compile(r"\bfarflung_[a-z_0-9]*[a-z]\b(?![*_])")
ELSEWHERE = {  # flags of other programs
    "--abbrev": "git",
    "--replicas": "kubectl",
}
RUNNABLE = {words for words, _ in every_command()}


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_says_what_it_holds(page: str) -> None:
    assert [(fence.line, fence.language) for fence in fences(text_of(page)) if fence.language not in LANGUAGES] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_could_be_typed(page: str) -> None:
    folder, found = ROOT, []
    for line, command in commands(text_of(page)):
        found += [f"{page}:{line}: {command}: {fault}" for fault in faults(command, folder)]
    assert found == []


@pytest.mark.parametrize("page", PAGES)
def test_a_command_in_a_sentence_could_be_typed_as_far_as_it_goes(page: str) -> None:
    found = []
    for line, span in spans(text_of(page)):
        words = span.split()
        if " ".join(words[:2]) in RUNNABLE or words[:2] == ["python", "-m"] or (words[0] == "make" and len(words) > 1):
            found += [f"{page}:{line}: {span}: {fault}" for fault in faults(span, partial=True)]
        elif span.startswith("--") and not option_exists(words[0]) and words[0] not in ELSEWHERE:
            found.append(f"{page}:{line}: no command of ours has {words[0]}")
    assert found == []


@pytest.mark.parametrize("page", PAGES)
def test_every_table_of_settings_is_an_experiment(page: str, tmp_path: Path) -> None:
    for fence in fences(text_of(page)):
        if fence.language == "toml":
            file = tmp_path / "shown.toml"
            file.write_text(fence.text)
            read_settings(actor_table(load(file, [], {})))


def test_a_wrong_flag_setting_target_module_and_program_are_seen() -> None:
    wrong = [
        "learner run --sead 1",
        "learner run --set learner.credits=2",
        "learner run cartpole --set actor.beta1=2",
        "learner run cartpoll",
        "learner ruin",
        "learner keys newer rack7",
        "actor run --learner",
        "actor evaluate --episodes many",
        "make demon",
        "python -m tests.nothing",
        "kubectl apply -k deploy/kubernetes/overlays/nowhere",
        "deploy/kubernetes/kees.sh",
        "poetry install",
    ]
    assert [command for command in wrong if not faults(command)] == []
    assert faults("actor run --learner", partial=True) == []
    assert faults("FARFLUNG_LEARNER__CREDIT=0 learner run") != []


def test_nothing_is_excused_that_no_document_shows() -> None:
    shown = [command for page in PAGES for _, command in commands(text_of(page))]
    assert set(NOT_HERE) <= {used(command) for command in shown}
    assert [name for name in EXPERIMENTS if not any(name in command for command in shown)] == []


@pytest.mark.parametrize("page", [*PAGES, *GENERATED, *RECORDS])
def test_every_link_leads_somewhere(page: str) -> None:
    lost = []
    for line, target in links(text_of(page)):
        name, _, anchor = target.partition("#")
        place = (ROOT / page).parent / name if name else ROOT / page
        if target.startswith(("http://", "https://")):
            continue
        if not place.exists():
            lost.append(f"{page}:{line}: there is no {target}")
        elif anchor and anchor not in anchors(place.read_text(encoding="utf-8")):
            lost.append(f"{page}:{line}: no heading makes the anchor of {target}")
    assert lost == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_of_the_tree_is_there(page: str) -> None:
    named = [(line, path) for line, span in spans(text_of(page)) for path in PATH.findall(span)]
    assert [f"{page}:{line}: {path}" for line, path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_is_one(page: str) -> None:
    known = set(LISTED.findall(text_of("deploy/SETTINGS.md")))
    named = [(line, *found) for line, span in spans(text_of(page)) for found in SETTING.findall(span)]
    wrong = [(line, table, name) for line, table, name in named if f"{table}.{name}" not in known and name not in FILES]
    assert [f"{page}:{line}: {table}.{name}" for line, table, name in wrong] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_is_one(page: str) -> None:
    listed = text_of("deploy/METRICS.md")
    named = [(line, found) for line, span in spans(text_of(page)) for found in METRIC.findall(span)]
    assert [f"{page}:{line}: {name}" for line, name in named if name not in listed] == []


@pytest.mark.parametrize("page", BY_HAND)
def test_lines_of_prose_are_no_longer_than_those_of_code(page: str) -> None:
    lines = enumerate(prose(text_of(page)).splitlines(), 1)
    free = ("|", "![", "| ")
    assert [f"{page}:{n}" for n, line in lines if len(line) > WIDTH and not line.lstrip().startswith(free)] == []


@pytest.mark.parametrize(("page", "most"), LIMITS.items())
def test_the_first_pages_stay_small(page: str, most: int) -> None:
    assert len(text_of(page).encode()) <= most


def test_the_order_of_the_packages_is_the_rule() -> None:
    block = next(fence.text for fence in fences(text_of("ARCHITECTURE.md")) if fence.text.startswith("protocol "))
    shown = [word for word in block.split() if word != "|"]
    held = [word for package, order in ORDER.items() for word in (package, *order.split())]
    assert shown == [word for word in held if word != "__main__"]
