"""The manifest: survives the disk, and names what differs."""

from __future__ import annotations

import json

import msgspec
import pytest

from protocol.layout import Entry, Layout
from protocol.manifest import (
    Manifest,
    ManifestError,
    Origin,
    changes,
    decode,
    difference,
    digest_of,
    encode,
    makes_simulators,
)

TABLE = b"\x81\xa3env\xabCartPole-v1"
MANIFEST = Manifest(
    run="cartpole-0",
    env="CartPole-v1",
    seed=7,
    layout=Layout((Entry("w", (4, 2)), Entry("b", (2,)))),
    actor_table=TABLE,
    actor_digest=digest_of(TABLE),
    created="a Tuesday",
)


def test_a_manifest_survives_the_disk() -> None:
    text = encode(MANIFEST)
    assert decode(text) == MANIFEST
    assert json.loads(text)["env"] == "CartPole-v1"


def test_weights_of_another_run_are_remembered_and_a_run_without_is_written_as_ever() -> None:
    assert b"initial" not in encode(MANIFEST)
    origin = Origin(
        path="/runs/old/checkpoints/best.safetensors",
        run="old",
        version=3,
        only=("w",),
        leave=(),
        copied_layers=1,
        copied_parameters=8,
        left=("b",),
        statistics_rows=0,
        optimizer=False,
    )
    begun = msgspec.structs.replace(MANIFEST, initial=origin)
    assert decode(encode(begun)) == begun
    assert difference(MANIFEST, begun) is None


def test_a_digest_is_eight_bytes_of_the_table() -> None:
    assert len(digest_of(TABLE)) == 8
    assert digest_of(TABLE) != digest_of(TABLE + b"\x00")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (encode(msgspec.structs.replace(MANIFEST, format_version=9)), "format version 9"),
        (encode(msgspec.structs.replace(MANIFEST, actor_table=b"other")), "digest"),
        (encode(MANIFEST).replace(b'"env"', b'"enw"'), "enw"),
    ],
)
def test_what_is_not_a_manifest_is_refused_in_one_line(text: bytes, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        decode(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def tabled(**settings: object) -> dict[str, object]:
    """Changes of MANIFEST: its actor table with these settings."""
    given = msgspec.msgpack.decode(TABLE, type=dict[str, object])
    table = msgspec.msgpack.encode({**given, **settings}, order="deterministic")
    return {"actor_table": table, "actor_digest": digest_of(table)}


def test_a_run_may_go_on_with_what_its_network_does_not_follow_from() -> None:
    other = msgspec.structs.replace(MANIFEST, **tabled(discount=0.9, codec="f32", env_options={"n": 3}))
    assert difference(MANIFEST, other) is None
    assert changes(MANIFEST.actor_table, other.actor_table) == {
        "actor.discount": (None, 0.9),
        "actor.codec": (None, "f32"),
        "actor.env_options.n": (None, 3),
    }
    assert changes(other.actor_table, MANIFEST.actor_table)["actor.env_options.n"] == (3, None)
    assert makes_simulators(changes(MANIFEST.actor_table, other.actor_table))
    assert not makes_simulators(changes(MANIFEST.actor_table, tabled(discount=0.9)["actor_table"]))  # type: ignore[arg-type]


def test_what_is_no_table_is_not_compared() -> None:
    with pytest.raises(ManifestError, match="its actor table is none"):
        changes(MANIFEST.actor_table, b"\xc1")


def test_the_same_experiment_may_have_another_name_seed_and_day() -> None:
    other = msgspec.structs.replace(MANIFEST, run="again", seed=8, created="a Friday")
    assert difference(MANIFEST, other) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"env": "Pong-v5"}, "The environment is CartPole-v1 in one and Pong-v5 in the other."),
        ({"layout": Layout((Entry("w", (4, 2)),))}, "The network has 10 parameters in one and 8 in the other."),
        ({"layout": Layout((Entry("w", (2, 4)), Entry("b", (2,))))}, "name, shape or order"),
        ({"observation_size": 4}, "normalise 0 numbers in one, 4 in the other"),
        (tabled(hidden=[8]), "keeps what makes its network, its statistics and its method: actor.hidden is not set in"),
        (tabled(normalize_returns=False), "actor.normalize_returns is not set in one and false in the other"),
        (
            tabled(env_options={"n": 3}, discount=0.9) | {"layout": Layout((Entry("w", (4, 2)),))},
            "The settings that differ: actor.discount is not set in one and 0.9 in the other; actor.env_options.n is",
        ),
        (
            tabled(wrappers=[{"wrapper": "a:B", "options": {"n": 1}}]) | {"observation_size": 4},
            "actor.wrappers is not set in one and [{ options = { n = 1 }, wrapper = 'a:B' }] in the other.",
        ),
    ],
)
def test_a_difference_is_one_sentence(change: dict[str, object], said: str) -> None:
    sentence = difference(MANIFEST, msgspec.structs.replace(MANIFEST, **change))
    assert sentence is not None
    assert said in sentence
    assert sentence.endswith(".")
