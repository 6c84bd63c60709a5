"""The command ``actor``. Knows typer; numpy is imported in the command, after threads are limited."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from protocol.errors import UserError
from protocol.process.descriptors import raise_limit
from protocol.process.modules import allow
from protocol.process.stdio import prepare, version_of
from protocol.process.threads import limit_threads
from protocol.setting_names import DEFAULTS_EDITION
from protocol.shipped import experiment_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from actor.config import ActorSettings
    from actor.handoff import WorkerFactory

MAX_SEED = (1 << 30) - 1  # SEEDS of environments/vector, which loads too much for --help
MAX_STEPS = 100_000  # several times the 27,000 at which Atari's games end by themselves, and minutes of most simulators
LEAST_FILES = 48  # an actor opens some 30, and more where simulators have processes of their own

app = typer.Typer(
    name="actor",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"actor {version_of('farflung')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Run simulators, compute policy gradients and send them to a learner."""


AllowModule = Annotated[
    list[str] | None,
    typer.Option(metavar="M", help="Module that settings may name as MODULE:NAME. Repeatable.", show_default=False),
]

RunDir = Annotated[
    Path | None,
    typer.Argument(metavar="RUN_DIR", help="Directory of a run, finished or not.", show_default=False),
]
LiveLearner = Annotated[
    str | None,
    typer.Option(
        "--learner", metavar="ADDR", help="A live learner's address, in place of RUN_DIR.", show_default=False
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="This machine's key, where the learner asks for one (learner keys new).",
        show_default=False,
    ),
]
MaxSteps = Annotated[
    int,
    typer.Option(metavar="N", help="Steps at which an episode is cut; it counts with the return it has.", min=1),
]
Best = Annotated[bool, typer.Option("--best", help="The best evaluated checkpoint instead of the newest.")]
GiveUp = Annotated[
    float | None,
    typer.Option(
        "--give-up-after",
        metavar="S",
        help="Seconds without a learner, at first or later, after which to leave with exit code 75. Default: never.",
        min=0.0,
        show_default=False,
    ),
]
Name = Annotated[
    str | None, typer.Option(metavar="N", help="For people. Default: host and process id.", show_default=False)
]


