"""The command ``learner``: turns flags into Options. Knows typer; all that is heavier is imported in the command."""

from __future__ import annotations

import time

STARTED_AT = time.monotonic()  # before the imports below, so that total_s counts them

import json  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import sys  # noqa: E402
import tomllib  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Annotated  # noqa: E402

import typer  # noqa: E402

from learner.analysis import cli as analysis  # noqa: E402
from learner.security.cli import app as key_commands  # noqa: E402
from protocol.errors import UserError  # noqa: E402
from protocol.process.stdio import prepare, version_of  # noqa: E402
from protocol.process.threads import limit_threads  # noqa: E402
from protocol.shipped import experiment_file, named  # noqa: E402

if TYPE_CHECKING:
    from learner.config import Experiment

DEFAULT_EXPERIMENT = "cartpole"
TASK_SETTINGS = ("env", "algorithm", "memory", "hidden_observations")  # tell shipped experiments apart
DEFAULT_HTTP = "127.0.0.1:0"  # any free port, so that two runs on one machine do not collide

app = typer.Typer(
    name="learner",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"learner {version_of('farflung')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Own the parameters of a run: apply the gradients that actors send and publish the weights."""


app.add_typer(key_commands, name="keys")


@app.command()
def run(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="[EXPERIMENT]",
            help="A TOML file, or the name of a shipped experiment such as cartpole or lunarlander.",
            show_default=False,
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Gymnasium environment. Without EXPERIMENT, the shipped experiment for exactly this id is used "
            "where there is one, else plain defaults without a target.",
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="With --env: plain defaults, also where there is a shipped experiment.")
    ] = False,
    actors: Annotated[int | None, typer.Option(metavar="N", help="Local actor processes; 0 waits for others.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override one setting. Repeatable.", show_default=False),
    ] = None,
    bind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDR",
            help="Listen for actors of other machines too, as in tcp://0.0.0.0:5555. Repeatable.",
            show_default=False,
        ),
    ] = None,
    http: Annotated[
        str, typer.Option(metavar="HOST:PORT|off", help="Where to serve metrics and status; port 0 takes a free one.")
    ] = DEFAULT_HTTP,
    http_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another host name under which browsers may ask for the pages, such as a proxy's. Repeatable.",
            show_default=False,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: runs/<env>-<seed>-<time>.", show_default=False)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint of --run-dir, with its experiment.")
    ] = False,
    proceed: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="For what starts the learner again and again: begin where --run-dir holds no run, go on where it "
            "does, and exit at once where the run is over.",
        ),
    ] = False,
    initial: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|RUN_DIR",
            help="Initial parameters that `actor init` wrote, so that this machine needs no simulators and no module; "
            "or the weights of another run: its directory or one of its checkpoints. One of each may be given.",
            show_default=False,
        ),
    ] = None,
    initial_only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Of the other run's layers take these alone, as in 'policy.*'; the others begin anew. Repeatable.",
            show_default=False,
        ),
    ] = None,
    initial_except: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Do not take these. Repeatable.", show_default=False),
    ] = None,
    initial_best: Annotated[
        bool, typer.Option("--initial-best", help="The other run's best evaluated checkpoint instead of the newest.")
    ] = False,
    initial_optimizer: Annotated[
        bool, typer.Option("--initial-optimizer", help="Take the state of the learner's optimizer along, too.")
    ] = False,
    until_return: Annotated[
        float | None, typer.Option(metavar="X", help="Stop once 100 episodes have this mean return.")
    ] = None,
    until_steps: Annotated[
        int | None, typer.Option(metavar="N", help="Stop after this many environment steps.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Seed of weights, environments, exploration.")] = None,
    allow_module: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M",
            help="Module that settings may name as MODULE:NAME on this machine: by local actors and, without "
            "--initial, to make the first weights, with --actors 0 too; learner.on_event by the learner. Repeatable.",
            show_default=False,
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Speak CURVE and let in only who is authorized there (learner keys new); read again while it runs.",
            show_default=False,
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow --bind off loopback without keys: anybody may send gradients.")
    ] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON line per event, on a terminal too.")] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write TensorBoard's event files into a folder of DIR while it trains.",
            show_default=False,
        ),
    ] = None,
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Tell Weights & Biases of the run.", show_default=False)
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Tell an MLflow server, or a file: store.", show_default=False)
    ] = None,
    with_parent: Annotated[int | None, typer.Option("--with-parent", hidden=True)] = None,
) -> None:
    """Train until the target is reached. With no arguments: CartPole-v1 to a mean return of 475.

    Settings come, later ones winning, from defaults, the experiment file, FARFLUNG_TABLE__KEY environment variables,
    and flags. Ctrl-C saves a checkpoint and stops; a second one stops at once.

    Exit codes: 0 target reached or asked to stop, 1 failure, 2 usage or configuration, 3 stopped at a limit first,
    75 try again later: what it needs is in use, the disk is full or does not answer, or the journal cannot be written.
    """
    from learner.launch.experiment_file import load
    from learner.launch.options import Options, host_and_port
    from learner.launch.requirements import require
    from learner.launch.run_directory import edition_of
    from learner.launch.source import sort

    file = _experiment_file(experiment, env, run_dir, resume, proceed, plain)
    overrides = [*(settings or []), *_flags(env, actors, until_return, until_steps, seed)]
    kept = run_dir is not None and file == run_dir / "experiment.toml"
    edition = edition_of(run_dir if resume or proceed else None)
    tell = _unheard if resume else _note
    explained = _Explained(file, _chosen_by(experiment, env), overrides)
    if kept and experiment is not None and file != experiment_file(experiment):
        tell(f"the run goes on as it began, by {file}, whatever {experiment} is in this version")
    with explained:
        resolved = load(file, overrides, os.environ, tell, kept=kept, edition=edition)
    made, weights = sort(
        initial or (),
        best=initial_best,
        only=initial_only or (),
        leave=initial_except or (),
        optimizer=initial_optimizer,
        begun=run_dir if resume or proceed else None,
    )
    require(resolved, made)
    if http != "off":
        host_and_port(http)
    options = Options(
        experiment=resolved,
        bind=tuple(bind or ()),
        http=None if http == "off" else http,
        http_names=tuple(http_name or ()),
        run_dir=run_dir or default_run_dir(resolved, time.strftime("%Y%m%d-%H%M%S")),
        resume=resume,
        allow_modules=tuple(allow_module or ()),
        keys=keys,
        insecure=insecure,
        json=json_lines,
        started_at=STARTED_AT,
        proceed=proceed,
        initial=made,
        weights=weights,
        tensorboard=tensorboard,
        wandb=wandb,
        mlflow=mlflow,
        parent=with_parent,
    )
    from learner import daemon

    with explained:
        raise typer.Exit(daemon.run(options))


