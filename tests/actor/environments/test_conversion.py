"""Observations against Gymnasium's own flattening, and actions against the spaces that must contain them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, OneOf, Sequence, Space, Text, Tuple
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st

from actor.environments.conversion import ActionConverter, flatten, flatten_one, spaces_of
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
        ("MultiBinary", MultiBinary(3)),
        ("Dict", Dict({"a": Discrete(2)})),
        ("MultiDiscrete", MultiDiscrete(np.array([[2, 2], [2, 2]]))),
        ("Box", Box(0, 9, (2,), np.int32)),
    ],
)
def test_other_actions_are_refused_by_name(name: str, space: Space[Any]) -> None:
    with pytest.raises(SettingError, match=rf"actions must be Discrete.*these are {name}"):
        spaces_of("X-v0", Discrete(2), space)


def spoken(space: Space[Any], chosen: list[list[float]]) -> np.ndarray:
    """What simulators hear; each row must be an action of the space, and the whole one of the batched space."""
    actions = spaces_of("X-v0", Discrete(2), space).actions
    told = ActionConverter(actions)(np.array(chosen, np.float32 if actions.kind == "box" else np.int64))
    assert batch_space(space, len(chosen)).contains(told)
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
