"""What a run has learnt, for programs of one's own. Knows run directories, spaces and networks; no wire.

The environment is made once, to ask for its spaces, unless they are given; nothing steps it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actor.config import ActorSettings, read_settings
from actor.environments.conversion import ActionConverter, ObservationConverter, first_of
from actor.environments.registry import described, gymnasium_spaces
from actor.evaluation import checkpoints
from actor.evaluation.checkpoints import SavedWeights
from actor.evaluation.play import Player
from protocol.errors import UserError
from protocol.layout import Layout

if TYPE_CHECKING:
    from actor.evaluation.portable import Portable


def load(
    run_dir: str | os.PathLike[str],
    *,
    best: bool,
    allow_modules: Iterable[str],
    spaces: tuple[Any, Any] | None,
    seed: int | None,
) -> Policy:
    """As ``farflung.load_policy``, which says what is what. Raises UserError."""
    folder = Path(run_dir)
    manifest = checkpoints.read_manifest(folder)
    find = checkpoints.best if best else checkpoints.newest
    learnt = find(folder / "checkpoints")
    settings = read_settings(manifest.actor_table)
    if spaces is None:
        spaces = gymnasium_spaces(settings, frozenset(allow_modules), pools=False)
    return Policy(settings, spaces, manifest.layout, learnt, seed)


class Policy:
    """A policy with its weights; ``farflung.load_policy`` makes it. Observations and actions are the environment's own.

    With a memory it remembers one episode, or as many as a batch holds, from ``reset`` on.

    Attributes:
        env: The environment's id.
        version: Of the weights: gradients that were applied.
        observation_space: Gymnasium's, of one environment.
        action_space: Likewise.
        spaces: What the network sees and chooses, as plain data.
        generator: What ``stochastic=True`` draws from.
    """

    def __init__(
        self, settings: ActorSettings, spaces: tuple[Any, Any], layout: Layout, learnt: SavedWeights, seed: int | None
    ) -> None:
        self.env, self.version = settings.env, learnt.version
        self.observation_space, self.action_space = spaces
        self.spaces = described(settings, *spaces)
        self.generator = np.random.default_rng(seed)
        self._settings = settings
        self._player = Player(settings, self.spaces, layout)
        self._player.load(learnt.theta, learnt.moments)
        self._observations = ObservationConverter(self.observation_space)
        self._actions = ActionConverter(self.spaces.actions)
        self.reset()

    def reset(self) -> None:
        """An episode begins: the memory forgets. Without a memory it does nothing."""
        self._count: int | None = None

    def act(
        self,
        observation: Any,
        *,
        batch: bool = False,
        stochastic: bool = False,
        starts: NDArray[np.bool_] | None = None,
    ) -> Any:
        """The action for an observation.

        Args:
            observation: As the environment gives it: an array, a number, a dict or a tuple. With ``batch`` those of B
                environments, as Gymnasium's vector environments give them.
            batch: Whether these are the observations of several environments.
            stochastic: Draw from the policy, as training did. Otherwise the most probable action is taken, or the one
                with the highest value.
            starts: bool [B], with ``batch`` and a memory: which of the environments begin an episode here.

        Returns:
            The action as the environment's ``step`` takes it; with ``batch`` B of them, as a vector environment does.

        Raises:
            UserError: The observation is none of the environment's, or there is no distribution to draw from.
        """
        if stochastic:
            self._check_distribution()
        outputs = self._outputs(observation, batch, starts, remember=True)
        player = self._player
        converted = self._actions(player.draw(outputs, self.generator) if stochastic else player.best(outputs))
        return converted if batch else first_of(converted)

    def probabilities(self, observation: Any, *, batch: bool = False) -> Any:
        """How probable each choice is, where actions are chosen from lists. The memory stays where it is.

        Returns:
            float32 [n] for Discrete actions, in the order of their numbers; a tuple of such arrays for MultiDiscrete
            ones. With ``batch`` each is [B, n].

        Raises:
            UserError: The actions are numbers, or the run learnt the values of actions.
        """
        self._check_distribution()
        actions = self.spaces.actions
        if actions.kind not in ("discrete", "multi_discrete"):
            raise UserError(f"actions of {self.env} are not chosen from a list, and so none has a probability")
        outputs = self._outputs(observation, batch, None, remember=False)
        parts = [_softmax(part) for part in np.split(outputs, np.cumsum(actions.sizes)[:-1], 1)]
        found = parts if batch else [part[0] for part in parts]
        return found[0] if actions.kind == "discrete" else tuple(found)

    @property
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The network's parameters by their names, as copies."""
        return self._player.arrays

    def flatten(self, observation: Any, *, batch: bool = False) -> NDArray[Any]:
        """What files of ``to_onnx`` and ``to_torchscript`` take for an observation, or with ``batch`` for B of them.

        Returns:
            float32 [N, D]; of images uint8 [N, *shape]. N is 1, or B.
        """
        return self._observations.batch(observation) if batch else self._observations.one(observation)

    def to_onnx(self, path: str | os.PathLike[str]) -> Path:
        """Writes the policy as an ONNX file, normalisation included. Its batch has any size.

        Inputs are ``observation``, as ``flatten`` gives it, and with a memory ``state``, zeros at first. Outputs are
        ``action`` in the environment's numbers, ``logits`` or ``action_values``, or ``mean`` and ``log_deviation``; and
        ``next_state``. Everything is computed in float32.

        Returns:
            The path.

        Raises:
            UserError: The extra ``onnx`` is missing, or this policy cannot be written.
        """
        portable = self._portable()
        from actor.evaluation.portable import write_onnx

        about = {"farflung.env": self.env, "farflung.version": str(self.version)}
        write_onnx(Path(path), portable, about)
        return Path(path)

    def to_torchscript(self, path: str | os.PathLike[str]) -> Path:
        """Writes the policy as a TorchScript file; the module gives a dict of the outputs of ``to_onnx``.

        Returns:
            The path.

        Raises:
            UserError: torch is missing, or this policy cannot be written.
        """
        portable = self._portable()
        from actor.evaluation.portable import write_torchscript

        write_torchscript(Path(path), portable)
        return Path(path)

    def _portable(self) -> Portable:
        if find_spec("torch") is None:
            raise UserError("not installed here: torch, which writes files of policies")
        example: Any = self._actions(np.zeros((1, self.spaces.actions.width), np.int64))
        if not isinstance(example, np.ndarray):
            made = type(example).__name__
            raise UserError(f"actions of {self.env} are a {made} of arrays, and a file gives one array for an action")
        from actor.evaluation.portable import Portable

        network, transform = self._player.network, self._player.transform
        normalizer = None if network.sees_bytes else transform.normalizer
        return Portable(self._settings, self.spaces, network, normalizer)

    def _outputs(
        self, observation: Any, batch: bool, starts: NDArray[np.bool_] | None, *, remember: bool
    ) -> NDArray[np.float32]:
        seen = self.flatten(observation, batch=batch)
        if self._count is None:
            self._player.reset_memory(len(seen))
            self._count = len(seen)
        if self._player.network.state_size and len(seen) != self._count:
            raise UserError(
                f"the memory holds {self._count} environments, and these are observations of {len(seen)}; "
                "reset() begins anew"
            )
        begin = np.zeros(len(seen), np.bool_) if starts is None else np.asarray(starts, np.bool_)
        if begin.shape != (len(seen),):
            raise UserError(f"starts must have the shape {[len(seen)]}, and it has {list(begin.shape)}")
        return self._player.outputs(seen, begin, remember=remember)

    def _check_distribution(self) -> None:
        if not self._settings.traits.stochastic:
            learnt = f"the run learnt values of actions (actor.algorithm = {self._settings.algorithm!r})"
            raise UserError(f"{learnt}, and these are no distribution")


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return shares
