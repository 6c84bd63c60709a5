"""How an accepted gradient changes θ. Pure: numbers in, θ changed in place. The only file that imports torch, late.

Two houses. Where the actors have preconditioned, what arrives is an update u, and θ ← θ − rate·scale·u costs O(k) for k
sent coordinates. With the others the optimizer lives here, gradients arrive, and every step costs O(P).

Where staleness acts differs. Adam, RMSProp and Lion take the gradient's own size out, so a gradient scaled by 0.1 would
move θ almost as far as a whole one: the scale multiplies the learning rate of that step. In SGD with momentum it
multiplies the gradient, because a stale gradient must also weigh less in the velocity that outlives its step.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from learner import config
from learner.config import LearnerSettings
from protocol.codecs.registry import Sparse
from protocol.errors import UserError
from protocol.settings import Choice
from protocol.updates import BLOCK, subtract

TorchSettings = config.Adam | config.RMSProp | config.SGD  # AdamW is an Adam


class Optimizer(Protocol):
    """One rule of change, bound to one θ: float32 [P], written in place.

    scratch: float32 [P] of its own, into which a dense gradient may be decoded to save a copy; None: it has no use
    for one. adds: whether a step is θ ← θ − rate·scale·value, and nothing besides.
    """

    adds: bool

    @property
    def scratch(self) -> np.ndarray | None: ...

    def step(self, value: np.ndarray | Sparse, rate: float, scale: float) -> None:
        """Apply one gradient or update. rate: learning rate, >= 0. scale: staleness, 0 < scale <= 1."""

    def mean_square(self, where: slice | np.ndarray, gradient: np.ndarray) -> np.ndarray | None:
        """Running mean of squared gradients as a step with ``gradient`` would leave it; None where none is kept.

        where: the coordinates that gradient, float32 [k], is of. Changes nothing.
        """

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all that the next step depends on besides θ."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take back what ``state`` gave; raises StateMismatch, having changed nothing."""


class StateMismatch(UserError):
    """Saved arrays belong to another optimizer or another network. name: the array. expected, found: None is absent."""

    def __init__(self, name: str, expected: np.ndarray | None, found: np.ndarray | None) -> None:
        super().__init__(name)
        self.name, self.expected, self.found = name, _describe(expected), _describe(found)

    def __str__(self) -> str:
        return f"saved array {self.name!r} is {self.found}; this experiment needs {self.expected}"


def state_names(chosen: Choice) -> tuple[str, ...]:
    """The arrays that an optimizer keeps, whatever the network. chosen: its settings."""
    if isinstance(chosen, config.Adam):
        return ("step", "exp_avg", "exp_avg_sq")
    if isinstance(chosen, config.RMSProp):
        return ("step", "square_avg")
    if isinstance(chosen, config.SGD):
        return ("momentum_buffer",) if chosen.momentum > 0.0 else ()
    return {config.Lion: ("exp_avg",), config.PaperRMSProp: ("square_avg",)}.get(type(chosen), ())


def make_optimizer(settings: LearnerSettings, theta: np.ndarray) -> Optimizer:
    """The optimizer that the settings name, bound to theta: float32 [P], contiguous, writable."""
    assert theta.dtype == np.float32
    assert theta.ndim == 1
    assert theta.flags.c_contiguous
    assert theta.flags.writeable
    chosen = settings.optimizer
    if isinstance(chosen, config.Preconditioned):
        return Addition(theta)
    if isinstance(chosen, config.PaperRMSProp):
        return PaperRMSProp(chosen, theta)
    if isinstance(chosen, config.Lion):
        return Lion(chosen, theta)
    return TorchOptimizer(chosen, theta)


