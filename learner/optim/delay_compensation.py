"""How far θ has moved since a gradient was taken, and what that does to it. Pure; runs on the math thread.

Age counts updates; the gap is what they did. Two corrections from the literature need it, each coordinate for itself:

* "gap" divides each coordinate of a step by 1 + the number of steps that it has moved meanwhile (Barkai, Hakimi and
  Schuster 2020, "Gap-Aware Mitigation of Gradient Staleness");
* "compensate" estimates the gradient that would have been taken now (Zheng et al. 2017, "Asynchronous Stochastic
  Gradient Descent with Delay Compensation", DC-ASGD).

Both need to know how far θ has moved since a gradient's base version, which ``learner/optim/drift.py`` remembers. With
"preconditioned" an update costs O(k) then, whatever its age; with an optimizer here every step costs O(P) anyway.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from learner.optim.drift import Drift, Ring, Trail
from learner.optim.optimizers import Optimizer
from learner.optim.staleness import Rule
from learner.optim.undo import Where
from learner.optim.update import Update
from protocol.buffers import Buffer
from protocol.codecs.registry import Floats, Sparse

MEMORY = 1000  # steps of a coordinate that its average remembers; the paper's authors let theirs fade by 0.999
TINY = 1e-7  # DC-ASGD's ε: keeps a coordinate without history from dividing by zero


class StalenessCorrection(Protocol):
    """What staleness does to a step beyond one scale for all of it. Bound to one θ and its optimizer."""

    def remember(self, version: int, theta: Buffer) -> None:
        """A snapshot of ``version`` is about to be published. theta: float32 [P] as bytes that nobody will change."""

    def step(self, update: Update, version: int, base_version: int, rate: float, scale: float) -> tuple[float, Update]:
        """Apply one gradient or update to θ of ``version``, which makes the next.

        base_version: <= version, of θ at which it was taken. Returns what it was scaled by, the mean where each
        coordinate has its own, and what was applied, times rate and ``scale``; with an optimizer that adds, its
        payload says so to the bit.
        """

    def state(self) -> dict[str, np.ndarray]:
        """Copies of what later steps depend on, besides the drift: a new life has new versions."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take back what ``state`` gave. What another rule saved is passed over: averages can begin anew."""


def make_correction(rule: Rule, optimizer: Optimizer, theta: Floats) -> StalenessCorrection:
    """The correction that the rule names, for theta: float32 [P], which the optimizer writes in place.

    Where the weight stream has a budget, what is published of a version may be less than θ of it, so what was
    published must be remembered. With a journal what is applied must be what its payload says, whatever the optimizer
    ("gap" does that with "preconditioned" alone).
    """
    budgeted = rule.budgeted
    steps_tell = optimizer.adds and not budgeted
    if rule.scaling == "gap":
        return GapAware(rule, optimizer, theta, make_drift(rule, theta, steps_tell=steps_tell), lossy=budgeted)
    if rule.scaling == "compensate":
        drift = make_drift(rule, theta, steps_tell=steps_tell)
        return Compensation(rule, optimizer, drift, lossy=budgeted, journaled=rule.journaled)
    return UniformScale(optimizer)


def make_drift(rule: Rule, theta: Floats, *, steps_tell: bool) -> Drift:
    """The memory that costs least. steps_tell: the steps that are noted lead from what was published to θ."""
    if steps_tell:
        return Trail(theta, rule.ring_bytes, rule.max_lag_updates)
    return Ring(theta, rule.ring_bytes, rule.max_lag_updates)


