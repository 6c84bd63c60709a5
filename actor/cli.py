"""The command ``actor``. Knows typer and thread limits; torch is imported in the command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from protocol.errors import UserError

THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

app = typer.Typer(
    name="actor",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Run simulators, compute policy gradients and send them to a learner.",
)

AllowModule = Annotated[
    list[str] | None,
    typer.Option(
        metavar="M", help="Module that may be imported for an environment MODULE:ENV. Repeatable.", show_default=False
    ),
]


@app.command()
def run(
    learner: Annotated[str, typer.Option(metavar="ADDR", help="The learner's address, as in tcp://host:5555.")],
    name: Annotated[
        str | None, typer.Option(metavar="N", help="For people. Default: host and process id.", show_default=False)
    ] = None,
    allow_module: AllowModule = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve Prometheus metrics there; port 0 takes a free one.")
    ] = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Work for the learner at ADDR until it ends the run; all settings come from there.

    Exit codes: 0 the run is over or asked to stop, 1 failure, 2 usage or configuration.
    """
    from actor.metrics import page_address

    page = None if metrics is None else page_address(metrics)
    if name is not None and not 1 <= len(name) <= 64:
        raise UserError(f"--name {name[:64]!r}: expected 1 to 64 characters, not {len(name)}")
    one_thread()
    from actor import service

    raise typer.Exit(service.run(learner, name or _default_name(), tuple(allow_module or ()), with_parent, page))


@app.command()
def init(
    experiment: Annotated[
        Path | None, typer.Argument(metavar="[EXPERIMENT]", help="A TOML file with an [actor] table.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The [actor] table alone, as msgpack.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of the run.", min=0)] = 0,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write.")] = Path("initial.safetensors"),
    allow_module: AllowModule = None,
) -> None:
    """Write the initial parameters of an experiment, with their layout, as safetensors."""
    one_thread()
    encoded = _table(experiment, table)
    from actor.initial import initial, write
    from actor.worker import read_settings

    write(initial(read_settings(encoded), seed, allow_module or ()), out)


@app.command()
def evaluate(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Directory of a run, finished or not.")],
    episodes: Annotated[int, typer.Option(metavar="N", help="Episodes to play.", min=1)] = 100,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the environments.", min=0)] = 0,
    allow_module: AllowModule = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Play episodes with the newest checkpoint, greedily, and print their mean return and its 95 % interval."""
    one_thread()
    from actor.evaluate import evaluate as scored

    score = scored(run_dir, episodes, seed, allow_module or ())
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(score).decode())
        return
    typer.echo(
        f"{score.env}  {score.episodes} episodes  mean {score.mean:.2f} ± {score.ci95:.2f} (95 %)  "
        f"std {score.std:.2f}  min {score.min:.2f}  max {score.max:.2f}  "
        f"length {score.length_mean:.1f}  version {score.version}"
    )


def main() -> None:
    """The command; what a person can put right becomes one line and exit code 2."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # before the service took over the signal, or in a command without one


def process() -> None:
    """``main`` for a process of its own, which then ends at once: taking torch apart takes most of a second."""
    try:
        main()
    except SystemExit as leaving:
        if "torch" not in sys.modules or not isinstance(leaving.code, int):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(leaving.code)


def one_thread() -> None:
    """An actor is one core's worth of work; must be called before torch or numpy is imported."""
    for variable in THREAD_LIMITS:
        os.environ.setdefault(variable, "1")


def _default_name() -> str:
    import platform

    return f"{platform.node()[:40] or 'actor'}-{os.getpid()}"


def _table(experiment: Path | None, table: Path | None) -> bytes:
    """The actor's table as msgpack, from whichever file was given."""
    if (experiment is None) == (table is None):
        raise UserError("give either an EXPERIMENT or --table")
    path = experiment or table
    assert path is not None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    return data if experiment is None else _from_toml(path, data)


def _from_toml(path: Path, data: bytes) -> bytes:
    import tomllib

    import msgspec

    try:
        actor = tomllib.loads(data.decode()).get("actor", {})
        return msgspec.msgpack.encode(actor)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from None
