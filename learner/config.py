"""The experiment: every setting of a run, its unit, its range and its default. No torch, no gymnasium, no sockets.

An experiment is a TOML file of three tables. ``[run]`` and ``[learner]`` are read here. ``[actor]`` is only
checked to be plain data and handed over unparsed in the welcome (WIRE.md, section 6): ``actor/config.py`` alone says
what it holds.
Later sources win: defaults, the file, ``FARFLUNG_TABLE__KEY`` environment variables, ``table.key=value`` overrides.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from protocol import shipped
from protocol.errors import SettingError, UserError

MAX_TABLE_BYTES = 1 << 16  # the welcome's limit on the actor table (protocol/messages.py)
# Twice what honest updates came to in the worst runs measured: 25 times the median at the end of a density warm-up, 46
# as the last word of an actor that sent 0.2 % of each and forgot nothing. Usual ones stay below 15.
NORM_FACTOR = 100.0
ENVIRONMENT_PREFIX = "FARFLUNG_"

S = TypeVar("S", bound=msgspec.Struct)

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Decay = Annotated[float, Meta(ge=0.0, lt=1.0)]
Steps = Annotated[int, Meta(ge=1, lt=1 << 53)]  # counters of the wire are exact below 2**53
Seconds = Annotated[float, Meta(gt=0.0, le=86_400.0)]
Positive = Annotated[float, Meta(gt=0.0, le=1e15)]  # squared, still far inside float32


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
    # "addition" applies updates that the actors preconditioned, the others apply raw gradients. Settings of other
    # optimizers than the one named are refused: with "addition" actors have theirs (actor.beta1 ...).
    optimizer: Literal["addition", "adam", "rmsprop", "rmsprop_paper", "sgd"] = "addition"
    learning_rate: Annotated[float, Meta(gt=0.0, le=100.0)] = 2e-3  # at first; of "addition", too
    anneal: Literal["linear", "none"] = "linear"  # linear: the rate falls with the run's environment steps
    anneal_steps: Steps = 300_000  # environment steps in which the rate would fall to zero; it stops at its floor
    anneal_floor: Share = 0.05  # share of learning_rate that annealing ends at
    beta1: Decay = 0.9  # adam: decay of the first moment
    beta2: Decay = 0.999  # adam: decay of the second moment
    epsilon: Annotated[float, Meta(gt=0.0, le=1.0)] = 1e-5  # adam, rmsprop: outside the root; rmsprop_paper: inside it
    rho: Decay = 0.99  # rmsprop, rmsprop_paper: decay of the mean square
    momentum: Decay = 0.0  # sgd: decay of the sum of gradients
    max_gradient_norm: Positive | None = None  # global L2 clip before the optimizer; not with "addition"

    # age and size of what is applied
    # "scale" shrinks the rate past full_lag_updates; "gap" divides each coordinate by how many of its steps it moved in
    # the meantime (Barkai et al. 2020); "compensate" corrects for where θ went (Zheng et al. 2017). Bounds hold always.
    staleness_rule: Literal["accept", "scale", "gap", "compensate"] = "compensate"
    compensation: Annotated[float, Meta(gt=0.0, le=1e6)] = 2.0  # compensate: λ0, the paper's 2; with sgd its constant λ
    ring_bytes: Annotated[int, Meta(ge=1, le=1 << 40)] = 64 << 20  # gap, compensate: θ of old versions, in memory
    full_lag_updates: Annotated[int, Meta(ge=0, le=1_000_000)] = 16  # scale: updates; up to here it is 1
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
    aggregation: Literal["none", "mean", "trimmed_mean", "median"] = "none"
    aggregate_window: Annotated[int, Meta(ge=1, le=64)] = 8  # senders; a smaller fleet makes smaller groups
    # No step is made of fewer senders than these. Unset: one with "mean", else three, since of two nobody knows which
    # is hostile. Where some may be, set it so high that they are a minority of it: they may be here first, or last.
    aggregate_least: Annotated[int, Meta(ge=1, le=64)] | None = None
    aggregate_trim: Annotated[float, Meta(ge=0.0, lt=0.5)] = 0.25  # trimmed_mean: share left out at each end
    aggregate_wait_s: Seconds = 1.0  # after it a group goes with more than half of the senders that it is meant to have

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
    # "checkpoint": a crash loses at most what came since the last one. "journal": a verdict that says applied means
    # that the update is on disk (but see on_journal_failure), and the run can be replayed bit for bit.
    durability: Literal["checkpoint", "journal"] = "checkpoint"
    # journal: what becomes of the run when it cannot be written. "stop": the run ends at once with exit code 75, and
    # nothing was answered or published that is not on disk; started again, it goes on from there. "continue": it goes
    # on and says with each verdict that a crash may lose it, until a checkpoint mends the journal.
    on_journal_failure: Literal["stop", "continue"] = "stop"
    # journal: bytes on disk above which what the oldest checkpoint does not need is deleted. At least two segments: one
    # that is written, whole from its beginning, and one that leads from the oldest checkpoint to it.
    journal_bytes: Annotated[int, Meta(ge=32 << 20, le=1 << 50)] = 1 << 30
    checkpoint_interval_s: Seconds = 60.0  # between checkpoints, where anything was applied
    checkpoints_kept: Annotated[int, Meta(ge=1, le=10_000)] = 3  # the newest; the best evaluated one is kept, too

    @property
    def quantity(self) -> Literal["gradient", "update"]:
        """What actors must send."""
        return "update" if self.optimizer == "addition" else "gradient"

    @property
    def least_senders(self) -> int:
        """What ``aggregate_least`` comes to."""
        return self.aggregate_least or (1 if self.aggregation in ("none", "mean") else 3)

    @property
    def annealing(self) -> tuple[int, float]:
        """anneal_steps and anneal_floor as a welcome tells them."""
        return (0, 1.0) if self.anneal == "none" else (self.anneal_steps, self.anneal_floor)

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


OPTIMIZERS_OF = {  # which optimizers look at a setting
    "beta1": ("adam",),
    "beta2": ("adam",),
    "epsilon": ("adam", "rmsprop", "rmsprop_paper"),
    "rho": ("rmsprop", "rmsprop_paper"),
    "momentum": ("sgd",),
}
OPTIMIZER_SETTINGS = ("optimizer", *OPTIMIZERS_OF, "max_gradient_norm")  # what one step depends on, but for its rate
RULES_OF = {  # which staleness rules do
    "compensation": ("compensate",),
    "ring_bytes": ("gap", "compensate"),
    "full_lag_updates": ("scale",),
}
DURABILITY_OF = {"journal_bytes": ("journal",), "on_journal_failure": ("journal",)}
AGGREGATIONS_OF = {  # which ways to make one of many do
    "aggregate_window": ("mean", "trimmed_mean", "median"),
    "aggregate_least": ("mean", "trimmed_mean", "median"),
    "aggregate_trim": ("trimmed_mean",),
    "aggregate_wait_s": ("mean", "trimmed_mean", "median"),
}
OPTIONS = "actor.env_options"  # of the constructor, which environments of one namespace (ALE/...) share
# What is chosen for one environment: its scale of scores and rewards, its constructor, its observation's numbers.
ENVIRONMENTS_OWN = ("run.until_return", OPTIONS, "actor.reward_scale", "actor.hidden_observations")
ACTORS_OWN = ("beta1", "beta2", "epsilon")  # with "addition" the actors precondition, by settings of theirs

TABLES: dict[str, type[msgspec.Struct]] = {"run": RunSettings, "learner": LearnerSettings}
TABLE_NAMES = (*TABLES, "actor")
named = shipped.named


class UnreadableExperiment(UserError):
    """A file that cannot be read or is not TOML. path: which. cause: why, with the line where there is one."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"experiment {self.path}: {self.cause}"