@app.command()
def replay(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Of a run with learner.durability = journal.")],
    until: Annotated[
        int | None, typer.Option(metavar="V", min=0, help="Stop at this version of the parameters.", show_default=False)
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with every checkpoint on the way, to the bit.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what was reached as a checkpoint.", show_default=False),
    ] = None,
) -> None:
    """Repeat what a run applied, from its first parameters or as far back as its journal reaches.

    Prints one JSON line for each checkpoint compared and one at the end, with θ's digest.

    Exit codes: 0 repeated, 1 a digest differs, 2 there is nothing to repeat, 3 what could be repeated is the same, but
    some of the run could not be: records that cannot be read, checkpoints that nothing leads to; with --verify also
    gaps, and where nothing was compared. A sentence says what and where.
    """
    from learner.analysis.replay import Replay

    def tell(event: str, fields: dict[str, object]) -> None:
        typer.echo(json.dumps({"event": event, **fields}))

    try:
        rerun = Replay(run_dir, tell)
        rerun.run(until, verify=verify)
    except OSError as error:
        raise UserError(f"{error.filename or run_dir}: {error.strerror or error}") from None
    if write is not None:
        rerun.write(write)
    for sentence in rerun.omissions:
        typer.echo(f"error: {sentence}", err=True)
    raise typer.Exit(1 if rerun.differing else 3 if rerun.omissions else 0)


app.command()(analysis.compare)
app.command()(analysis.plot)
app.command()(analysis.export)


def main() -> None:
    """Entry point of the command; what a person can put right becomes one line and code 2, or 75 if it may pass."""
    prepare()
    limit_threads(os.environ)
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # before the service took over the signal: nothing has begun


