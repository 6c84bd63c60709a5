"""The experiment: every setting of a run, its unit, its range and its default. Pure. No torch, no gymnasium, no files.

``[run]`` and ``[learner]`` are read here. ``[actor]`` is only checked to be plain data and handed over unparsed in the
welcome (WIRE.md, section 6): ``actor/config.py`` alone says what it holds. ``launch/experiment_file.py`` says where the
tables come from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from protocol.annealing import Constant, Cosine, Linear, Piecewise
from protocol.errors import SettingError
from protocol.setting_names import OF_SIMULATORS
from protocol.settings import Choice, flat_defaults, read, unread

MAX_TABLE_BYTES = 1 << 16  # the welcome's limit on the actor table (protocol/messages.py)
# Twice what honest updates came to in the worst runs measured: 25 times the median at the end of a density warm-up, 46
# as the last word of an actor that sent 0.2 % of each and forgot nothing. Usual ones stay below 15.
NORM_FACTOR = 100.0

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Decay = Annotated[float, Meta(ge=0.0, lt=1.0)]
Steps = Annotated[int, Meta(ge=1, lt=1 << 53)]  # counters of the wire are exact below 2**53
Seconds = Annotated[float, Meta(gt=0.0, le=86_400.0)]
Positive = Annotated[float, Meta(gt=0.0, le=1e15)]  # squared, still far inside float32
Epsilon = Annotated[float, Meta(gt=0.0, le=1.0)]
RingBytes = Annotated[int, Meta(ge=1, le=1 << 40)]


class Preconditioned(Choice, frozen=True, tag="preconditioned"):
    """Actors precondition, clip and select; the learner adds what they send, times its rate."""

    formerly: ClassVar[str] = "addition"  # and in journals still


class Adam(Choice, frozen=True, tag="adam"):
    """Kingma and Ba 2015."""

    beta1: Decay = 0.9  # decay of the first moment
    beta2: Decay = 0.999  # decay of the second moment
    epsilon: Epsilon = 1e-5  # outside the root
    max_gradient_norm: Positive | None = None  # global L2 clip before the optimizer


class AdamW(Adam, frozen=True, tag="adamw"):
    """Loshchilov and Hutter 2019: a decay that the moments do not see."""

    weight_decay: Share = 0.01  # each step takes rate · weight_decay · θ off θ, whatever the gradient


class Lion(Choice, frozen=True, tag="lion"):
    """Chen et al. 2023: only signs. It wants a third to a tenth of Adam's rate, and a decay as many times larger."""

    beta1: Decay = 0.9  # weight of the momentum in a step
    beta2: Decay = 0.99  # decay of the momentum, 0.99 unless set
    weight_decay: Share = 0.01  # each step takes rate · weight_decay · θ off θ, whatever the gradient
    max_gradient_norm: Positive | None = None  # global L2 clip before the optimizer


class RMSProp(Choice, frozen=True, tag="rmsprop"):
    """As torch has it."""

    rho: Decay = 0.99  # decay of the mean square
    epsilon: Epsilon = 1e-5  # outside the root
    max_gradient_norm: Positive | None = None  # global L2 clip before the optimizer


class PaperRMSProp(Choice, frozen=True, tag="rmsprop_paper"):
    """As Mnih et al. 2016 have it."""

    rho: Decay = 0.99  # decay of the mean square
    epsilon: Epsilon = 1e-5  # inside the root
    max_gradient_norm: Positive | None = None  # global L2 clip before the optimizer


class SGD(Choice, frozen=True, tag="sgd"):
    """With momentum, or without."""

    momentum: Decay = 0.0  # decay of the sum of gradients
    max_gradient_norm: Positive | None = None  # global L2 clip before the optimizer


class NoRule(Choice, frozen=True, tag="none"):
    """Age costs nothing up to the bounds."""

    formerly: ClassVar[str] = "accept"


class Scale(Choice, frozen=True, tag="scale"):
    """The rate shrinks with the lag."""

    full_lag_updates: Annotated[int, Meta(ge=0, le=1_000_000)] = 16  # updates; up to here the rate is whole


class Gap(Choice, frozen=True, tag="gap"):
    """Barkai et al. 2020."""

    ring_bytes: RingBytes = 64 << 20  # θ of old versions, in memory