class Addition:
    """θ ← θ − rate·scale·u. The product rate·scale is rounded to float32 once, so a replay repeats it to the bit."""

    adds = True
    scratch: np.ndarray | None = None

    def __init__(self, theta: np.ndarray) -> None:
        self._theta = theta

    def step(self, value: np.ndarray | Sparse, rate: float, scale: float) -> None:
        """Optimizer.step: what followers of the weight stream do, too."""
        subtract(self._theta, value, np.float32(rate * scale))

    def mean_square(self, where: slice | np.ndarray, gradient: np.ndarray) -> np.ndarray | None:
        """Optimizer.mean_square: the actors hold the moments, and have divided by their root."""
        return None

    def state(self) -> dict[str, np.ndarray]:
        """Optimizer.state: the actors hold the moments."""
        return {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Optimizer.restore."""
        _check(state, {})


class PaperRMSProp:
    """Shared RMSProp of Mnih et al. 2016, equations 8 and 9, ε inside the root. In place, block by block.

    g ← ρ·g + (1 − ρ)·Δθ²;  θ ← θ − rate·scale·Δθ / √(g + ε).
    """

    adds = False

    def __init__(self, settings: config.PaperRMSProp, theta: np.ndarray) -> None:
        self._theta, self._rho, self._epsilon = theta, settings.rho, settings.epsilon
        self._gradient = GradientBuffer(theta.size, settings.max_gradient_norm)
        self._square = np.zeros_like(theta)  # g: float32 [P], running mean of squared gradients
        self._scratch = np.empty(min(BLOCK, theta.size), np.float32)

    @property
    def scratch(self) -> np.ndarray | None:
        """Optimizer.scratch."""
        return self._gradient.array

    def step(self, value: np.ndarray | Sparse, rate: float, scale: float) -> None:
        """Optimizer.step."""
        gradient, factor = self._gradient.take(value, 1.0), np.float32(rate * scale)
        for run in _blocks(gradient.size):
            self._step_block(gradient[run], self._square[run], self._theta[run], factor)

    def _step_block(self, gradient: np.ndarray, square: np.ndarray, theta: np.ndarray, factor: np.float32) -> None:
        """gradient, square, theta: float32 [at most BLOCK], views of one run."""
        scratch = self._scratch[: gradient.size]
        np.multiply(gradient, gradient, out=scratch)
        scratch *= np.float32(1.0 - self._rho)
        square *= np.float32(self._rho)
        square += scratch
        np.add(square, np.float32(self._epsilon), out=scratch)
        np.sqrt(scratch, out=scratch)
        np.divide(gradient, scratch, out=scratch)
        scratch *= factor
        theta -= scratch

    def mean_square(self, where: slice | np.ndarray, gradient: np.ndarray) -> np.ndarray | None:
        """Optimizer.mean_square."""
        return _faded(self._square[where], gradient, self._rho)

    def state(self) -> dict[str, np.ndarray]:
        """Optimizer.state."""
        return {"square_avg": self._square.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Optimizer.restore."""
        _check(state, {"square_avg": self._square})
        np.copyto(self._square, state["square_avg"])


class Lion:
    """Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2. In place, block by block.

    c ← β1·m + (1 − β1)·g;  θ ← θ − rate·scale·(sign(c) + λ·θ);  m ← β2·m + (1 − β2)·g.
    """

    adds = False

    def __init__(self, settings: config.Lion, theta: np.ndarray) -> None:
        self._theta, self._settings = theta, settings
        self._gradient = GradientBuffer(theta.size, settings.max_gradient_norm)
        self._momentum = np.zeros_like(theta)  # m: float32 [P]
        self._scratch = np.empty((2, min(BLOCK, theta.size)), np.float32)

    @property
    def scratch(self) -> np.ndarray | None:
        """Optimizer.scratch."""
        return self._gradient.array

    def step(self, value: np.ndarray | Sparse, rate: float, scale: float) -> None:
        """Optimizer.step: a sign knows no size, so the scale multiplies the rate."""
        gradient, factor = self._gradient.take(value, 1.0), np.float32(rate * scale)
        kept = np.float32(1.0 - rate * scale * self._settings.weight_decay)
        for run in _blocks(gradient.size):
            self._step_block(gradient[run], self._momentum[run], self._theta[run], factor, kept)

    def _step_block(
        self, gradient: np.ndarray, momentum: np.ndarray, theta: np.ndarray, factor: np.float32, kept: np.float32
    ) -> None:
        """gradient, momentum, theta: float32 [at most BLOCK], views of one run. kept: of θ, by the decay."""
        beta1, beta2 = self._settings.beta1, self._settings.beta2
        direction, fresh = self._scratch[:, : gradient.size]
        np.multiply(momentum, np.float32(beta1), out=direction)
        np.multiply(gradient, np.float32(1.0 - beta1), out=fresh)
        direction += fresh
        np.sign(direction, out=direction)
        direction *= factor
        theta *= kept
        theta -= direction
        np.multiply(gradient, np.float32(1.0 - beta2), out=fresh)
        momentum *= np.float32(beta2)
        momentum += fresh

    def mean_square(self, where: slice | np.ndarray, gradient: np.ndarray) -> np.ndarray | None:
        """Optimizer.mean_square: no squares are kept."""
        return None

    def state(self) -> dict[str, np.ndarray]:
        """Optimizer.state."""
        return {"exp_avg": self._momentum.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Optimizer.restore."""
        _check(state, {"exp_avg": self._momentum})
        np.copyto(self._momentum, state["exp_avg"])


class TorchOptimizer:
    """Adam, AdamW, RMSprop (ε outside the root) or SGD of ``torch.optim``, on one flat tensor that shares θ's memory.

    The state is made here, in numpy arrays that torch writes through, so it can be saved before the first step and
    restored in place; zeros are exactly what torch itself begins with.
    """

    adds = False

    def __init__(self, settings: TorchSettings, theta: np.ndarray) -> None:
        import torch

        # Two threads waiting for each other on busy cores made a step of 10 k parameters 4 ms instead of 0.05 ms, and
        # one thread already keeps up with memory at 1.7 M. Holds for every thread of the process.
        torch.set_num_threads(1)
        self._settings, self._scales_gradient = settings, isinstance(settings, config.SGD)
        self._gradient = GradientBuffer(theta.size, settings.max_gradient_norm)
        self._tensor = torch.from_numpy(theta)
        self._tensor.grad = torch.from_numpy(self._gradient.array)
        self._optimizer = _torch_rule(settings, self._tensor)
        self._state = {
            name: np.zeros((() if name == "step" else theta.shape), np.float32) for name in state_names(settings)
        }
        # torch counts its steps in a float32 scalar; past 2**24 it stands still, when bias corrections are long 1.
        self._optimizer.state[self._tensor] = {name: torch.from_numpy(kept) for name, kept in self._state.items()}

    @property
    def scratch(self) -> np.ndarray | None:
        """Optimizer.scratch."""
        return self._gradient.array

    def step(self, value: np.ndarray | Sparse, rate: float, scale: float) -> None:
        """Optimizer.step."""
        self._gradient.take(value, scale if self._scales_gradient else 1.0)
        self._optimizer.param_groups[0]["lr"] = rate if self._scales_gradient else rate * scale
        self._optimizer.step()

    def mean_square(self, where: slice | np.ndarray, gradient: np.ndarray) -> np.ndarray | None:
        """Optimizer.mean_square; Adam's without the bias of its beginning."""
        if isinstance(self._settings, config.Adam):
            decay = self._settings.beta2
            seen = 1.0 - decay ** (float(self._state["step"]) + 1.0)
            return _faded(self._state["exp_avg_sq"][where], gradient, decay) / np.float32(seen)
        if isinstance(self._settings, config.RMSProp):
            return _faded(self._state["square_avg"][where], gradient, self._settings.rho)
        return None

    def state(self) -> dict[str, np.ndarray]:
        """Optimizer.state."""
        return {name: kept.copy() for name, kept in self._state.items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Optimizer.restore."""
        _check(state, self._state)
        for name, kept in self._state.items():
            np.copyto(kept, state[name])


class GradientBuffer:
    """Owned storage for the gradient of one step: what arrives may be read-only, sparse or too long.

    max_norm: L2 bound that a longer gradient is shrunk to, before the staleness scale; None leaves it as it is.
    """

    def __init__(self, length: int, max_norm: float | None) -> None:
        self.array = np.zeros(length, np.float32)
        self._max_norm = max_norm

    def take(self, value: np.ndarray | Sparse, scale: float) -> np.ndarray:
        """float32 [P]: value, made dense, clipped and scaled. Valid until the next call."""
        numbers = value.values if isinstance(value, Sparse) else value
        factor = np.float32(scale * self._clip(numbers))
        if isinstance(value, Sparse):
            self.array.fill(0.0)
            self.array[value.indices] = factor * numbers
        elif value is not self.array or factor != 1.0:
            np.multiply(numbers, factor, out=self.array)
        return self.array

    def _clip(self, numbers: np.ndarray) -> float:
        if self._max_norm is None:
            return 1.0
        norm = math.sqrt(float(np.dot(numbers, numbers)))
        return min(1.0, self._max_norm / norm) if norm > 0.0 else 1.0


def _torch_rule(settings: TorchSettings, tensor: Any) -> Any:
    """The torch optimizer. Fused where the CPU has a fused kernel: RMSprop has none."""
    import torch

    rate = 0.0  # replaced before every step
    if isinstance(settings, config.Adam):
        betas = (settings.beta1, settings.beta2)
        if isinstance(settings, config.AdamW):
            decay = settings.weight_decay
            return torch.optim.AdamW([tensor], rate, betas, settings.epsilon, weight_decay=decay, fused=True)
        return torch.optim.Adam([tensor], lr=rate, betas=betas, eps=settings.epsilon, fused=True)
    if isinstance(settings, config.RMSProp):
        return torch.optim.RMSprop([tensor], lr=rate, alpha=settings.rho, eps=settings.epsilon)
    return torch.optim.SGD([tensor], lr=rate, momentum=settings.momentum, fused=True)


def _faded(square: np.ndarray, gradient: np.ndarray, decay: float) -> np.ndarray:
    """decay · square + (1 − decay) · gradient²."""
    faded: np.ndarray = np.float32(decay) * square + np.float32(1.0 - decay) * np.square(gradient)
    return faded


def _blocks(length: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]


def _check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Raises StateMismatch unless both hold the same names with the same types and shapes."""
    for name in sorted(found.keys() | expected.keys()):
        if _describe(found.get(name)) != _describe(expected.get(name)):
            raise StateMismatch(name, expected.get(name), found.get(name))


def _describe(array: np.ndarray | None) -> str:
    return "absent" if array is None else f"{array.dtype} {list(array.shape)}"