@app.command()
def run(
    learner: Annotated[str, typer.Option(metavar="ADDR", help="The learner's address, as in tcp://host:5555.")],
    name: Name = None,
    allow_module: AllowModule = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve /metrics, /livez and /readyz there; port 0 takes a free one."),
    ] = None,
    uplink_kbps: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Kilobits a second that gradients may take on this machine's link, or auto, in place of the "
            "experiment's; used with its codec = 'auto'.",
            show_default=False,
        ),
    ] = None,
    key: Key = None,
    give_up_after: GiveUp = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Work for the learner at ADDR until it ends the run; all settings come from there.

    Exit codes: 0 the run is over or asked to stop, 1 failure, 2 usage or configuration, 75 try again later: the port
    of --metrics is in use, or no learner came within --give-up-after.
    """
    from actor.monitoring.metrics import page_address

    modules = allow(allow_module or ())
    page = None if metrics is None else page_address(metrics)
    called, budget = _name(name), _kbps(uplink_kbps)
    limit_threads(os.environ)
    from actor import service

    raise typer.Exit(service.run(learner, called, modules, with_parent, page, budget, key, _patience(give_up_after)))


@app.command("key")
def make_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people.")],
    learner_key: Annotated[str, typer.Option(metavar="PUBLIC", help="What `learner keys public` printed.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: NAME.key.", show_default=False)] = None,
) -> None:
    """Make a key whose secret never leaves this machine, and print its public half for `learner keys authorize`."""
    from protocol.transport.keys import is_name, is_public_key, write_pair
    from protocol.transport.learner_sockets import new_pair

    if not is_name(name):
        raise UserError(f"{name[:80]!r}: a name has letters, digits, dots, dashes and underscores, at most 64")
    if not is_public_key(learner_key):
        raise UserError(
            f"--learner-key {learner_key[:64]!r}: expected the 40 characters that `learner keys public` prints"
        )
    pair = new_pair(name, learner_key)
    write_pair(out or Path(f"{name}.key"), pair)
    typer.echo(pair.public)


ExperimentName = Annotated[
    str | None,
    typer.Argument(
        metavar="[EXPERIMENT]",
        help="A TOML file with an [actor] table, or the name of a shipped experiment.",
        show_default=False,
    ),
]
Table = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The [actor] table alone, as msgpack.", show_default=False)
]


@app.command()
def check(experiment: ExperimentName = None, table: Table = None, allow_module: AllowModule = None) -> None:
    """Say in a second what is wrong with an experiment's [actor] table, or with its environment on this machine.

    Exit codes: 0 nothing that can be seen without making the environment, 2 what the one line says.
    """
    modules = allow(allow_module or ())
    settings = _checked(_table(experiment, table)[0], modules)
    typer.echo(f"ok: {settings.env} is registered, and all settings of [actor] fit")


@app.command()
def init(
    experiment: ExperimentName = None,
    table: Table = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="S", help="Seed of the run. Default: EXPERIMENT's, else 0.", min=0, show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write.")] = Path("initial.safetensors"),
    allow_module: AllowModule = None,
) -> None:
    """Write the initial parameters of an experiment, with their layout, as safetensors.

    A learner whose machine has no simulators, or not your module, begins with them: learner run EXPERIMENT --actors 0
    --initial FILE.
    """
    limit_threads(os.environ)
    modules = allow(allow_module or ())
    out = out.absolute()  # an environment may change the working directory
    encoded, seed_of_run = _table(experiment, table)
    settings = _checked(encoded, modules)
    from actor.initial import initial, write

    made = initial(settings, seed_of_run if seed is None else seed, modules)
    write(made, out, encoded)
    typer.echo(f"wrote {out}: {made.theta.size:,} parameters for {made.env}, seed {made.seed}")


@app.command()
def evaluate(
    run_dir: RunDir = None,
    learner: LiveLearner = None,
    key: Key = None,
    best: Best = False,
    episodes: Annotated[int, typer.Option(metavar="N", help="Episodes to play, each time.", min=1)] = 100,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Of each environment's first episode.", min=0, max=MAX_SEED)
    ] = 0,
    max_steps: MaxSteps = MAX_STEPS,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Draw actions, as in training.")] = False,
    once: Annotated[bool, typer.Option("--once", help="With --learner: one evaluation, then leave.")] = False,
    give_up_after: GiveUp = None,
    name: Name = None,
    allow_module: AllowModule = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Play episodes, the best action at each step, and print their mean return and its 95 % interval.

    Of a RUN_DIR: its newest checkpoint, or the best one. With --learner: follow a run that is live, play with each
    newest snapshot and report the score to the learner, which keeps the best in checkpoints/best.safetensors; a
    summary follows when the learner ends the run. Returns are raw and undiscounted, as the environment pays them.
    With the same seed the first episode of each of the run's environments begins the same each time.

    Exit codes: 0 done, 1 failure, 2 usage or configuration, 75 no learner came within --give-up-after.
    """
    _one_source(run_dir, learner, best, key, give_up_after)
    if run_dir is not None and once:
        raise UserError("--once belongs to --learner; a RUN_DIR is evaluated once anyway")
    called, modules = _name(name, "evaluator-"), allow(allow_module or ())
    limit_threads(os.environ)
    import msgspec

    from actor.environments import signals
    from actor.evaluation import evaluate as evaluation
    from actor.evaluation.play import Score

    if run_dir is not None:
        score = evaluation.evaluate(run_dir, episodes, seed, max_steps, modules, best=best, stochastic=stochastic)
        signals.ignore()
        typer.echo(_json(score) if as_json else str(score))
        return

    def report(score: Score) -> None:
        typer.echo(_json({"event": "evaluated", **msgspec.to_builtins(score)}) if as_json else str(score))

    assert learner is not None
    serve = _player_service(learner, called, key, give_up_after)
    code, tally = evaluation.follow(serve, episodes, seed, max_steps, modules, once, report, stochastic=stochastic)
    finished = {"event": "finished", "evaluations": tally.evaluations, "best": tally.best}
    typer.echo(_json(finished) if as_json else str(tally))
    raise typer.Exit(code)


@app.command()
def watch(
    run_dir: RunDir = None,
    learner: LiveLearner = None,
    key: Key = None,
    best: Best = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.mp4", help="Record instead of opening a window.", show_default=False)
    ] = None,
    episodes: Annotated[int, typer.Option(metavar="N", help="Episodes to play.", min=1)] = 1,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Of the first episode; each next one's is one more.", min=0, max=MAX_SEED)
    ] = 0,
    max_steps: MaxSteps = MAX_STEPS,
    fps: Annotated[
        float | None,
        typer.Option(
            metavar="F", help="Frames a second. Default: the environment's.", min=1, max=240, show_default=False
        ),
    ] = None,
    give_up_after: GiveUp = None,
    name: Name = None,
    allow_module: AllowModule = None,
) -> None:
    """Watch greedy episodes in a window, or record them with --out (needs farflung[video]).

    Of a RUN_DIR, or with --learner of a run that is live: each episode with the newest weights. What is shown is the
    episode that the policy plays. An environment whose own pictures are of other observations than the policy's
    (ALE/... through its vector environment) cannot be shown in a window; its recording is the newest image of what
    the policy sees, enlarged, without the game's colours.

    Exit codes: 0 done, 1 failure, 2 usage, configuration, or nothing to render with, 75 no learner came within
    --give-up-after.
    """
    _one_source(run_dir, learner, best, key, give_up_after)
    called, modules = _name(name, "watcher-"), allow(allow_module or ())
    limit_threads(os.environ)
    from actor.environments import signals
    from actor.evaluation import watch as watching
    from actor.evaluation.watch import ViewingOptions

    viewing = ViewingOptions(episodes, seed, max_steps, fps, modules, out and out.absolute())
    code = 0
    if run_dir is not None:
        recorder = watching.watch(run_dir, viewing, best, typer.echo)
    else:
        assert learner is not None
        code, recorder = watching.follow(_player_service(learner, called, key, give_up_after), viewing, typer.echo)
    signals.ignore()
    if recorder is not None and recorder.frames:
        typer.echo(str(recorder))
    raise typer.Exit(code)


