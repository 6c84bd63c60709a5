"""The committed tables are what the code says now, and leave nothing out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_type_hints

import msgspec
import pytest
from msgspec import Meta

from actor.config import ActorSettings
from learner.config import LearnerSettings, RunSettings
from protocol import setting_names
from protocol.settings import choices, flat_types
from tests.reference import settings
from tests.reference.markdown import table
from tests.reference.pages import PAGES

STALE = "run python -m tests.reference"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_committed_page_is_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), STALE


CHOICES = [kind for name in LearnerSettings.__struct_fields__ for kind in choices(LearnerSettings, name).values()]


@pytest.mark.parametrize("struct", [RunSettings, LearnerSettings, ActorSettings, *CHOICES])
def test_every_setting_says_what_it_means(struct: type[msgspec.Struct]) -> None:
    found = {setting.name: setting.meaning for setting in settings.commented(struct)}
    inherited = [name for base in struct.__mro__[1:-2] for name in getattr(base, "__struct_fields__", ())]
    assert list(found) == [name for name in struct.__struct_fields__ if name not in inherited]
    assert "with " not in found.values()
    assert all(found.values())


def test_either_side_knows_the_names_of_the_other_s_settings() -> None:
    structs: dict[str, type[msgspec.Struct]] = {"run": RunSettings, "learner": LearnerSettings, "actor": ActorSettings}
    assert {table: sorted(names) for table, names in setting_names.TABLES.items()} == {
        table: sorted(flat_types(struct)) for table, struct in structs.items()
    }


class Example(msgspec.Struct):
    """Not a setting."""

    plain: int = 1  # behind

    # links
    # Above two,
    # in two lines.
    first: int = 2
    second: Annotated[float, Meta(gt=0.0, le=1 << 20)] | Literal["auto"] | None = None
    third: int = 4  # inside

    # A sentence is no heading.
    fourth: int = 5


def test_comments_go_to_their_fields() -> None:
    assert [(each.name, each.section, each.meaning) for each in settings.commented(Example)] == [
        ("plain", "", "behind"),
        ("first", "links", "Above two, in two lines."),
        ("second", "links", "with `first`"),
        ("third", "links", "inside"),
        ("fourth", "links", "A sentence is no heading."),
    ]


def test_what_a_field_takes() -> None:
    hints = get_type_hints(Example, include_extras=True)
    assert settings.takes(hints["plain"]) == "whole number"
    assert settings.takes(hints["second"]) == 'number, > 0, ≤ 2^20; or `"auto"`'


def test_bars_do_not_split_cells() -> None:
    assert table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |\n"
