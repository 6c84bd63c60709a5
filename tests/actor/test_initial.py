"""θ₀: follows from the seed, fits its layout, and comes back from its file."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors

from actor.config import ActorSettings, Stage
from actor.initial import Unwritable, initial, write
from protocol.errors import SettingError
from protocol.layout import Layout
from protocol.manifest import digest_of

SETTINGS = ActorSettings(env="CartPole-v1", hidden=(8,), normalize_observations=False, normalize_returns=False)


def test_the_layout_fits() -> None:
    made = initial(SETTINGS, 0, ())
    assert made.theta.dtype == np.float32
    assert made.theta.shape == (made.layout.length,)
    assert made.layout.length == (4 * 8 + 8) * 2 + (8 * 2 + 2) + (8 + 1)


def test_the_seed_decides() -> None:
    first, again, other = (initial(SETTINGS, seed, ()).theta for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_observation_size_is_told_only_where_it_is_normalised() -> None:
    assert initial(SETTINGS, 0, ()).observation_size == 0
    normalised = msgspec.structs.replace(SETTINGS, normalize_observations=True)
    assert initial(normalised, 0, ()).observation_size == 4
    with_returns = msgspec.structs.replace(normalised, normalize_returns=True)
    assert initial(with_returns, 0, ()).observation_size == 5


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    made = initial(SETTINGS, 3, ())
    write(made, tmp_path / "theta.safetensors", b"\x01\xff")
    with safetensors.safe_open(tmp_path / "theta.safetensors", framework="numpy") as file:
        metadata = file.metadata()
        np.testing.assert_array_equal(file.get_tensor("theta"), made.theta)
    assert msgspec.json.decode(metadata["layout"], type=Layout) == made.layout
    assert (metadata["env"], metadata["observation_size"]) == ("CartPole-v1", "0")
    assert (metadata["seed"], metadata["actor_digest"]) == ("3", digest_of(b"\x01\xff").hex())
    assert base64.b64decode(metadata["actor_table"]) == b"\x01\xff"
    assert [path.name for path in tmp_path.iterdir()] == ["theta.safetensors"]


def test_an_unknown_environment_is_named() -> None:
    with pytest.raises(SettingError, match="CartPole-v9"):
        initial(msgspec.structs.replace(SETTINGS, env="CartPole-v9"), 0, ())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match="No such file or directory"):
        write(initial(SETTINGS, 0, ()), tmp_path / "absent" / "theta", b"")


def test_the_environments_of_all_stages_are_for_the_same_network() -> None:
    alike = (Stage(100, {"env_options": {"sutton_barto_reward": True}}), Stage(200, {"discount": 0.9}))
    assert initial(msgspec.structs.replace(SETTINGS, curriculum=alike), 0, ()).theta.size
    other = (Stage(100, {"discount": 0.9}), Stage(200, {"env": "Acrobot-v1"}))
    words = r"\[1\]\.set = .*Acrobot-v1 is then another: its observation is float32 \[6\] and was .*\[4\]; one"
    with pytest.raises(SettingError, match=words):
        initial(msgspec.structs.replace(SETTINGS, curriculum=other), 0, ())