def load(
    path: Path | None,
    overrides: Iterable[str],
    environ: Mapping[str, str],
    tell: Callable[[str], object] = lambda _: None,
) -> Experiment:
    """Defaults < file < environment < overrides ("table.key=value"). Raises UserError; SettingError names the key.

    tell: hears which settings of the file were left out, as they are of another environment than the one asked for.
    """
    tables = _read(path) if path else {name: {} for name in TABLE_NAMES}
    given = [*_from_environment(environ), *map(_override, overrides)]
    _leave_out(tables, given, tell)
    for key, text in given:
        _assign(tables, key, text)
    run = _typed("run", RunSettings, tables["run"])
    learner = _typed("learner", LearnerSettings, tables["learner"])
    experiment = Experiment(run=run, learner=learner, actor=tables["actor"])
    _check_together(run, learner)
    actor_table(experiment)
    return experiment


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


def optimizer_settings(learner: LearnerSettings) -> dict[str, Any]:
    """What the journal must know to repeat a step."""
    return {name: getattr(learner, name) for name in OPTIMIZER_SETTINGS}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The file's tables, every one present. Names are checked, values not yet."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableExperiment(path, error.strerror or str(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableExperiment(path, str(error)) from None
    for name, table in found.items():
        if not isinstance(table, dict):
            raise SettingError(name, table, f"every setting lies in a table: {_listed()}", _known_keys())
        if name not in TABLE_NAMES:
            raise SettingError(name, "[...]", f"there is no such table; {_listed()}", TABLE_NAMES)
    return {name: found.get(name, {}) for name in TABLE_NAMES}