def default_run_dir(experiment: Experiment, timestamp: str) -> Path:
    """runs/<name or env-seed>-<timestamp>, with nothing in it that a file name should not have."""
    run = experiment.run
    name = run.name or f"{environment(experiment)}-{run.seed}"
    return Path("runs") / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{timestamp}"


def environment(experiment: Experiment) -> str:
    """The environment id as the actor's table has it; the actor's default where it has none."""
    return str(experiment.actor.get("env", "CartPole-v1"))


def _experiment_file(
    experiment: str | None, env: str | None, run_dir: Path | None, resume: bool, proceed: bool, plain: bool
) -> Path | None:
    """Which file the settings start from; None for plain defaults."""
    if plain and (experiment is not None or env is None or resume):
        raise UserError("--plain is of --env ID in a new run: it takes defaults alone, and no experiment")
    if resume and proceed:
        raise UserError("--resume and --continue: the second does what the first does, where there is a run")
    if (resume or proceed) and run_dir is None:
        raise UserError(f"{'--resume' if resume else '--continue'} needs --run-dir: which run should go on?")
    if experiment is not None:
        file = experiment_file(experiment)
        return _as_begun(file, run_dir) if proceed and run_dir is not None and file.stem == experiment else file
    if run_dir is not None and (resume or (proceed and (run_dir / "experiment.toml").exists())):
        return run_dir / "experiment.toml"
    if plain:
        return None
    return named(DEFAULT_EXPERIMENT) if env is None else _shipped_for(env)


def _note(text: str) -> None:
    sys.stderr.write(f"note: {text}\n")


def _unheard(_: str) -> None:
    """What a run that goes on does as it always did is no news."""


def _chosen_by(experiment: str | None, env: str | None) -> str:
    """Who chose the experiment, where it was not its name."""
    if experiment is not None:
        return ""
    return ", which runs where nothing is named" if env is None else f", which --env {env} chose"


class _Explained:
    """Of a setting that is refused and that a person never wrote, says where it stands. chosen_by: in words."""

    def __init__(self, file: Path | None, chosen_by: str, overrides: Sequence[str]) -> None:
        self._file, self._chosen_by, self._overrides = file, chosen_by, overrides

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        from learner.launch.experiment_file import origin_of

        file = self._file
        if not isinstance(error, UserError) or file is None or file.parent != named(DEFAULT_EXPERIMENT).parent:
            return
        key = origin_of(str(error), file, self._overrides, os.environ)
        if key is not None:
            env = tomllib.loads(file.read_text(encoding="utf-8"))["actor"]["env"]
            instead = f"--set {key}=ITS_DEFAULT undoes that, and --env {env} --plain takes defaults alone"
            told = f"{error}; it stands in the shipped experiment {file.stem}{self._chosen_by}: {instead}"
            raise UserError(told, passing=error.passing) from None


def _as_begun(file: Path, run_dir: Path) -> Path:
    """What a run in this directory kept, if it began with this shipped experiment: a later version may have another."""
    try:
        kept, asked = (tomllib.loads(each.read_text(encoding="utf-8")) for each in (run_dir / "experiment.toml", file))
    except (OSError, ValueError):
        return file  # there is no run, or what is wrong with it is told when it goes on
    task = [[table.get("actor", {}).get(name) for name in TASK_SETTINGS] for table in (kept, asked)]
    return run_dir / "experiment.toml" if task[0] == task[1] else file


def _shipped_for(env: str) -> Path | None:
    """The shipped experiment whose environment is exactly ``env``; the one with the shortest name where several are."""
    for path in sorted(named(DEFAULT_EXPERIMENT).parent.glob("*.toml"), key=lambda path: (len(path.stem), path.stem)):
        if tomllib.loads(path.read_text(encoding="utf-8")).get("actor", {}).get("env") == env:
            return path
    return None


def _flags(
    env: str | None, actors: int | None, until_return: float | None, until_steps: int | None, seed: int | None
) -> list[str]:
    """Flags that stand for settings, as overrides."""
    given = {
        "actor.env": env,
        "run.actors": actors,
        "run.until_return": until_return,
        "run.until_steps": until_steps,
        "run.seed": seed,
    }
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