class Compensate(Choice, frozen=True, tag="compensate"):
    """Zheng et al. 2017."""

    compensation: Annotated[float, Meta(gt=0.0, le=1e6)] = 2.0  # λ0, the paper's 2; with sgd and lion its constant λ
    ring_bytes: RingBytes = 64 << 20  # θ of old versions, in memory


class NoAggregation(Choice, frozen=True, tag="none"):
    """Each gradient makes a step of its own."""


class Mean(Choice, frozen=True, tag="mean"):
    """One gradient of each of several senders makes one step."""

    aggregate_window: Annotated[int, Meta(ge=1, le=64)] = 8  # senders; a smaller fleet makes smaller groups
    # No step is made of fewer senders than these. Unset: one with "mean", else three, since of two nobody knows which
    # is hostile. Where some may be, set it so high that they are a minority of it: they may be here first, or last.
    aggregate_least: Annotated[int, Meta(ge=1, le=64)] | None = None
    aggregate_wait_s: Seconds = 1.0  # after it a group goes with more than half of the senders that it is meant to have

    @property
    def least_senders(self) -> int:
        """What ``aggregate_least`` comes to."""
        return self.aggregate_least or (1 if type(self) is Mean else 3)


class TrimmedMean(Mean, frozen=True, tag="trimmed_mean"):
    """Without the extremes of each coordinate."""

    aggregate_trim: Annotated[float, Meta(ge=0.0, lt=0.5)] = 0.25  # share left out at each end


class Median(Mean, frozen=True, tag="median"):
    """Of each coordinate."""


class Checkpointed(Choice, frozen=True, tag="checkpoint"):
    """A crash loses at most what came since the last checkpoint."""


class Journaled(Choice, frozen=True, tag="journal"):
    """What was acknowledged is on disk."""

    # What becomes of the run when the journal cannot be written.
    # "stop": the run ends at once with exit code 75, and nothing was answered or published that is not on disk; started
    # again, it goes on from there. "continue": it goes on and says with each verdict that a crash may lose it, until a
    # checkpoint mends the journal.
    on_journal_failure: Literal["stop", "continue"] = "stop"
    # Bytes on disk above which what the oldest checkpoint does not need is deleted. At least two segments: one that is
    # written, whole from its beginning, and one that leads from the oldest checkpoint to it.
    journal_bytes: Annotated[int, Meta(ge=32 << 20, le=1 << 50)] = 1 << 30


class RunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[run]``: which run this is and when it ends."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]*$", max_length=64)] = ""  # empty: named after env and seed
    seed: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0  # θ₀, environments and exploration all branch from it
    actors: Annotated[int, Meta(ge=0, le=1024)] = 2  # local actor processes; 0 waits for remote ones alone
    # Mean raw score of 100 episodes that counts as solved; unset trains until stopped.
    until_return: Annotated[float, Meta(ge=-1e15, le=1e15)] | None = None
    until_steps: Steps | None = None  # environment steps of all actors together; unset sets no limit


class LearnerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[learner]``: how gradients become weights."""

    # optimizer
    # "preconditioned" adds updates that the actors preconditioned (actor.beta1 ...), the others apply raw gradients.
    optimizer: Preconditioned | Adam | AdamW | Lion | RMSProp | PaperRMSProp | SGD = Preconditioned()
    learning_rate: Annotated[float, Meta(gt=0.0, le=100.0)] = 1e-3  # at first, with any optimizer
    # How the rate falls with the run's environment steps. Unset: linear until run.until_steps, "none" in a run that
    # sets no limit, and "piecewise" where there are points.
    anneal: Linear | Cosine | Piecewise | Constant = Constant()

    # age and size of what is applied
    # "scale" shrinks the rate past full_lag_updates; "gap" divides each coordinate by how many of its steps it moved in
    # the meantime (Barkai et al. 2020); "compensate" corrects for where θ went (Zheng et al. 2017). Bounds hold always.
    # Unset: "compensate", and "none" beside an aggregation, whose steps of many gradients have no one age.
    staleness_rule: NoRule | Scale | Gap | Compensate = Compensate()
    max_lag_updates: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000  # updates; older gradients are dropped
    max_lag_s: Seconds = 60.0  # since its weights were the newest; older gradients are dropped
    norm_bound: Positive = 1e6  # L2; gradients above it are refused
    # Times the median of what all senders sent lately, and ten times that where fewer than three did
    # (learner/optim/norms.py); above it gradients are refused. "auto": 100 where actors precondition; "none"
    # elsewhere, for a raw gradient may well be thousands of times the usual one, as the first that meets a reward is.
    norm_factor: Annotated[float, Meta(ge=2.0, le=1e15)] | Literal["auto", "none"] = "auto"

    # many as one
    # Other than "none", one gradient of each of aggregate_window senders or more makes one step, of their mean, trimmed
    # mean or median in each coordinate (learner/optim/aggregation.py). The last two bear a minority that is hostile.
    # Needs a codec that carries all coordinates (actor.codec = "i8"). It makes one step where n gradients made n: raise
    # learning_rate by about the root of n, and keep actors from stretching what a rule shortens (actor.kl_target = 0).
    aggregation: NoAggregation | Mean | TrimmedMean | Median = NoAggregation()

    # links
    # Gradients that one actor may have unanswered. Where its link is long it is granted more, up to twice as many at
    # each heartbeat, until its round trip is hidden: up to most_credit (not above credit: nobody is granted more).
    credit: Annotated[int, Meta(ge=1, le=65_536)] = 2
    most_credit: Annotated[int, Meta(ge=1, le=65_536)] = 32
    # Updates; bounds how late gradients become. The credits of all actors together stay within it, and within half of
    # it where no link is long; in a larger fleet each actor has a credit of one. An actor whose weights lack as many
    # updates pauses until newer ones come.
    credit_lag: Annotated[int, Meta(ge=1, le=1_000_000)] = 32
    heartbeat_s: Annotated[float, Meta(gt=0.0, le=3600.0)] = 1.0  # both sides say something at least this often
    # A peer this long silent is gone; above heartbeat_s, and above what a gradient takes on the slowest link.
    silence_s: Seconds = 10.0
    max_actors: Annotated[int, Meta(ge=1, le=65_536)] = 1024  # sessions alive at once; more are refused
    # What one key may send (without keys: one session) on average, five seconds of it at once; more is refused unread
    # and waits in the actor's residual. Unset sets no bound.
    quota_gradients_per_s: Annotated[float, Meta(gt=0.0, le=1e6)] | None = None
    quota_kbps: Positive | None = None  # kilobits a second of gradients, headers included
    # That one key may have at once; an actor that died holds its own for silence_s. Unset sets no bound: a fleet may
    # have one key, and when all seats are taken a newcomer gets one of the key that holds most (SECURITY.md).
    sessions_per_key: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    drain_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 3.0  # for the last verdicts; a checkpoint has 20 s more

    # weight stream
    # Least time between snapshots. Raise credit_lag with it, or actors pause until the next one.
    publish_interval_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 0.0
    publish_share: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.1  # largest share of the math thread spent on snapshots
    # Kilobits a second that the weight stream takes to each actor; unset, all that is applied is told exactly. What
    # does not fit is told later, the largest differences first (learner/stream/delta.py). A key costs extra.
    # "auto": as little as most actors take in time. A budget costs passes over θ for each record.
    downlink_kbps: Positive | Literal["auto"] | None = None
    # Environment steps of all actors together after which the next snapshot becomes the target network, which value
    # methods need (40,000 in Mnih et al. 2016); unset keeps none. A resumed run begins with its θ as the target.
    target_interval_steps: Steps | None = None

    # durability
    # "checkpoint": a crash loses at most what came since the last one, and there are more of them in a life's first
    # minutes (docs/resilience.md). "journal": a verdict that says applied means that the update is on disk (but see
    # on_journal_failure), and the run can be replayed bit for bit.
    durability: Checkpointed | Journaled = Checkpointed()
    checkpoint_interval_s: Seconds = 60.0  # between checkpoints, where anything was applied
    checkpoints_kept: Annotated[int, Meta(ge=1, le=10_000)] = 3  # the newest; the best evaluated one is kept, too

    # watching
    # "MODULE:NAME" of a callable of your own, or a name that an installed package has registered as an entry point of
    # farflung.hooks. It is called on the learner's machine with each event of progress.jsonl, a dict, on a thread of
    # its own; `learner run` needs --allow-module MODULE. Empty: none.
    on_event: Annotated[str, Meta(max_length=200)] = ""

    def __post_init__(self) -> None:
        if self.group is not None and not isinstance(self.staleness_rule, NoRule):
            beside = f"cannot stand beside learner.aggregation = {self.aggregation.name!r}"
            why = "a step of many gradients has no one age; write 'none', or leave it out"
            raise SettingError("learner.staleness_rule", self.staleness_rule.name, f"{beside}: {why}")

    @property
    def quantity(self) -> Literal["gradient", "update"]:
        """What actors must send."""
        return "update" if isinstance(self.optimizer, Preconditioned) else "gradient"

    @property
    def annealing(self) -> tuple[int, float]:
        """After how many environment steps the rate is at its last share of the first one, and that share; (0, 1.0)
        where it stays.
        """
        return self.anneal.told[:2]

    @property
    def journal(self) -> Journaled | None:
        """How a journal is kept; None where none is."""
        return self.durability if isinstance(self.durability, Journaled) else None

    @property
    def group(self) -> Mean | None:
        """How many gradients make one step; None where each makes its own."""
        return self.aggregation if isinstance(self.aggregation, Mean) else None

    @property
    def most_norm_factor(self) -> float | None:
        """What ``norm_factor`` comes to; None leaves norm_bound alone."""
        if self.norm_factor == "auto":
            return NORM_FACTOR if self.quantity == "update" else None
        return None if self.norm_factor == "none" else self.norm_factor


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """One whole experiment, resolved. actor: the actor's table, plain TOML values, not read here."""

    run: RunSettings = RunSettings()
    learner: LearnerSettings = LearnerSettings()
    actor: dict[str, Any] = {}


