"""The actor's table of an experiment: every setting, its unit, its range and its default. Pure. No torch, no gymnasium.

The learner hands this table over unparsed (WIRE.md, section 6), so this file alone says what it may hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from actor.traits import ALGORITHMS, ALGORITHMS_GROUP, CRITIC, VALUES, Traits
from protocol.codecs.registry import CODECS
from protocol.errors import SettingError, UserError
from protocol.process.modules import registered
from protocol.setting_names import OF_SIMULATORS, suggest
from protocol.setting_names import VALUES as OTHER_WORDS
from protocol.settings import flat_defaults, near, read

Unit = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
NonNegative = Annotated[float, Meta(ge=0.0, le=1e15)]
Positive = Annotated[float, Meta(gt=0.0, le=1e15)]  # infinity would train on NaN
Seconds = Annotated[float, Meta(gt=0.0, le=86_400.0)]


IMAGES = ("grid", "small", "a3c", "nature")
NETWORKS = ("auto", "mlp", *IMAGES)
OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*|\w[\w.-]*")  # MODULE:NAME, or what a package has registered

# By the setting that decides: which others are read at all, and with which of its values. What is not read must be left
# out or be at its default.
# Not here is what an experiment says beside a choice that people change alone, with one --set: actor.density,
# actor.rank and their like beside another codec, actor.memory_size beside memory = "none", actor.hidden and
# actor.activation beside another network, actor.gae_lambda beside targets = "n_step", actor.clip beside loss = "a3c".
# To refuse them would make a person who compares two choices undo settings of the file first. The algorithm is no such
# switch: all settings change with it.
READ_WITH: dict[str, dict[str, tuple[str, ...]]] = {
    "algorithm": {
        "memory": CRITIC,  # the target network has no state of its own
        "kl_target": CRITIC,  # there is no old policy
        "targets": CRITIC,
        "gae_lambda": CRITIC,
        "vtrace_clip": CRITIC,
        "loss": CRITIC,
        "clip": CRITIC,
        "normalize_advantages": CRITIC,
        "value_weight": CRITIC,
        "entropy_weight": CRITIC,
        "entropy_from": CRITIC,
        "entropy_steps": CRITIC,
        "entropy_floor": CRITIC,
        "shared_trunk": CRITIC,  # there is no value function beside the policy
        "exploration_steps": VALUES,
        "final_epsilons": VALUES,
        "final_epsilon_odds": VALUES,
    },
    "targets": {"vtrace_clip": ("vtrace",)},
    "network": {"precision": IMAGES, "layer_norm": ("mlp",), "shared_trunk": ("mlp",)},
    "codec": {"uplink_kbps": ("auto",)},
    "vectorization": {"simulator_deadline_s": ("processes",), "simulator_failures": ("processes",)},
}


# What was the default in the first edition, which is meant where a table names none: it is of a run that began then.
FORMER: dict[str, Any] = {
    "normalize_observations": False,
    "normalize_returns": False,
    "passes": 6,
    "minibatches": 4,
    "entropy_weight": 0.0,
    "network": "mlp",
    "log_deviation": 0.0,
    "action_mask": "none",
}
# With a value method, whose ε is what explores, nothing else was shown to do better.
VALUE_METHODS = {
    name: FORMER[name]
    for name in ("normalize_observations", "normalize_returns", "passes", "minibatches", "entropy_weight")
}


# Settings that a run may change while it goes on, by actor.curriculum: those that make the simulators, which are made
# anew, and those that say what a rollout is learnt from and how. All others make the network, the statistics, the
# sizes of what is sent, or what an actor keeps from one rollout to the next.
CHANGEABLE = (
    *OF_SIMULATORS,
    *("discount", "final_discount", "discount_steps", "gae_lambda", "vtrace_clip"),
    *("reward_scale", "reward_clip", "novelty_weight"),
    *("passes", "clip", "normalize_advantages", "value_weight", "max_gradient_norm"),
    *("entropy_weight", "entropy_from", "entropy_steps", "entropy_floor"),
)

# A gradient of whole sequences costs its steps, one after the other, however many environments are in it.
MEMORY_MINIBATCHES = 2


class Wrapper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``actor.wrappers``. wrapper: ``MODULE:NAME``, or an entry point's name. options: keyword arguments."""

    wrapper: Annotated[str, Meta(min_length=1, max_length=200)]
    options: dict[str, object] = {}


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``actor.curriculum``. env_steps: of the run, from which on it holds. set: settings of CHANGEABLE."""

    env_steps: Annotated[int, Meta(ge=1, lt=1 << 53)] | Annotated[float, Meta(ge=1.0, lt=1 << 53, multiple_of=1.0)]
    set: Annotated[dict[str, object], Meta(min_length=1)]

    @property
    def begins(self) -> int:
        """``env_steps``: 3e5 is how people write 300000."""
        return int(self.env_steps)


class ActorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[actor]`` of an experiment file."""

    # edition
    # Of these defaults. The learner writes the present one into a new run, so a run that is resumed, and an actor of
    # another version, mean the same by what is not said. 1: those of before 2026-12. 2: masks were not looked at.
    defaults: Literal[1, 2, 3] = 3

    # simulators
    env: Annotated[str, Meta(min_length=1, max_length=200)] = "CartPole-v1"  # Gymnasium id, or module:id
    env_options: dict[str, object] = {}  # keyword arguments of gymnasium.make_vec, or with "envpool" EnvPool's
    # Around each single environment, the first innermost: "MODULE:NAME", or { wrapper = "MODULE:NAME", options = {} }.
    # Of gymnasium.wrappers without a flag, of a module that --allow-module names, or an entry point farflung.wrappers.
    # Reported returns are what the wrapped environment pays.
    wrappers: Annotated[tuple[str | Wrapper, ...], Meta(max_length=16)] = ()
    # Settings that change as the run goes: each { env_steps = N, set = {...} } holds from N environment steps of all
    # actors on, beside those before it (docs/curricula.md).
    curriculum: Annotated[tuple[Stage, ...], Meta(max_length=64)] = ()
    envs: Count = 16  # B, environments stepped together by one actor; with a small share of the run fewer
    # In this process, with "envpool" by EnvPool's C++, or "processes": one child each, replaced alone when it raises,
    # hangs, dies or lies. auto: EnvPool where it is installed and its task was found to be Gymnasium's.
    vectorization: Literal["auto", "vector_entry_point", "envpool", "sync", "processes"] = "auto"
    groups: Annotated[int, Meta(ge=1, le=8)] = 1  # of the environments: one steps while the policy sees another
    simulator_deadline_s: Seconds = 60.0  # processes: longest wait for one step
    simulator_failures: Annotated[int, Meta(ge=0, le=1_000_000)] = (
        20  # processes, a group: replaced this often, then it ends
    )
    # Where an environment says which actions it allows: in info["action_mask"], in a part action_mask of a Dict
    # observation, which the network then does not see, or by a method action_masks(). auto: in the observation where it
    # has that part, by the method where there is one, and else in info where that of the first reset has a mask.
    action_mask: Literal["auto", "info", "observation", "method", "none"] = "auto"
    hidden_observations: tuple[Annotated[int, Meta(ge=0)], ...] = ()  # numbers of a vector that the policy sees as 0
    # By running statistics of all actors, merged at the learner. true: to mean 0 and deviation 1. auto: only numbers
    # that are not of the order of 1, or lie about one that is far away. Those that stand for a choice (one-hot, or
    # bits) stay 0 and 1. Unset, false with a value method.
    normalize_observations: bool | Literal["auto"] = "auto"
    normalize_returns: bool = True  # rewards are divided by the running deviation of discounted returns; likewise

    # method and targets
    # "a3c": an actor and a critic; "n_step_q", "one_step_q", "one_step_sarsa"; or one of your own, "module:Class" or as
    # an installed package names it (docs/algorithms.md).
    algorithm: Annotated[str, Meta(min_length=1, max_length=200)] = "a3c"
    algorithm_options: dict[str, object] = {}  # keyword arguments of one of your own
    rollout_steps: Count = 64  # T, steps of each environment in one rollout; with a small share fewer
    discount: Unit = 0.99  # γ, at first
    final_discount: Unit | None = None  # γ at last; null: as at first. A longer sight is harder to begin with
    discount_steps: Count = 1_000_000  # environment steps of the run in which γ goes from the one to the other
    # Settings of other methods than the one named are refused.
    targets: Literal["gae", "n_step", "vtrace"] = "gae"  # a3c: what values and advantages are fitted to
    gae_lambda: Unit = 0.95  # λ of generalised advantage estimation
    vtrace_clip: Positive = 1.0  # vtrace: ρ̄ and c̄
    reward_scale: Positive = 1.0  # multiplies rewards before targets; reported returns stay raw
    reward_clip: Positive | None = None  # largest magnitude of a reward, before it is scaled
    # β of a reward for what was seldom seen: each step earns β over the root of how often this actor has seen what the
    # step led to, beside its own reward as that is learnt. Reported returns have none of it. 0: none.
    novelty_weight: NonNegative = 0.0

    # loss
    loss: Literal["clipped", "a3c"] = "clipped"  # of the policy: PPO's, or the plain one
    # Times each rollout is used. Unset, with loss = "a3c": 1, for it is only sound with 1 or with targets = "vtrace";
    # with a value method 6.
    passes: Count = 10
    # Gradients in one pass, with a small share fewer. Unset, with a memory 2 and no more than envs, with a
    # value method 4.
    minibatches: Count = 8
    # Updates whose sum is one message, at most; the end of a rollout sends the rest. An actor takes each of them into
    # its own weights at once, and follows the stream once that shows what became of the sum. auto: all of a rollout,
    # and of up to four rollouts where the link has no room for another message. 1: each update is a message, and an
    # actor has it when the stream shows it. With an optimizer at the learner it is as with 1, whatever is said here.
    local_steps: Annotated[int, Meta(ge=1, le=65_536)] | Literal["auto"] = "auto"
    clip: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.2  # ε of the clipped ratio
    normalize_advantages: bool = True  # to mean 0 and deviation 1 in each minibatch
    value_weight: NonNegative = 0.5  # of the squared error of values, beside the policy's loss
    # Of the policy's entropy, which it keeps up. auto: 0.01 where actions are chosen from a list, else 0.
    entropy_weight: NonNegative | Literal["auto"] = "auto"
    entropy_from: Annotated[int, Meta(ge=0)] = 0  # environment steps of the run up to which it stays
    entropy_steps: Annotated[int, Meta(ge=0)] = 0  # and those after which it is at its floor; 0: it stays for good
    entropy_floor: Unit = 0.0  # of entropy_weight, what is left then
    max_gradient_norm: Positive = 0.5  # global L2 clip before preconditioning or sending
    # Nats that one rollout should move the policy by: the length of preconditioned updates follows it, whatever the
    # first rate, but not against annealing, nor beyond the rate's own where the policy has settled. Where the learner
    # preconditions, a rollout that moved it twice as far is not used again. 0: no bound.
    kl_target: NonNegative = 0.0

    # exploration of the value methods
    exploration_steps: Count = 1_000_000  # environment steps of the run in which ε falls from 1 to its final value
    # What ε falls to: each session draws one of these, by the odds in the same place (Mnih et al. 2016, section 5.1).
    final_epsilons: Annotated[tuple[Unit, ...], Meta(min_length=1, max_length=16)] = (0.1, 0.01, 0.5)
    final_epsilon_odds: Annotated[tuple[Unit, ...], Meta(min_length=1, max_length=16)] = (0.4, 0.3, 0.3)

    # network
    # "auto", "mlp", and what sees images, by their shorter side in pixels: "grid" from 4, "small" from 9, "a3c" and
    # "nature" from 36. auto: "a3c" from 36, "small" from 17, "grid" below, and "mlp" for all that is no image.
    # One of your own is MODULE:NAME, or the name that an installed package registers (docs/networks.md).
    network: Annotated[str, Meta(min_length=1, max_length=200)] = "auto"
    network_options: dict[str, object] = {}  # keyword arguments of a network of your own
    hidden: Annotated[tuple[Count, ...], Meta(max_length=8)] = (64, 64)  # mlp: units of each layer
    activation: Literal["tanh", "relu"] = "tanh"  # mlp: behind each of them
    layer_norm: bool = False  # mlp: LayerNorm between each of them and its activation
    # mlp: whether policy and value see through the same hidden layers, as they do with a memory and with images.
    shared_trunk: bool = False
    memory: Literal["none", "lstm", "gru"] = "none"  # between the layers above and the heads
    memory_size: Count = 64  # units of it
    # Of a Gaussian policy at the beginning; where an axis has bounds they are at -1 and 1.
    log_deviation: Annotated[float, Meta(ge=-5.0, le=2.0)] = -0.7
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of convolutions; auto: bf16 where the CPU multiplies it

    # what is sent
    codec: str = "topk_i8"  # protocol/codecs/registry.py names them all; "auto": what the link of each actor bears
    uplink_kbps: Positive | Literal["auto"] = "auto"  # codec auto: gradients' kilobits a second; auto: as felt
    density: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.05  # share of coordinates that a sparse codec sends
    density_warmup: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # messages at first that send a larger share
    rank: Annotated[int, Meta(ge=1, le=64)] = 2  # of each matrix, with the codec lowrank
    mask_momentum: bool = False  # sparse codecs: the preconditioner drops the momentum of coordinates that were sent
    residual_decay: Unit = 0.95  # multiplies what was not sent, at each message; below 1 forgets old residual
    beta1: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.5  # of the preconditioner, at most; a residual is momentum too
    # Updates of staleness that leave nothing of β1, for staleness is momentum too; with less, less of it. 0: all stays.
    momentum_lag: NonNegative = 48.0
    beta2: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.999  # second moment of the preconditioner
    epsilon: Positive = 1e-5  # of the preconditioner, outside the root as in Adam

    @property
    def traits(self) -> Traits:
        """Of the algorithm; one of a user's own whose module was not asked is taken for an actor-critic method."""
        return ALGORITHMS.get(self.algorithm, Traits())


