"""Observations against Gymnasium's own flattening, and actions against the spaces that must contain them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, OneOf, Sequence, Space, Text, Tuple
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from hypothesis import given, settings
from hypothesis import strategies as st

from actor.environments.conversion import ActionConverter, flatten, flatten_one, packed, spaces_of, unpacked
from actor.spaces import Part, Spaces
from protocol.errors import SettingError

WITH_ORIGIN = MultiDiscrete([3, 2], start=[5, -1])
OBSERVED: dict[str, Space[Any]] = {
    "box": Box(-1, 1, (3,), np.float32),
    "wide box": Box(-np.inf, np.inf, (2, 3), np.float64),
    "bytes of one axis": Box(0, 255, (5,), np.uint8),
    "scalar box": Box(-1, 1, (), np.float32),
    "discrete": Discrete(4),
    "discrete from elsewhere": Discrete(4, start=-2),
    "multi_discrete": MultiDiscrete([3, 2, 4]),
    "multi_discrete from elsewhere": WITH_ORIGIN,
    "multi_discrete of two axes": MultiDiscrete(np.array([[3, 2], [2, 4]])),
    "multi_binary": MultiBinary(5),
    "multi_binary of two axes": MultiBinary([2, 3]),
    "dict": Dict({"z": Discrete(3), "a": Box(-1, 1, (2,), np.float64), "m": MultiBinary(2)}),
    "tuple": Tuple((Discrete(2, start=1), Box(-1, 1, (2, 2), np.float32))),
    "nested": Dict({"b": Tuple((WITH_ORIGIN, Dict({"x": Box(0, 9, (1,), np.float32)}))), "a": Discrete(2)}),
}
ACTED = Discrete(2)


def observed(space: Space[Any]) -> Spaces:
    return spaces_of("X-v0", space, ACTED)


def samples(space: Space[Any], count: int) -> list[Any]:
    space.seed(3)
    return [space.sample() for _ in range(count)]


@pytest.mark.parametrize("space", OBSERVED.values(), ids=OBSERVED)
def test_observations_become_the_vector_that_gymnasium_makes(space: Space[Any]) -> None:
    """Seven samples one by one, and as the batch that a vector environment stacks."""
    seen = samples(space, 7)
    expected = [np.asarray(gymnasium.spaces.utils.flatten(space, one), np.float32) for one in seen]
    room = create_empty_array(space, 7)
    assert room is not None
    batch = concatenate(space, seen, room)
    rows = flatten(space, batch, 7)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, expected)
    for one, row in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(flatten_one(space, one), row)
    spaces = observed(space)
    assert spaces == Spaces(expected[0].shape, "float32", spaces.actions, spaces.choices, spaces.parts)
    chosen = [index for first, count in spaces.choices for index in range(first, first + count)]
    assert set(rows[:, chosen].ravel()) <= {0.0, 1.0}


def test_choices_begin_where_their_numbers_are() -> None:
    """A Dict is in the order of its names: a (two numbers), m (two bits), z (one of three)."""
    assert observed(OBSERVED["dict"]).choices == ((2, 2), (4, 3))
    assert observed(OBSERVED["tuple"]).choices == ((0, 2),)
    assert observed(OBSERVED["multi_binary"]).choices == ((0, 5),)
    assert not observed(Box(-1, 1, (3,), np.float32)).choices


def leaf(observation: Any, name: str) -> Any:
    """The array of this name, as a person would look for it."""
    for key in name.split(".") if name else ():
        observation = observation[int(key)] if isinstance(observation, tuple) else observation[key]
    return observation


@pytest.mark.parametrize("space", OBSERVED.values(), ids=OBSERVED)
def test_the_parts_of_a_vector_are_found_in_it_by_name_and_shape(space: Space[Any]) -> None:
    (one,), spaces = samples(space, 1), observed(space)
    row = flatten_one(space, one)
    assert not spaces.images
    if not spaces.parts:
        return
    assert sum(part.size for part in spaces.parts) == spaces.observation_size
    for part in spaces.parts:
        numbers, given = row[part.first : part.first + part.size].reshape(part.shape), np.asarray(leaf(one, part.name))
        if given.shape == part.shape and not np.issubdtype(given.dtype, np.integer):
            np.testing.assert_array_equal(numbers, given.astype(np.float32))
        else:
            assert numbers.sum() >= 0.0  # a choice, one-hot


def test_names_of_parts_are_keys_and_places() -> None:
    assert [part.name for part in observed(OBSERVED["nested"]).parts] == ["a", "b.0", "b.1.x"]
    assert observed(OBSERVED["wide box"]).parts == (Part("", 0, (2, 3)),)
    assert not observed(OBSERVED["box"]).parts
    assert not observed(OBSERVED["discrete"]).parts


@pytest.mark.parametrize(
    ("space", "scale"),
    [
        (Box(0, 255, (84, 84), np.uint8), 1 / 255),
        (Box(0, 7, (20, 10), np.uint8), 1 / 7),  # a board whose squares hold one of eight things
        (Box(0, 255, (4, 128), np.uint8), 0.0),  # four vectors
        (Box(0, 1, (3, 64, 64), np.float32), 1.0),
        (Box(0, 255, (64, 64, 3), np.float64), 1 / 255),
        (Box(-1, 1, (3, 64, 64), np.float32), 0.0),
        (Box(0, 2, (3, 64, 64), np.float32), 0.0),
        (Box(0, np.inf, (3, 64, 64), np.float32), 0.0),
        (Box(0, 1, (84, 84), np.float32), 0.0),  # a matrix, as far as anybody knows
        (Box(0, 1, (9, 9, 9), np.float32), 0.0),  # which axis is of channels nobody knows
        (Box(0, 0, (84, 84), np.uint8), 0.0),
        (Box(0, 1, (7,), np.float32), 0.0),
    ],
)
def test_what_is_surely_an_image_is_known_for_one(space: Space[Any], scale: float) -> None:
    beside = observed(Dict({"b": space, "a": Discrete(2)}))
    assert [part.scale for part in beside.parts] == [0.0, pytest.approx(scale)]
    alone = observed(space)
    assert [part.scale for part in alone.images] == ([pytest.approx(scale)] if scale else [])
    assert alone.observation_type == "float32"


def test_images_stay_as_they_are() -> None:
    space = Box(0, 255, (4, 5, 3), np.uint8)
    image = samples(space, 1)[0]
    spaces = observed(space)
    assert (spaces.observation_shape, spaces.observation_type, spaces.observation_size) == ((4, 5, 3), "uint8", 60)
    batch = np.stack([image, image])
    assert flatten(space, batch, 2) is batch
    assert flatten_one(space, image).dtype == np.uint8
    np.testing.assert_array_equal(flatten_one(space, image), image)


def test_a_vector_that_is_float32_already_is_not_copied() -> None:
    batch = np.zeros((2, 3), np.float32)
    assert np.shares_memory(flatten(OBSERVED["box"], batch, 2), batch)


REFUSED: dict[str, Space[Any]] = {
    "Text": Text(4),
    "Graph": Graph(Box(0, 1, (2,)), None),
    "Sequence": Sequence(Discrete(2)),
    "OneOf": OneOf([Discrete(2), Discrete(3)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_observations_are_refused_by_name_also_inside(name: str) -> None:
    for space in (REFUSED[name], Dict({"a": Discrete(2), "b": Tuple((REFUSED[name],))})):
        with pytest.raises(SettingError, match=rf"actor\.env = 'X-v0'.*observations must be Box.*{name}"):
            observed(space)


@pytest.mark.parametrize(
    ("name", "space"),
    [
        *REFUSED.items(),
        ("Dict", Dict({})),
        ("Box", Box(0, 1, (2,), np.bool_)),  # type: ignore[arg-type]
    ],
)
def test_other_actions_are_refused_by_name_also_inside(name: str, space: Space[Any]) -> None:
    for whole in (space, Tuple((Discrete(2), Dict({"a": space})))):
        with pytest.raises(SettingError, match=rf"actions must be Discrete.*these hold {name}"):
            spaces_of("X-v0", Discrete(2), whole)


def spoken(space: Space[Any], chosen: list[list[float]]) -> Any:
    """What simulators hear; each row must be an action of the space, and the whole one of the batched space.

    One at a time, and as bytes between processes, it is the same.
    """
    actions = spaces_of("X-v0", Discrete(2), space).actions
    policys = np.array(chosen, np.float32 if actions.low else np.int64)
    told = ActionConverter(actions)(policys)
    assert batch_space(space, len(chosen)).contains(told)
    one_by_one = list(iterate(batch_space(space, len(chosen)), told))
    sent = packed(actions, told)
    assert sent.dtype == np.uint8
    for row, action in enumerate(one_by_one):
        assert space.contains(action)
        for again in (ActionConverter(actions).one(policys[row : row + 1]), unpacked(actions, sent[row].tobytes())):
            assert space.contains(again)
            assert data_equivalence(again, action)
    return told


def test_discrete_actions_are_numbered_from_zero() -> None:
    assert spoken(Discrete(3), [[0], [2]]).tolist() == [0, 2]
    assert spoken(Discrete(3, start=-5), [[0], [2]]).tolist() == [-5, -3]
    actions = spaces_of("X-v0", ACTED, Discrete(3, start=7)).actions
    assert (actions.kind, actions.outputs, actions.width) == ("discrete", 3, 1)


def test_multi_discrete_actions() -> None:
    assert spoken(MultiDiscrete([3, 2]), [[0, 1], [2, 0]]).tolist() == [[0, 1], [2, 0]]
    assert spoken(WITH_ORIGIN, [[0, 1], [2, 0]]).tolist() == [[5, 0], [7, -1]]
    actions = spaces_of("X-v0", ACTED, WITH_ORIGIN).actions
    assert (actions.kind, actions.outputs, actions.width) == ("multi_discrete", 5, 2)


def test_a_box_is_reached_exactly_at_its_bounds_and_never_left() -> None:
    space = Box(np.array([[-2.0, 0.1], [5.0, -1e30]], np.float32), np.array([[2.0, 0.7], [6.0, 3e38]], np.float32))
    told = spoken(space, [[-1] * 4, [1] * 4, [0] * 4, [-9] * 4, [9] * 4])
    low, high = space.low, space.high
    np.testing.assert_array_equal(told[[0, 1, 3, 4]], [low, high, low, high])
    np.testing.assert_allclose(told[2], low / 2 + high / 2, rtol=1e-6)
    actions = spaces_of("X-v0", ACTED, space).actions
    assert (actions.kind, actions.outputs, actions.width, actions.shape) == ("box", 8, 4, (2, 2))
    assert (actions.low, actions.high) == ((-1.0,) * 4, (1.0,) * 4)


def test_an_axis_without_two_finite_bounds_keeps_the_policys_numbers() -> None:
    space = Box(np.array([-np.inf, 0.5, -np.inf], np.float32), np.array([np.inf, np.inf, -3.0], np.float32))
    told = spoken(space, [[1e9, 7.25, -8.0], [-1e9, 0.25, 4.0]])
    np.testing.assert_array_equal(told, np.array([[1e9, 7.25, -8.0], [-1e9, 0.5, -3.0]], np.float32))
    actions = spaces_of("X-v0", ACTED, space).actions
    assert (actions.low, actions.high) == ((-np.inf, 0.5, -np.inf), (np.inf, np.inf, -3.0))


def test_bits_and_tables_of_choices() -> None:
    told = spoken(MultiBinary([2, 2]), [[0, 1, 1, 0]])
    assert (told.dtype, told.tolist()) == (np.int8, [[[0, 1], [1, 0]]])
    told = spoken(MultiDiscrete(np.array([[3, 2], [2, 4]]), start=np.array([[0, 1], [0, -4]])), [[2, 1, 0, 3]])
    assert told.tolist() == [[[2, 2], [0, -1]]]
    actions = spaces_of("X-v0", ACTED, MultiBinary([2, 2])).actions
    assert (actions.kind, actions.outputs, actions.logits, actions.width) == ("multi_discrete", 8, 8, 4)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64])
def test_a_box_of_whole_numbers_is_a_choice_for_each(kind: Any) -> None:
    space = Box(np.array([[3, 0], [1, 9]], kind), np.array([[5, 0], [100, 10]], kind), dtype=kind)
    told = spoken(space, [[2, 0, 99, 1], [0, 0, 0, 0]])
    assert (told.dtype, told.tolist()) == (kind, [[[5, 0], [100, 10]], [[3, 0], [1, 9]]])
    assert spaces_of("X-v0", ACTED, space).actions.choices == (3, 1, 100, 2)


@pytest.mark.parametrize(
    ("space", "why"),
    [
        (Box(0, 256, (2,), np.int64), "257 values to one of 2"),
        (Box(0, 255, (300,), np.uint8), "256 values to one of 300"),
        (Box(-(2**60), 2**60, (1,), np.int64), "no bounds"),
        (Box(np.array([0, -(2**63)]), np.array([1, 5]), dtype=np.int64), "no bounds"),
    ],
)
def test_a_box_of_too_many_whole_numbers_is_refused(space: Box, why: str) -> None:
    with pytest.raises(SettingError, match=rf"(?s)at most 256 values to each and 65,536 in all.*{why}"):
        spaces_of("X-v0", ACTED, space)


def test_dicts_and_tuples_of_choices_have_their_own_structure() -> None:
    space = Dict({"say": MultiDiscrete([3, 2], start=[1, 0]), "move": Tuple((Discrete(2, start=5), MultiBinary(2)))})
    told = spoken(space, [[1, 0, 1, 2, 0], [0, 1, 1, 0, 1]])  # in the order of names: move, say
    assert told["move"][0].tolist() == [6, 5]
    assert told["move"][1].tolist() == [[0, 1], [1, 1]]
    assert told["say"].tolist() == [[3, 0], [1, 1]]
    assert spaces_of("X-v0", ACTED, space).actions.kind == "multi_discrete"
    assert spoken(Dict(only=Discrete(3)), [[2]])["only"].tolist() == [2]
    assert spaces_of("X-v0", ACTED, Tuple((Discrete(3),))).actions.kind == "discrete"
    reals = Tuple((Box(-1, 1, (2,), np.float32), Box(0, 10, (1,), np.float64)))
    told = spoken(reals, [[1, 0, 0.5]])
    assert (told[0].tolist(), told[1].tolist(), told[1].dtype) == ([[1, 0]], [[7.5]], np.float64)
    assert spaces_of("X-v0", ACTED, reals).actions.kind == "box"


def test_of_choices_and_real_numbers_the_choices_come_first() -> None:
    space = Dict(aim=Box(-2, 2, (2,), np.float32), fire=Discrete(2), to=Tuple((Box(0, 1, (1,)), MultiDiscrete([3, 4]))))
    actions = spaces_of("X-v0", ACTED, space).actions
    assert (actions.kind, actions.choices, actions.logits, actions.outputs, actions.width) == (
        "mixed",
        (2, 3, 4),
        9,
        15,
        6,
    )
    told = spoken(space, [[1, 2, 3, 0.5, -9, 1], [0, 0, 0, -1, 1, 0]])
    assert told["aim"].tolist() == [[1, -2], [-2, 2]]
    assert told["fire"].tolist() == [1, 0]
    assert told["to"][0].tolist() == [[1], [0.5]]
    assert told["to"][1].tolist() == [[2, 3], [0, 0]]


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(FINITE, FINITE)
def test_a_box_of_float64_is_never_left_by_rounding(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low == high:
        return
    space = Box(np.array([low]), np.array([high]), dtype=np.float64)
    told = spoken(space, [[-1], [1]])
    assert told.dtype == np.float64
    ulp = np.spacing(max(abs(low), abs(high)) / 2)
    assert abs(told[0, 0] / 4 - low / 4) <= ulp  # two of its bounds'
    assert abs(told[1, 0] / 4 - high / 4) <= ulp
