"""Which norms are too large to be true, from what all senders sent lately. Pure. ``now`` is an argument.

Each sender has one vote: the median of its last VOTE norms. The bound is a factor times the median of the votes, or
times the least norm that is usual, where that is more; and ten times as much where fewer than three voted. So how much
anybody sends moves nothing: as long as hostile senders are fewer than half, the median of all votes lies between two
honest ones. Norms that are refused count in their sender's vote like the others. So when all norms rise, by whatever
factor, the bound follows after VOTE / 2 + 1 gradients of each: nobody is locked out for good.

A refusal here says what a gradient is and not what its sender is: an honest one that met something new may send it. So
it is no misconduct (quarantine.STRIKES), and what was refused is not sent again.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque

import numpy as np

from learner.config import LearnerSettings
from protocol.codecs.registry import Sparse
from protocol.errors import Reason
from protocol.session import Sender

VOTE = 8  # norms: one outlier changes no vote, and a lasting rise turns it after five
LAPSE_S = 600.0  # after a sender's last gradient its vote no longer counts: far above the interval of slow rollouts
LEAST_VOTES = 3  # of two nobody knows which is hostile, and one would be judged by itself
FEW = 3.0  # so much more is borne below LEAST_VOTES; an honest sender had 228 √P once with a message for each update
# L2 of a message over √P, as it is while policies learn: medians of 0.2 to 1.1 where it is one update (SECURITY.md), and
# up to ten times that where it is a rollout's sum. Converged actors send next to nothing, and the first gradient after
# that may have 1 / √(1 - β2) in each coordinate (Kingma and Ba 2015, section 2.1): 32 with β2 0.999, and a sum of 12 or
# 32 updates that begins so had 31 to 260. The default factor of 100 makes 300 of it.
USUAL_UPDATE = 3.0
MOST_VOTES = 4096  # four times the usual learner.max_actors; beyond them the vote that is oldest goes


class NormDistribution:
    """The running distribution of L2 norms. factor: >= 2, times their median is the bound. floor: L2, of a usual norm
    that no median is too small for; 0 where no norm is usual.
    """

    def __init__(self, factor: float, floor: float = 0.0) -> None:
        self._factor, self._floor = factor, floor
        self._heard: OrderedDict[Sender, tuple[float, deque[float]]] = OrderedDict()  # last heard comes last
        self._votes: list[float] = []  # one for each sender, sorted

    @property
    def bound(self) -> float | None:
        """L2; None without a floor below LEAST_VOTES senders, and while the usual norm is zero, of which nothing is a
        multiple.

        Of an even number of votes the upper one in the middle counts: half of the senders must not be able to shut the
        others out.
        """
        usual = max(self._floor, self._votes[len(self._votes) // 2]) if self._votes else self._floor
        if len(self._votes) < LEAST_VOTES:
            return FEW * self._factor * usual if self._floor else None
        return self._factor * usual or None

    def observe(self, sender: Sender, norm: float, now: float) -> Reason | None:
        """norm_exceeded, or None. norm: L2 of a gradient of finite numbers, >= 0, infinity where it overflows.

        Every norm counts afterwards, whatever was said of it. Costs O(log n) comparisons for n senders.
        """
        bound = self.bound
        self._vote(sender, norm, now)
        return Reason.NORM_EXCEEDED if bound is not None and norm > bound else None

    def _vote(self, sender: Sender, norm: float, now: float) -> None:
        norms: deque[float] = deque(maxlen=VOTE)
        if sender in self._heard:
            norms = self._heard[sender][1]
            self._withdraw(sender)
        norms.append(norm)
        self._heard[sender] = now, norms
        insort(self._votes, _median(norms))
        while len(self._heard) > MOST_VOTES or now - next(iter(self._heard.values()))[0] > LAPSE_S:
            self._withdraw(next(iter(self._heard)))

    def _withdraw(self, sender: Sender) -> None:
        _, norms = self._heard.pop(sender)
        del self._votes[bisect_left(self._votes, _median(norms))]

    def __len__(self) -> int:
        """Votes that count."""
        return len(self._votes)


def _median(norms: deque[float]) -> float:
    return sorted(norms)[len(norms) // 2]


def measure(value: np.ndarray | Sparse) -> float:
    """L2 norm: one dot product over the data, a second look only where it is wrong.

    value: float32 [P], or Sparse of k values. NaN where one of them is no finite number; infinity where all are and
    the sum of their squares overflows float32, a norm above 1e19.
    """
    numbers = value.values if isinstance(value, Sparse) else value
    with np.errstate(over="ignore", invalid="ignore"):
        squared = float(np.dot(numbers, numbers))
    if math.isfinite(squared):
        return math.sqrt(squared)
    return math.inf if bool(np.isfinite(numbers).all()) else math.nan


class NormCheck:
    """What is asked of every gradient's numbers. bound: L2, for good. factor: times the usual norm; None: no matter.
    updates: P where actors precondition, which gives norms a scale; 0 for raw gradients.
    """

    def __init__(self, bound: float, factor: float | None = None, updates: int = 0) -> None:
        self.bound = bound
        self._norms = None if factor is None else NormDistribution(factor, USUAL_UPDATE * math.sqrt(updates))

    def check(self, value: np.ndarray | Sparse, sender: Sender, now: float) -> Reason | None:
        """Why these numbers are refused, or None. value: float32 [P], or Sparse."""
        norm = measure(value)
        if math.isnan(norm):
            return Reason.NOT_FINITE
        unusual = None if self._norms is None else self._norms.observe(sender, norm, now)
        return Reason.NORM_EXCEEDED if norm > self.bound else unusual


def make_norm_check(settings: LearnerSettings, length: int) -> NormCheck:
    """As these settings ask of gradients of ``length`` parameters."""
    return NormCheck(settings.norm_bound, settings.most_norm_factor, length if settings.quantity == "update" else 0)