def _override(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise SettingError(text, "", "an override is written table.key=value")
    return key.strip(), value.strip()


def _leave_out(
    tables: dict[str, dict[str, Any]], given: Iterable[tuple[str, str]], tell: Callable[[str], object]
) -> None:
    """Of an experiment that is run on another environment than its own, what was chosen for that one."""
    own = tables["actor"].get("env")
    asked = [_toml_value(text) for key, text in given if key == "actor.env"]
    if own is None or not asked or asked[-1] == own:
        return
    kept = OPTIONS if "/" in own and str(asked[-1]).startswith(f"{own.partition('/')[0]}/") else ""
    left = []
    for key in ENVIRONMENTS_OWN:
        table, _, name = key.partition(".")
        if name in tables[table] and key != kept:
            left.append(f"{key} = {tables[table].pop(name)}")
    if left:
        tell(f"the experiment is of {own}; for {asked[-1]} these of its settings are left out: {', '.join(left)}")


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """FARFLUNG_LEARNER__CREDIT=4 as ("learner.credit", "4"), in a fixed order. One underscore alone is no setting."""
    names = sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX) and "__" in name)
    return [(name[len(ENVIRONMENT_PREFIX) :].lower().replace("__", "."), environ[name]) for name in names]


def _assign(tables: dict[str, dict[str, Any]], key: str, text: str) -> None:
    """Put one textual setting in its table; only the actor's may be nested."""
    table, *path = key.split(".")
    if table not in TABLE_NAMES or not all(path):
        raise SettingError(key, text, f"written table.key; the tables are {_listed()}", _known_keys())
    if not path:
        raise SettingError(key, text, "a whole table cannot be set; name one key of it")
    if table in TABLES:
        name = ".".join(path)
        tables[table][name] = _from_text(TABLES[table], name, text)
        return
    place = tables[table]
    for step in path[:-1]:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise SettingError(key, text, f"{step} is a single value, not a table")
    place[path[-1]] = _toml_value(text)


def _from_text(struct: type[msgspec.Struct], name: str, text: str) -> Any:
    """A TOML value; where the field holds text, what is no TOML string is taken as it stands ("run.name=007")."""
    parsed = _toml_value(text)
    return parsed if isinstance(parsed, str) or not _holds_text(_types(struct).get(name)) else text


