"""What a run has learnt, for programs of one's own. Knows run directories, spaces and networks; no wire.

The environment is made once, to ask for its spaces, unless they are given. Where it may tell masks of actions beside
its observations it is also reset once, to see whether it does. Nothing steps it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actor.algorithms.curriculum import last
from actor.algorithms.distributions import masked
from actor.algorithms.own import declared
from actor.config import ActorSettings, read_settings
from actor.environments.conversion import ActionConverter, ObservationConverter, composed
from actor.environments.masks import Convention, told_by
from actor.environments.registry import described, looked_at
from actor.evaluation import checkpoints
from actor.evaluation.allowed import MaskReader, count_of
from actor.evaluation.checkpoints import SavedWeights
from actor.evaluation.play import Player
from actor.spaces import ActionArray
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
    allowed = frozenset(allow_modules)
    settings = last(read_settings(manifest.actor_table, declared(allowed)))
    masks: Convention | None = None
    if spaces is None:
        observations, actions, masks = looked_at(settings, allowed)
        spaces = observations, actions
    return Policy(settings, spaces, manifest.layout, learnt, seed, masks, allowed)


class Policy:
    """A policy with its weights; ``farflung.load_policy`` makes it. Observations and actions are the environment's own.

    With a memory it remembers one episode, or as many as a batch holds, from ``reset`` on.

    Attributes:
        env: The environment's id; of a curriculum that of its last stage.
        version: Of the weights: gradients that were applied.
        observation_space: Gymnasium's, of one environment.
        action_space: Likewise.
        masks: Where the environment tells which actions it allows: ``"info"``, ``"observation"`` or ``"method"``, as
            ``actor.action_mask`` has it. ``"none"`` where it does not, or where nobody could ask it.
        spaces: What the network sees and chooses, as plain data.
        generator: What ``stochastic=True`` draws from.
    """

    def __init__(
        self,
        settings: ActorSettings,
        spaces: tuple[Any, Any],
        layout: Layout,
        learnt: SavedWeights,
        seed: int | None,
        masks: Convention | None = None,
        allowed_modules: frozenset[str] = frozenset(),
    ) -> None:
        self.env, self.version = settings.env, learnt.version
        self.observation_space, self.action_space = spaces
        asked = settings.action_mask
        visible, masking = told_by(settings.env, *spaces, asked, has_method=asked == "method")
        self.masks: Convention = masks or (masking.by if masking.certain else "none")
        self.spaces = described(settings, visible, self.action_space)
        self.generator = np.random.default_rng(seed)
        self._settings = settings
        self._player = Player(settings, self.spaces, layout, allowed_modules)
        self._player.load(learnt.theta, learnt.moments)
        self._observations = ObservationConverter(visible)
        self._actions = ActionConverter(self.spaces.actions)
        self._masks = MaskReader(self.env, self.observation_space, self.spaces.actions, self.masks)
        self.reset()

    def reset(self) -> None:
        """An episode begins: the memory forgets. Without a memory it does nothing."""
        self._count: int | None = None

    def act(
        self,
        observation: Any,
        *,
        mask: Any = None,
        batch: bool = False,
        stochastic: bool = False,
        starts: NDArray[np.bool_] | None = None,
    ) -> Any:
        """The action for an observation.

        Args:
            observation: As the environment gives it: an array, a number, a dict or a tuple. With ``batch`` those of B
                environments, as Gymnasium's vector environments give them.
            mask: Which choices are allowed, as the environment tells it (docs/actions.md): 1 or True for each of L
                values, or a tuple or dict of such arrays. With ``batch`` bool [B, L], or a sequence of B masks. None:
                the mask that the observation holds, and else all choices.
            batch: Whether these are the observations of several environments.
            stochastic: Draw from the policy, as training did. Otherwise the most probable action is taken, or the one
                with the highest value.
            starts: bool [B], with ``batch`` and a memory: which of the environments begin an episode here.

        Returns:
            The action as the environment's ``step`` takes it; with ``batch`` B of them, as a vector environment does.

        Raises:
            UserError: The observation is none of the environment's, the mask does not fit or allows nothing, the
                environment tells masks and none was given, or there is no distribution to draw from.
        """
        if stochastic:
            self._check_distribution()
        outputs, masks = self._outputs(observation, mask, batch, starts, remember=True)
        player = self._player
        chosen = player.draw(outputs, self.generator, masks) if stochastic else player.best(outputs, masks)
        return self._actions(chosen) if batch else self._actions.one(chosen)

    def probabilities(self, observation: Any, *, mask: Any = None, batch: bool = False) -> Any:
        """How probable each choice is, where actions hold choices. The memory stays where it is.

        Args:
            observation: As ``act`` takes it.
            mask: Likewise. What it does not allow has probability 0.
            batch: Whether these are the observations of several environments.

        Returns:
            float32 [n] for a Discrete action, in the order of its numbers; for an array of choices a tuple, with such
            an array for each. Of a Dict or Tuple a dict or tuple of these, with None for real numbers. With ``batch``
            each array is [B, n].

        Raises:
            UserError: Actions hold no choice, or the run learnt the values of actions; or as ``act`` does.
        """
        self._check_distribution()
        actions = self.spaces.actions
        if not actions.choices:
            raise UserError(f"actions of {self.env} are not chosen from a list, and so none has a probability")
        outputs, masks = self._outputs(observation, mask, batch, None, remember=False)
        logits = masked(outputs[:, : actions.logits], masks)
        parts = [_softmax(part) for part in np.split(logits, np.cumsum(actions.choices)[:-1], 1)]
        found = parts if batch else [part[0] for part in parts]
        if not actions.arrays:
            return found[0] if actions.kind == "discrete" else tuple(found)
        return composed([(array.path, _of_array(array, found)) for array in actions.arrays])

    @property
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The network's parameters by their names, as copies."""
        return self._player.arrays

    def flatten(self, observation: Any, *, batch: bool = False) -> NDArray[Any]:
        """What files of ``to_onnx`` and ``to_torchscript`` take for an observation, or with ``batch`` for B of them.

        Returns:
            float32 [N, D]; of images of bytes with three axes uint8 [N, *shape]. N is 1, or B. A mask that the
            observation holds is left out.

        Raises:
            UserError: The observation is none of the environment's.
        """
        return self._rows(self._masks.apart(observation, given=True)[0], batch)

    def flatten_mask(self, mask: Any, *, batch: bool = False) -> NDArray[np.bool_]:
        """What files take as ``mask``: bool [N, L], a number for each value of each choice. N is 1, or B.

        Args:
            mask: As the environment tells it, and as ``act`` takes it.
            batch: Whether these are B masks: bool [B, L], or a sequence of them.

        Raises:
            UserError: The mask does not fit, or allows nothing.
        """
        count = count_of(mask) if batch else 1
        if not count:
            raise UserError("batch=True takes one mask or more, and these are none")
        return self._masks.beside(mask, count, batch)

    def to_onnx(self, path: str | os.PathLike[str], *, mask: bool | None = None) -> Path:
        """Writes the policy as an ONNX file, normalisation included. Its batch has any size.

        Inputs are ``observation``, as ``flatten`` gives it; with a memory ``state``, zeros at first; and ``mask``, as
        ``flatten_mask`` gives it. Outputs are ``action`` in the environment's numbers, of a Dict or Tuple
        ``action.NAME`` for each array; ``logits`` or ``action_values``, -infinity where the mask forbids; ``mean`` and
        ``log_deviation`` of real numbers; and ``next_state``. Everything is computed in float32.

        Args:
            path: Of the file.
            mask: Whether the file has the input ``mask``. None: where ``Policy.masks`` says that there are masks.

        Returns:
            The path.

        Raises:
            UserError: The extra ``onnx`` is missing, or this policy cannot be written.
        """
        portable = self._portable(mask)
        from actor.evaluation.portable import write_onnx

        about = {"farflung.env": self.env, "farflung.version": str(self.version)}
        write_onnx(Path(path), portable, about)
        return Path(path)

    def to_torchscript(self, path: str | os.PathLike[str], *, mask: bool | None = None) -> Path:
        """Writes the policy as a TorchScript file; the module gives a dict of the outputs of ``to_onnx``.

        Args:
            path: Of the file.
            mask: As of ``to_onnx``.

        Returns:
            The path.

        Raises:
            UserError: torch is missing, or this policy cannot be written.
        """
        portable = self._portable(mask)
        from actor.evaluation.portable import write_torchscript

        write_torchscript(Path(path), portable)
        return Path(path)

    def _portable(self, mask: bool | None) -> Portable:
        if find_spec("torch") is None:
            raise UserError("not installed here: torch, which writes files of policies")
        masks = self.masks != "none" if mask is None else mask
        if masks and not self.spaces.actions.choices:
            raise UserError(f"mask=True: a mask says which choices are allowed, and actions of {self.env} hold none")
        from actor.evaluation.portable import Portable

        network, transform = self._player.network, self._player.transform
        normalizer = None if network.sees_bytes else transform.normalizer
        return Portable(self._settings, self.spaces, network, normalizer, masks=masks)

    def _outputs(
        self, observation: Any, mask: Any, batch: bool, starts: NDArray[np.bool_] | None, *, remember: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """The network's outputs, [N, K], and which of the choices are allowed, [N, L]."""
        visible, held = self._masks.apart(observation, given=mask is not None)
        seen = self._rows(visible, batch)
        masks = None
        if mask is not None:
            masks = self._masks.beside(mask, len(seen), batch)
        elif held is not None:
            masks = self._masks.within(held, len(seen), batch)
        else:
            self._masks.none()
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
        return self._player.outputs(seen, begin, remember=remember), masks

    def _rows(self, visible: Any, batch: bool) -> NDArray[Any]:
        return self._observations.batch(visible) if batch else self._observations.one(visible)

    def _check_distribution(self) -> None:
        if not self._settings.traits.stochastic:
            learnt = f"the run learnt values of actions (actor.algorithm = {self._settings.algorithm!r})"
            raise UserError(f"{learnt}, and these are no distribution")


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return shares


def _of_array(array: ActionArray, found: list[NDArray[np.float32]]) -> Any:
    """The probabilities of one array in an action; None of one of real numbers. found: of all choices."""
    own = [found[column] for column in array.columns if column < len(found)]
    if len(own) < len(array.columns):
        return None
    return tuple(own) if array.shape else own[0]