class UniformScale:
    """No gap: every coordinate is scaled alike, as ``staleness.judge`` says."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def remember(self, version: int, theta: Buffer) -> None:
        """StalenessCorrection.remember: nothing is needed."""

    def step(self, update: Update, version: int, base_version: int, rate: float, scale: float) -> tuple[float, Update]:
        """StalenessCorrection.step."""
        self._optimizer.step(update.value, rate, scale)
        return scale, update

    def state(self) -> dict[str, np.ndarray]:
        """StalenessCorrection.state."""
        return {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """StalenessCorrection.restore."""


class GapAware:
    """Each coordinate of a step is divided by G = abs(θ_now − θ_base) / C + 1, the paper's parameter-wise penalty.

    C is what one update moves that coordinate by, on average: the largest learning rate times the root of the running
    mean square of its steps at rate 1, before any penalty. Only updates that moved a coordinate count in its mean: one
    that compression sends one time in twenty would else look twenty times smaller than it is, and its gap as many
    steps longer. The mean is plain over the first MEMORY of them and fades afterwards. Because C stands for the largest
    rate, gaps and penalties shrink as the rate is annealed.

    With an optimizer here it is the optimizer's whole step that is divided, momentum included, so its moments see
    every gradient in full: an Adam that saw divided gradients would undo the division.
    """

    def __init__(self, rule: Rule, optimizer: Optimizer, theta: Floats, drift: Drift, *, lossy: bool) -> None:
        self._theta, self._optimizer, self._rate = theta, optimizer, np.float32(rule.learning_rate)
        self._drift, self._lossy = drift, lossy  # lossy: gradients without lag may be of less than θ
        self._square = np.zeros_like(theta)  # float32 [P], running mean square of steps at rate 1
        self._count = np.zeros(theta.shape, np.uint16)  # steps in that mean, at most MEMORY

    def remember(self, version: int, theta: Buffer) -> None:
        """StalenessCorrection.remember."""
        self._drift.keep(version, theta)

    def step(self, update: Update, version: int, base_version: int, rate: float, scale: float) -> tuple[float, Update]:
        """StalenessCorrection.step."""
        adds = self._optimizer.adds
        where = _where(update) if adds else slice(None)
        empty = adds and not update.numbers.size
        asks = not empty and (self._lossy or base_version < version)
        drift = self._drift.since(base_version, where) if asks else None
        if not adds:
            return self._shrink(update, drift, rate, scale), update
        self._drift.note(version, update.value)
        if empty:
            return scale, update
        return self._add(update, where, drift, rate, scale)

    def _add(
        self, update: Update, where: Where, drift: Floats | None, rate: float, scale: float
    ) -> tuple[float, Update]:
        """O(k): the step at rate 1 is the update itself."""
        numbers, mean = update.numbers, 1.0
        self._note(where, numbers)
        if drift is not None:
            share = self._share(where, drift)
            update, mean = update.with_numbers(numbers * share).written(), _mean(share, numbers)
        self._optimizer.step(update.value, rate, scale)
        return scale * mean, update

    def _shrink(self, update: Update, drift: Floats | None, rate: float, scale: float) -> float:
        """O(P): what the step at rate 1 was is known when it is made."""
        before, everywhere = self._theta.copy(), slice(None)
        self._optimizer.step(update.value, rate, scale)
        moved = self._theta - before
        if rate * scale > 0.0:
            self._note(everywhere, moved * np.float32(1.0 / (rate * scale)))
        if drift is None:
            return scale
        share = self._share(everywhere, drift)
        np.add(before, moved * share, out=self._theta)
        return scale * _mean(share, moved)

    def _note(self, where: Where, steps: Floats) -> None:
        """Takes steps at rate 1 into the averages of the coordinates that they moved."""
        moved = steps != 0
        count = np.minimum(self._count[where] + moved, MEMORY).astype(np.uint16)
        weight = np.where(moved, np.float32(1.0) / np.maximum(count, 1), np.float32(0.0)).astype(np.float32)
        square = self._square[where]
        self._square[where] = square + weight * (np.square(steps) - square)
        self._count[where] = count

    def _share(self, where: Where, drift: Floats) -> Floats:
        """1 / G, float32, 0 < each <= 1, at the same coordinates as ``drift``. One that never moved has no gap."""
        gap = np.abs(drift)
        unit = self._rate * np.sqrt(self._square[where])  # C
        share: Floats = np.ones_like(gap)
        np.divide(unit, unit + gap, out=share, where=unit > 0)
        return share

    def state(self) -> dict[str, np.ndarray]:
        """StalenessCorrection.state."""
        return {"square": self._square.copy(), "count": self._count.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """StalenessCorrection.restore."""
        square, count = state.get("square"), state.get("count")
        if square is not None and count is not None and square.shape == count.shape == self._square.shape:
            np.copyto(self._square, square)
            np.copyto(self._count, count)


class Compensation:
    """g + λ g⊙g⊙(θ_now − θ_base), DC-ASGD's equation 10: a first-order step, with g⊙g for the Hessian's diagonal.

    λ is the paper's adaptive one: λ0 divided by the root of the running mean square of g, which here is the second
    moment that the optimizer keeps, this gradient included. Where updates come preconditioned (u = g / √v) the same
    formula becomes u + λ0 u⊙u⊙(θ_now − θ_base), because (λ0 g² / √v) / √v = λ0 u²; that an update is quantised and
    holds what was left over before is passed over. SGD keeps no second moment: there λ0 is the paper's constant λ.

    Ours: the correction of a coordinate is held to the size of the coordinate itself. Beyond that the expansion says
    nothing any more, and a gradient that is wrong by an outlier must not be made more wrong by its square.
    """

    def __init__(self, rule: Rule, optimizer: Optimizer, drift: Drift, *, lossy: bool, journaled: bool) -> None:
        self._optimizer, self._strength = optimizer, np.float32(rule.compensation)
        self._drift, self._lossy, self._journaled = drift, lossy, journaled

    def remember(self, version: int, theta: Buffer) -> None:
        """StalenessCorrection.remember."""
        self._drift.keep(version, theta)

    def step(self, update: Update, version: int, base_version: int, rate: float, scale: float) -> tuple[float, Update]:
        """StalenessCorrection.step."""
        where, numbers = _where(update), update.numbers
        asks = numbers.size > 0 and (self._lossy or base_version < version)
        drift = self._drift.since(base_version, where) if asks else None
        if drift is not None:
            update = update.with_numbers(numbers + self._correction(where, numbers, drift))
            if self._optimizer.adds:
                update = update.written()
            elif self._journaled:
                update = update.whole()
        self._drift.note(version, update.value)
        self._optimizer.step(update.value, rate, scale)
        return scale, update

    def _correction(self, where: Where, numbers: Floats, drift: Floats) -> Floats:
        correction: Floats = self._strength * np.square(numbers) * drift
        square = self._optimizer.mean_square(where, numbers)
        if square is not None:
            correction /= np.sqrt(square) + np.float32(TINY)
        limit = np.abs(numbers)
        return np.clip(correction, -limit, limit)

    def state(self) -> dict[str, np.ndarray]:
        """StalenessCorrection.state: the second moment is the optimizer's."""
        return {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """StalenessCorrection.restore."""


def _where(update: Update) -> Where:
    """Which coordinates an update carries."""
    return update.value.indices if isinstance(update.value, Sparse) else slice(None)


def _mean(share: Floats, numbers: Floats) -> float:
    """Of the coordinates that carry something; 1 if none does."""
    carried = share[numbers != 0]
    return min(1.0, float(carried.mean(dtype=np.float64))) if carried.size else 1.0