def _toml_value(text: str) -> Any:
    """Text as a TOML value; what is none is a bare word and stands for itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _typed(table: str, struct: type[S], found: dict[str, Any]) -> S:
    """The struct from plain values, each one checked against its own field so that an error can name it."""
    types = _types(struct)
    values = {}
    for name, value in found.items():
        key = f"{table}.{name}"
        if name not in types:
            raise SettingError(key, value, "there is no such setting", [f"{table}.{known}" for known in types])
        values[name] = _convert(key, value, types[name])
    return struct(**values)


def _convert(key: str, value: Any, annotation: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and not _takes(annotation, float):
        value = int(value)  # 3e5 is how people write 300000
    try:
        return msgspec.convert(value, annotation)
    except (msgspec.ValidationError, OverflowError):
        raise SettingError(key, value, accepted(annotation)) from None


def accepted(annotation: Any) -> str:
    """What a field takes, in words: "a number, > 0, <= 100"."""
    options = get_args(annotation)
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(options)}"
    if get_origin(annotation) is Annotated:
        return ", ".join([accepted(options[0]), *_bounds(options[1])])
    if options:
        return accepted(options[0]) + ", or left out"
    return {int: "a whole number", float: "a number", str: "text"}[annotation]


def _bounds(meta: Meta) -> list[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "max_length": "at most", "pattern": "matching"}
    units = {"max_length": " characters"}
    given = {name: getattr(meta, name) for name in signs}
    return [f"{signs[name]} {bound}{units.get(name, '')}" for name, bound in given.items() if bound is not None]


def _takes(annotation: Any, kind: type) -> bool:
    """Whether a field's type is ``kind``, under its bounds and beside None."""
    return annotation is kind or any(_takes(part, kind) for part in get_args(annotation)[:1])


def _holds_text(annotation: Any) -> bool:
    return get_origin(annotation) is Literal or _takes(annotation, str)


@cache
def _types(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return get_type_hints(struct, include_extras=True)


def _check_together(run: RunSettings, learner: LearnerSettings) -> None:
    """Bounds that two settings set each other."""
    if run.actors > learner.max_actors:
        raise SettingError("run.actors", run.actors, f"at most learner.max_actors = {learner.max_actors}")
    if learner.staleness_rule == "scale" and learner.full_lag_updates > learner.max_lag_updates:
        limit = f"at most learner.max_lag_updates = {learner.max_lag_updates}"
        raise SettingError("learner.full_lag_updates", learner.full_lag_updates, limit)
    if learner.silence_s <= learner.heartbeat_s:
        limit = f"above learner.heartbeat_s = {learner.heartbeat_s}"
        raise SettingError("learner.silence_s", learner.silence_s, limit)
    if learner.optimizer == "addition" and learner.max_gradient_norm is not None:
        limit = "left out with learner.optimizer = addition; the actors clip (actor.max_gradient_norm)"
        raise SettingError("learner.max_gradient_norm", learner.max_gradient_norm, limit)
    if learner.durability == "journal" and learner.staleness_rule == "gap" and learner.optimizer != "addition":
        limit = "another one with learner.durability = journal: gap changes the steps of an optimizer, not gradients"
        raise SettingError("learner.staleness_rule", learner.staleness_rule, limit)
    if learner.aggregation != "none" and learner.least_senders > learner.aggregate_window:
        limit = f"at least {learner.least_senders}, without which no step is made (learner.aggregate_least)"
        raise SettingError("learner.aggregate_window", learner.aggregate_window, limit)
    if learner.aggregation != "none" and learner.staleness_rule != "accept":
        limit = f"accept, with learner.aggregation = {learner.aggregation}: a step of many gradients has no one age"
        raise SettingError("learner.staleness_rule", learner.staleness_rule, limit)
    for choice, users in (
        ("optimizer", OPTIMIZERS_OF),
        ("staleness_rule", RULES_OF),
        ("durability", DURABILITY_OF),
        ("aggregation", AGGREGATIONS_OF),
    ):
        _check_used(learner, choice, users)


def _check_used(learner: LearnerSettings, choice: str, users: Mapping[str, tuple[str, ...]]) -> None:
    """Raises SettingError for a setting that is not at its default and that what was chosen does not look at."""
    chosen, default = getattr(learner, choice), LearnerSettings()
    for name, having in users.items():
        value = getattr(learner, name)
        if chosen not in having and value != getattr(default, name):
            limit = f"left out with learner.{choice} = {chosen}; used by {' and '.join(having)}"
            hint = f" (actor.{name} is the actors')" if chosen == "addition" and name in ACTORS_OWN else ""
            raise SettingError(f"learner.{name}", value, limit + hint)


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


def _listed() -> str:
    return ", ".join(f"[{name}]" for name in TABLE_NAMES)


def _known_keys() -> list[str]:
    return [f"{table}.{name}" for table, struct in TABLES.items() for name in _types(struct)]
