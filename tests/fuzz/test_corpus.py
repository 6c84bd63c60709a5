"""The kept inputs of ``make fuzz``, once each, and that what is sound is found so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, seeds
from tests.fuzz.test_decoders import damaged

MOST_FILES, MOST_BYTES = 300, 1 << 20


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input(name: str) -> None:
    for data in [*seeds(name), *(path.read_bytes() for path in sorted((CORPUS / name).glob("*")))]:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=200)
@given(data=st.data())
def test_damage_to_what_is_sound(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(damaged(data.draw(st.sampled_from(seeds(name))))))


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=100))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_the_corpus_is_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert len(files) < MOST_FILES
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