class OwnAlgorithm(ActorSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same with what the algorithm of a user's own declares."""

    declared: Traits

    @property
    def traits(self) -> Traits:
        """ActorSettings.traits."""
        return self.declared


def read_settings(table: bytes, declared: Callable[[str], Traits] | None = None) -> ActorSettings:
    """The actor table of a welcome; raises UserError naming the key that does not fit.

    declared: says what an algorithm of a user's own declares (``algorithms/own.py``), and raises UserError where there
    is no such. None: nobody asks, and what it reads is not checked.
    """
    try:
        given = msgspec.msgpack.decode(table, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise UserError(f"[actor] {error}") from None
    settings = _read(given, declared)
    stages(settings)
    return settings


def stages(settings: ActorSettings) -> tuple[tuple[int, ActorSettings], ...]:
    """What holds from how many environment steps of the run on, the first from 0. Raises SettingError naming the stage.

    A stage adds to the options of the environment that it finds; with another environment it begins with none.
    """
    table: dict[str, Any] = msgspec.to_builtins(settings)
    known = table.pop("declared", None) is not None or settings.algorithm in ALGORITHMS
    declared = (lambda _: settings.traits) if known else None
    found = [(0, settings)]
    for number, stage in enumerate(settings.curriculum):
        where = f"actor.curriculum[{number}]"
        if stage.begins <= found[-1][0]:
            raise SettingError(f"{where}.env_steps", stage.env_steps, f"must be above {found[-1][0]}, the stage before")
        for name, value in stage.set.items():
            if name not in DEFAULTS:
                raise SettingError(f"{where}.set.{name}", value, "there is no such setting", suggest(f"actor.{name}"))
            if name not in CHANGEABLE:
                accepted = f"cannot change while a run goes on; {', '.join(CHANGEABLE)} can"
                raise SettingError(f"{where}.set.{name}", value, accepted)
        kept = {} if "env" in stage.set else table["env_options"]
        table |= {"env_options": kept} | stage.set
        if isinstance(more := stage.set.get("env_options"), dict):
            table["env_options"] = kept | more
        try:
            found.append((stage.begins, _read(table, declared)))
        except SettingError as error:
            key = f"{where}.set.{error.key.removeprefix('actor.')}"
            raise SettingError(key, error.value, error.accepted, error.meant) from None
    return tuple(found)


def _read(given: Mapping[str, Any], declared: Callable[[str], Traits] | None) -> ActorSettings:
    """The table by itself, without the stages of its curriculum. Raises as ``read_settings`` does."""
    implied = _dependent(given)
    settings = read("actor", ActorSettings, {**implied, **given})
    _check_algorithm(settings)
    known = settings.algorithm in ALGORITHMS
    if not known and declared is not None:
        traits = declared(settings.algorithm)
        settings, known = OwnAlgorithm(**msgspec.structs.asdict(settings), declared=traits), True
    for choice, users in READ_WITH.items():
        if known or choice != "algorithm":
            _check_read(settings, choice, users, {**DEFAULTS, **implied})
    _check_network(settings)
    _check_sizes(settings)
    if known:
        _check_ignored(settings, {**DEFAULTS, **implied})
        (_check_actor_critic if settings.traits.stochastic else _check_value_method)(settings)
    return settings


def _check_algorithm(settings: ActorSettings) -> None:
    name, ours = settings.algorithm, settings.algorithm in ALGORITHMS
    if not ours and ":" not in name and name not in (others := registered(ALGORITHMS_GROUP)):
        names = [*ALGORITHMS, *others]
        meant = OTHER_WORDS["actor.algorithm"].get(name.lower()) or ((close := near(name, names)) and repr(close))
        said = f"expected one of {', '.join(names)}; one of your own is MODULE:CLASS with --allow-module MODULE"
        raise SettingError("actor.algorithm", name, said, meant)
    if ours and settings.algorithm_options:
        said = f"actor.algorithm = {name!r} takes none; they are for one of your own"
        raise SettingError("actor.algorithm_options", settings.algorithm_options, said)


def _check_ignored(settings: ActorSettings, defaults: Mapping[str, object]) -> None:
    """Raises SettingError for a setting that an algorithm of a user's own says it does not read."""
    for name in settings.traits.ignores:
        if name not in DEFAULTS:
            raise SettingError("actor.algorithm", settings.algorithm, f"it ignores {name!r}, which is no setting")
        if (value := getattr(settings, name)) not in (defaults[name], DEFAULTS[name]):
            said = f"actor.algorithm = {settings.algorithm!r} does not read it; leave it out"
            raise SettingError(f"actor.{name}", _plain(value), said)


def _dependent(given: Mapping[str, Any]) -> dict[str, object]:
    """Defaults that follow from what was given, where the usual ones cannot stand beside it or do worse."""
    edition = given.get("defaults", 1)
    found: dict[str, object] = {"defaults": 1, **FORMER} if edition == 1 else {}
    if edition == 2:
        found["action_mask"] = FORMER["action_mask"]
    if given.get("algorithm", "a3c") in VALUES:
        found |= VALUE_METHODS
    if given.get("loss") == "a3c" and given.get("targets") != "vtrace":
        found["passes"] = 1
    if given.get("memory", "none") != "none":
        usual, envs = found.get("minibatches", MEMORY_MINIBATCHES), given.get("envs")
        found["minibatches"] = envs if isinstance(envs, int) and isinstance(usual, int) and 1 <= envs < usual else usual
    return found


def _check_read(
    settings: ActorSettings, choice: str, users: Mapping[str, tuple[str, ...]], defaults: Mapping[str, object]
) -> None:
    """Raises SettingError for a setting that is not at its default and that what was chosen does not read."""
    chosen = getattr(settings, choice)
    if chosen == "auto":  # not a person's choice
        return
    own = choice == "algorithm" and chosen not in ALGORITHMS  # reads what those of its kind read
    family = (CRITIC if settings.traits.stochastic else VALUES)[0] if own else chosen
    for name, readers in users.items():
        value = getattr(settings, name)
        if family not in readers and value not in (defaults[name], DEFAULTS[name]):
            is_default = ", the default" if chosen == defaults[choice] else ""
            said = f"only actor.{choice} = {' or '.join(map(repr, readers))} reads it, and it is {chosen!r}{is_default}"
            raise SettingError(f"actor.{name}", _plain(value), f"{said}; leave it out, or change that")


def _plain(value: object) -> object:
    """As TOML has it."""
    return list(value) if isinstance(value, tuple) else value


def _check_network(settings: ActorSettings) -> None:
    """Whether a network of a user's own is there is seen when it is looked for (networks/contract.py)."""
    name, options = settings.network, settings.network_options
    if OWN.fullmatch(name) is None:
        accepted = f"expected one of {', '.join(NETWORKS)}, or one of your own as MODULE:NAME"
        raise SettingError("actor.network", name, accepted)
    if options and name in NETWORKS:
        said = f"only a network of your own reads it, and actor.network is {name!r}; leave it out, or change that"
        raise SettingError("actor.network_options", options, said)


def _check_sizes(settings: ActorSettings) -> None:
    if settings.codec not in CODECS and settings.codec != "auto":
        names = ["auto", *CODECS]
        meant = near(settings.codec, names)
        raise SettingError("actor.codec", settings.codec, f"expected one of {', '.join(names)}", meant and repr(meant))
    if settings.wrappers and settings.vectorization in ("envpool", "vector_entry_point"):
        said = "steps vectors that no wrapper goes around; beside actor.wrappers auto, sync or processes"
        raise SettingError("actor.vectorization", settings.vectorization, said)
    if settings.envs % settings.groups:
        raise SettingError("actor.groups", settings.groups, f"must divide actor.envs = {settings.envs}")
    if settings.final_discount is None and settings.discount_steps != DEFAULTS["discount_steps"]:
        said = "nothing reads it without actor.final_discount; set that, or leave it out"
        raise SettingError("actor.discount_steps", settings.discount_steps, said)


def _check_actor_critic(settings: ActorSettings) -> None:
    corrected = settings.loss == "clipped" or settings.targets == "vtrace"
    if settings.passes > 1 and not corrected:
        said = "must be 1 with actor.loss = 'a3c', which is not sound off-policy without actor.targets = 'vtrace'"
        raise SettingError("actor.passes", settings.passes, said)
    if settings.kl_target and not _moves_within_a_pass(settings):
        said = "needs actor.loss = 'clipped' and several minibatches that share their targets, or there is nothing"
        raise SettingError("actor.kl_target", settings.kl_target, f"{said} to measure; leave it out")
    if settings.entropy_floor and not settings.entropy_steps:
        said = "needs actor.entropy_steps, at which it is reached"
        raise SettingError("actor.entropy_floor", settings.entropy_floor, said)
    if settings.entropy_from and settings.entropy_from >= settings.entropy_steps:
        said = f"must be below actor.entropy_steps = {settings.entropy_steps}"
        raise SettingError("actor.entropy_from", settings.entropy_from, said)
    if settings.memory != "none" and settings.minibatches > settings.envs:
        beside = f"actor.envs = {settings.envs} with actor.memory = {settings.memory!r}"
        said = f"must be at most {beside}, whose sequences stay whole"
        raise SettingError("actor.minibatches", settings.minibatches, said)


def _moves_within_a_pass(settings: ActorSettings) -> bool:
    """Whether the last minibatch has an old policy to be compared with; else every divergence would look like 0."""
    several = settings.minibatches > 1 or (settings.passes > 1 and settings.targets != "vtrace")
    return settings.loss == "clipped" and several


def _check_value_method(settings: ActorSettings) -> None:
    odds, epsilons = settings.final_epsilon_odds, settings.final_epsilons
    if odds == DEFAULTS["final_epsilon_odds"] and len(odds) != len(epsilons):
        said = "set actor.final_epsilon_odds, too: as many numbers, which sum to 1"
        raise SettingError("actor.final_epsilons", list(epsilons), said)
    if len(odds) != len(epsilons) or abs(sum(odds) - 1.0) > 1e-6:
        said = f"{len(epsilons)} numbers, as many as actor.final_epsilons, that sum to 1"
        raise SettingError("actor.final_epsilon_odds", list(odds), said)


DEFAULTS: dict[str, Any] = flat_defaults(ActorSettings)
