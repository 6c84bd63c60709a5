"""The commands ``learner keys ...``. Knows typer and key files; no run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Who may reach this learner: its own key, and those that it lets in.")

Directory = Annotated[Path, typer.Option("--keys", metavar="DIR", help="Where the learner's key and list are.")]
DEFAULT = Path("keys")
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="train|evaluate", help="All it may do; both where none is given. Repeatable."),
]


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the actor, or of a fleet that shares one key.")],
    keys: Directory = DEFAULT,
    role: Roles = None,
) -> None:
    """Make a key for an actor and let it in; the learner's own is made where there is none.

    Bring DIR/NAME.key to the actor's machine (chmod 600) and say actor run --key NAME.key.
    """
    from learner.security.keyring import LIST, OWN, ListError, authorize
    from protocol.transport.keys import is_name, write_pair
    from protocol.transport.learner_sockets import new_pair

    if not is_name(name) or f"{name}.key" == OWN:
        raise ListError(
            keys / LIST, f"{name[:80]!r} is no name: letters, digits, dots, dashes, underscores; not learner"
        )
    pair = new_pair(name, _own(keys))
    path = keys / f"{name}.key"
    write_pair(path, pair)
    try:
        authorize(keys, pair.public, name, role or ())
    except ListError:
        path.unlink()
        raise
    typer.echo(f"{path}  {pair.public}")


@app.command("authorize")
def authorize_key(
    public: Annotated[str, typer.Argument(metavar="PUBLIC", help="The public key that `actor key` printed.")],
    name: Annotated[str, typer.Argument(metavar="NAME")],
    keys: Directory = DEFAULT,
    role: Roles = None,
) -> None:
    """Let in a key whose secret stays where it was made; a running learner hears of it within a second."""
    from learner.security.keyring import authorize

    authorize(keys, public, name, role or ())


@app.command()
def revoke(
    who: Annotated[str, typer.Argument(metavar="NAME|PUBLIC")],
    keys: Directory = DEFAULT,
) -> None:
    """Shut a key out; a running learner cuts its connections off within seconds."""
    from learner.security.keyring import revoke as take_off

    typer.echo(f"{take_off(keys, who)} may not come in any more")


@app.command("list")
def list_keys(keys: Directory = DEFAULT) -> None:
    """Who is let in: public key, name and, where it may not do all, its roles."""
    from learner.security.keyring import LIST, described, read_list

    for public, actor in read_list(keys / LIST).items():
        typer.echo(f"{public}  {described(actor)}")


@app.command()
def public(keys: Directory = DEFAULT) -> None:
    """The learner's public key, for `actor key --learner-key`; made where there is none."""
    typer.echo(_own(keys))


def _own(keys: Path) -> str:
    """The learner's public key; its pair is made where there is none."""
    from learner.security.keyring import OWN
    from protocol.transport.keys import read_pair, write_pair
    from protocol.transport.learner_sockets import new_pair

    if not (keys / OWN).exists():
        write_pair(keys / OWN, new_pair("learner"))
    return read_pair(keys / OWN).public
