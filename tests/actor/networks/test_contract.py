"""How a network of a user's own is found, and what it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actor.config import ActorSettings
from actor.networks.contract import find_network, spec_of
from actor.spaces import Part, Spaces
from protocol.errors import SettingError, UserError
from tests.actor.counter import box, discrete, vectors

ALLOWED = frozenset({"contract_nets", "contract_broken"})
NETS = """
def plain(spec, width=3, *, depth=1): return spec, width, depth
def open_to_all(spec, **options): return options
NUMBER = 7
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "contract_nets.py").write_text(NETS)
    (tmp_path / "contract_broken.py").write_text("\n\nprint(undefined)\n")
    metadata = tmp_path / "nets-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nets\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[farflung.networks]\ntall = contract_nets:plain\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("contract_nets", None)


def test_one_of_ours_is_none_of_a_users() -> None:
    assert find_network(ActorSettings(network="mlp"), frozenset()) is None


def test_it_is_found_in_a_module_and_among_what_packages_register() -> None:
    named = ActorSettings(network="contract_nets:plain", network_options={"depth": 2})
    factory, registered = find_network(named, ALLOWED), find_network(ActorSettings(network="tall"), frozenset())
    assert factory is not None
    assert factory("spec", depth=2) == ("spec", 3, 2)
    assert registered is factory
    free = ActorSettings(network="contract_nets:open_to_all", network_options={"any": 1})
    assert find_network(free, ALLOWED) is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ActorSettings(network="elsewhere:Net"), r"module 'elsewhere'.*not allow; --allow-module elsewhere would"),
        (ActorSettings(network="contract_nets:Plane"), r"'contract_nets:Plane': module contract_nets has no 'Plane'"),
        (ActorSettings(network="contract_nets:NUMBER"), r"must be a callable that makes a torch.nn.Module, and is int"),
        (
            ActorSettings(network="contract_broken:Net"),
            r"module .* which raised NameError: name 'undefined' is not defined \(contract_broken.py, line 3\)",
        ),
        (
            ActorSettings(network="natur"),
            r"'natur': expected one of auto, .*nature; one of .*; installed packages register tall; .*'nature'\?",
        ),
        (ActorSettings(network="cnn"), r"did you mean 'nature'\?"),
        (
            ActorSettings(network="contract_nets:plain", network_options={"witdh": 4}),
            r"options = \{'witdh': 4\}: contract_nets:plain refused .*'witdh'; it takes width, depth; .*mean width\?",
        ),
    ],
)
def test_what_cannot_be_found_is_told_in_one_sentence(settings: ActorSettings, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        find_network(settings, ALLOWED)
    assert isinstance(caught.value, SettingError) or "module" in words


def test_a_network_is_told_the_spaces_as_the_environment_has_them() -> None:
    spec = spec_of(ActorSettings(), vectors(5, discrete(3)))
    assert (spec.observation_shape, spec.observation_dtype, spec.outputs) == ((5,), "float32", 3)
    assert (spec.actions, spec.values) == ("discrete", True)
    film = spec_of(ActorSettings(algorithm="n_step_q"), Spaces((4, 84, 84), "uint8", discrete(6)))
    assert (film.observation_shape, film.observation_dtype, film.values) == ((4, 84, 84), "uint8", False)
    arm = spec_of(ActorSettings(), vectors(5, box((-1.0, -1.0), (1.0, 1.0))))
    assert (arm.actions, arm.outputs) == ("box", 4)


def test_a_network_is_told_the_parts_of_an_observation_by_name() -> None:
    matrix = Spaces((6,), "float32", discrete(2), parts=(Part("", 0, (2, 3)),))
    assert spec_of(ActorSettings(), matrix).observation_shape == (2, 3)
    parts = (Part("image", 0, (2, 2), "uint8", 1 / 255), Part("vector", 4, (3,)))
    both = spec_of(ActorSettings(), Spaces((7,), "float32", discrete(2), parts=parts))
    assert both.observation_shape == {"image": (2, 2), "vector": (3,)}
    assert both.observation_dtype == {"image": "uint8", "vector": "float32"}