TABLES: dict[str, type[msgspec.Struct]] = {"run": RunSettings, "learner": LearnerSettings}
TABLE_NAMES = (*TABLES, "actor")
FALLING = ("linear", "cosine")  # values of learner.anneal whose rate falls for anneal_steps
OPTIMIZER_SETTINGS = ("beta1", "beta2", "epsilon", "rho", "momentum", "max_gradient_norm")  # in a journal's head


def experiment(tables: Mapping[str, Mapping[str, Any]]) -> Experiment:
    """From three flat tables of plain values. Raises SettingError."""
    run = read("run", RunSettings, tables["run"])
    learner = learner_settings({**_implied_anneal(run, tables["learner"]), **tables["learner"]})
    if run.actors > learner.max_actors:
        given = [f"{table}.{name}" for table in TABLES for name in tables[table]]
        raise _disagreement(given, "run.actors", run.actors, "learner.max_actors", learner.max_actors)
    made = Experiment(run=run, learner=learner, actor=dict(tables["actor"]))
    actor_table(made)
    return made


def _implied_anneal(run: RunSettings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Where nobody says how long the rate falls, it does for as long as the run goes."""
    if "anneal" not in given and "anneal_points" in given:
        return {"anneal": "piecewise"}
    if "anneal" not in given and (given.keys() & {"anneal_steps", "anneal_floor"} or run.until_steps is not None):
        given = {"anneal": "linear", **given}
    if given.get("anneal") not in FALLING:
        return {}
    steps = {} if run.until_steps is None else {"anneal_steps": run.until_steps}
    return {"anneal": given["anneal"], **steps}


def implied_rule(given: Mapping[str, Any]) -> dict[str, str]:
    """The staleness rule that other settings of ``[learner]`` bring where nobody names one; empty: the usual one."""
    return {"staleness_rule": "none"} if given.get("aggregation", "none") != "none" else {}


def learner_settings(given: Mapping[str, Any], *, kept: bool = False) -> LearnerSettings:
    """From ``[learner]`` as a person writes it, flat. Raises SettingError. kept: as a run directory has it
    (``settings.read``).
    """
    rule = implied_rule(given)
    if rule and "staleness_rule" not in given:
        for name in unread(LearnerSettings, "staleness_rule", "none") & given.keys():
            if given[name] != flat_defaults(LearnerSettings)[name]:
                beside = f"a staleness rule reads it, and learner.aggregation = {given['aggregation']!r} rules them out"
                raise SettingError(f"learner.{name}", given[name], f"{beside}; leave it out")
    made = read("learner", LearnerSettings, {**rule, **given}, kept=kept)
    _check_together(made, [f"learner.{name}" for name in given])
    return made


def actor_table(experiment: Experiment) -> bytes:
    """The actor's table as canonical msgpack (keys sorted, at every depth), at most 64 KiB. Raises SettingError."""
    for key, value in experiment.actor.items():
        _check_plain(f"actor.{key}", value)
    try:
        table = msgspec.msgpack.encode(experiment.actor, order="deterministic")
    except (OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise SettingError("actor", "...", f"64-bit integers and Unicode text, not too deep ({error})") from None
    if len(table) > MAX_TABLE_BYTES:
        raise SettingError("actor", f"{len(table)} bytes", f"at most {MAX_TABLE_BYTES} bytes as msgpack")
    return table


def stages(experiment: Experiment) -> list[tuple[int, dict[str, Any]]]:
    """``actor.curriculum``, the one setting of ``[actor]`` that is looked at here: from how many environment steps on
    which settings of actors are others. Episodes before a stage say nothing of what comes after it.

    Nothing is checked: the child that makes θ₀ has, and actors do.
    """
    told = experiment.actor.get("curriculum")
    entries = [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    found = [(each.get("env_steps"), each.get("set")) for each in entries]
    return [(int(at), dict(to)) for at, to in found if isinstance(at, int | float) and isinstance(to, dict)]


def tasks(experiment: Experiment) -> tuple[int, ...]:
    """The environment steps at which a stage makes other environments, whose returns are of another task."""
    return tuple(sorted(at for at, changed in stages(experiment) if changed.keys() & {*OF_SIMULATORS}))


def optimizer_settings(learner: LearnerSettings) -> dict[str, Any]:
    """What the journal must know to repeat a step: all that one depends on but its rate, under the journal's names."""
    defaults, own = flat_defaults(LearnerSettings), msgspec.structs.asdict(learner.optimizer)
    name = learner.optimizer.formerly or learner.optimizer.name
    decay = {each: own[each] for each in ("weight_decay",) if each in own}  # earlier versions had none to tell
    return {"optimizer": name, **{each: own.get(each, defaults[each]) for each in OPTIMIZER_SETTINGS}, **decay}


def with_optimizer(learner: LearnerSettings, settings: Mapping[str, Any]) -> LearnerSettings:
    """The same with what ``optimizer_settings`` said of another life. Raises SettingError."""
    optimizer = read("learner", LearnerSettings, settings, kept=True).optimizer
    return msgspec.structs.replace(learner, optimizer=optimizer)


def _check_together(learner: LearnerSettings, given: Collection[str]) -> None:
    """Bounds that two settings set each other. given: keys that a person set; a default is not blamed."""
    rule, group, journals = learner.staleness_rule, learner.group, learner.journal is not None
    if isinstance(rule, Scale) and rule.full_lag_updates > learner.max_lag_updates:
        limits = "learner.full_lag_updates", rule.full_lag_updates, "learner.max_lag_updates", learner.max_lag_updates
        raise _disagreement(given, *limits)
    if learner.heartbeat_s >= learner.silence_s:
        seconds = "learner.heartbeat_s", learner.heartbeat_s, "learner.silence_s", learner.silence_s
        raise _disagreement(given, *seconds, "below", "above")
    if group is not None and group.least_senders > group.aggregate_window:
        senders = "learner.aggregate_least", group.least_senders, "learner.aggregate_window", group.aggregate_window
        raise _disagreement(given, *senders)
    if journals and isinstance(rule, Gap) and learner.quantity == "gradient":
        beside = f"learner.durability = 'journal' and learner.optimizer = {learner.optimizer.name!r}"
        why = "it changes the steps of an optimizer, and a journal holds gradients; write 'compensate' or 'scale'"
        raise SettingError("learner.staleness_rule", rule.name, f"cannot stand beside {beside}: {why}")


def _disagreement(
    given: Collection[str], less: str, value: float, more: str, other: float, *words: str
) -> SettingError:
    """Of two settings of which the first must not be above the second. Blames one that a person gave."""
    at_most, at_least = words or ("at most", "at least")
    key, set_to, side, beside, its = less, value, at_most, more, other
    if less not in given:
        key, set_to, side, beside, its = more, other, at_least, less, value
    advice = "" if beside in given else f", its default; set {beside}, too"
    return SettingError(key, set_to, f"must be {side} {beside} = {its}{advice}")


def _check_plain(key: str, value: object) -> None:
    """Raises SettingError for a value that msgpack and TOML do not both have: dates and times."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_plain(f"{key}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(key, inner)
    elif not isinstance(value, str | bool | int | float):
        raise SettingError(key, str(value), "text, numbers, true, false, arrays and tables of them; no dates or times")