def main() -> None:
    """The command; what a person can put right becomes one line and exit code 2, or 75 if it may pass."""
    prepare()
    try:
        raise_limit(LEAST_FILES, "an actor")
        app()
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # before the service took over the signal, or in a command without one


def process() -> None:
    """``main`` for a process of its own, which then ends at once: threads of simulators would hold it for ever."""
    try:
        main()
    except SystemExit as leaving:
        if "gymnasium" not in sys.modules or not isinstance(leaving.code, int):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(leaving.code)


def _kbps(text: str | None) -> float | Literal["auto"] | None:
    """Raises UserError for what is neither a rate nor auto."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    with contextlib.suppress(ValueError):
        if 0.0 < float(text) < math.inf:
            return float(text)
    raise UserError(f"--uplink-kbps {text}: a number above 0, or auto")


def _name(given: str | None, prefix: str = "") -> str:
    """What this process is called among people: as given, or by host and process id."""
    if given is None:
        import platform

        return f"{prefix}{platform.node()[:40] or 'actor'}-{os.getpid()}"
    if not 1 <= len(given) <= 64:
        raise UserError(f"--name {given[:64]!r}: expected 1 to 64 characters, not {len(given)}")
    if not given.isascii() and given != given.encode(errors="replace").decode():
        raise UserError(f"--name {given!r}: expected text in UTF-8")
    return given


def _player_service(
    learner: str, name: str, key: Path | None, give_up_after: float | None
) -> Callable[[WorkerFactory], int]:
    """Runs the link to a live learner for a worker that plays and trains nothing; returns the exit code."""
    from actor import service
    from actor.events import ConnectionSettings

    connection = ConnectionSettings(learner, name, key, _patience(give_up_after))
    return lambda factory: service.serve_player(connection, factory)


def _patience(give_up_after: float | None) -> float:
    return math.inf if give_up_after is None else give_up_after


def _one_source(
    run_dir: Path | None, learner: str | None, best: bool, key: Path | None, give_up_after: float | None
) -> None:
    if (run_dir is None) == (learner is None):
        raise UserError("give either a RUN_DIR or --learner ADDR")
    if learner is None and key is not None:
        raise UserError("--key belongs to --learner; a RUN_DIR asks for none")
    if learner is None and give_up_after is not None:
        raise UserError("--give-up-after belongs to --learner; a RUN_DIR is not waited for")
    if learner is not None and best:
        raise UserError("--best belongs to a RUN_DIR; a live learner hands out its newest weights only")


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def _checked(table: bytes, modules: frozenset[str]) -> ActorSettings:
    """Settings that fit, of an environment, a network and an algorithm that were found. Raises UserError."""
    from actor.algorithms.own import declared
    from actor.algorithms.own import look_up as look_up_algorithm
    from actor.config import read_settings
    from actor.environments.registry import check as look_up
    from actor.networks.build import look_up as look_up_network

    settings = read_settings(table, declared(modules))
    look_up(settings, modules)
    look_up_network(settings, modules)
    look_up_algorithm(settings, modules)
    return settings


def _table(experiment: str | None, table: Path | None) -> tuple[bytes, int]:
    """The actor's table as canonical msgpack, and the run's seed where the file says it, from whichever was given."""
    if (experiment is None) == (table is None):
        raise UserError("give either an EXPERIMENT or --table")
    path = table if experiment is None else experiment_file(experiment)
    assert path is not None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    return (data, 0) if experiment is None else _from_toml(path, data)


def _from_toml(path: Path, data: bytes) -> tuple[bytes, int]:
    import tomllib

    import msgspec

    try:
        tables = tomllib.loads(data.decode())
        seed = msgspec.convert(tables.get("run", {}), dict[str, object]).get("seed", 0)
        actor = {"defaults": DEFAULTS_EDITION, **msgspec.convert(tables.get("actor", {}), dict[str, object])}
        if actor["defaults"] == 1:
            del actor["defaults"]  # as the learner's table says it
        table = msgspec.msgpack.encode(actor, order="deterministic")
        return table, msgspec.convert(seed, int)
    except msgspec.ValidationError:
        raise UserError(f"{path}: [run] and [actor] are tables, and run.seed a whole number") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from None
