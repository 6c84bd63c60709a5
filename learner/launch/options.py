"""What one start of the learner was asked to do, beside its experiment. Pure. Plain data; no clock, no sockets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from learner.config import Experiment
from learner.launch.transfer import Wanted
from protocol.errors import UserError


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that ``learner run`` hands to the service.

    bind: addresses for actors of other machines, beside the local one. http: HOST:PORT of the pages, None for none;
    port 0 takes a free one. resume: go on from run_dir's newest checkpoint. allow_modules: what local actors may
    import. keys: directory of the learner's key and of those it lets in, None for no keys; insecure: allow a bind off
    loopback without them. json: one JSON line per event even on a terminal.
    started_at: ``time.monotonic`` when the process began. proceed: resume if there is a run in run_dir, begin if there
    is none, and do nothing if it is over. initial: file of θ₀, None to have it made here. weights: of another run, to
    begin with. http_names: of hosts, under which the pages may be asked for beside those that are certainly ours.
    tensorboard: folder of live event files; wandb: project; mlflow: URI; None for none.
    parent: process id of the program that started this one, without which the run does not go on; None where it may.
    """

    experiment: Experiment
    bind: tuple[str, ...]
    http: str | None
    run_dir: Path
    resume: bool
    allow_modules: tuple[str, ...]
    keys: Path | None
    insecure: bool
    json: bool
    started_at: float
    proceed: bool = False
    initial: Path | None = None
    http_names: tuple[str, ...] = ()
    weights: Wanted | None = None
    tensorboard: Path | None = None
    wandb: str | None = None
    mlflow: str | None = None
    parent: int | None = None


class BadAddress(UserError):
    """What should be HOST:PORT is not. option: the flag. text: what was given."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(option, text)
        self.option, self.text = option, text

    def __str__(self) -> str:
        return f"{self.option} {self.text!r}: expected HOST:PORT, as in 127.0.0.1:9400 or [::1]:9400"


def host_and_port(text: str, option: str = "--http") -> tuple[str, int]:
    """``HOST:PORT`` taken apart, brackets of an IPv6 host removed. Raises BadAddress."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise BadAddress(option, text)
    if ":" in host and not bracketed:
        raise BadAddress(option, text)
    return (host[1:-1] if bracketed else host), int(port)
