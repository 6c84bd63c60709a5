"""θ₀ as ``actor init`` leaves it in a file: read, and checked against the experiment. Knows files; no processes."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import safetensors
from numpy.typing import NDArray

from protocol.errors import UserError
from protocol.layout import Layout
from protocol.manifest import changes, digest_of, in_words


@dataclass(frozen=True, slots=True)
class Initial:
    """θ₀ and what it is for. theta: float32 [P], owned. observation_size: numbers that actors normalise, else 0.

    seed: of the run, which theta follows from. actor_digest: of the actor table that it was made of, in hexadecimal.
    table: that table, msgpack; None in the files of earlier versions.
    """

    theta: NDArray[np.float32]
    layout: Layout
    env: str
    observation_size: int
    seed: int
    actor_digest: str
    table: bytes | None = None


class InitialError(UserError):
    """Initial parameters that a run cannot begin with. path: of their file. cause: why not."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(path, cause)
        self.path, self.cause = path, cause

    def __str__(self) -> str:
        return f"initial parameters {self.path}: {self.cause}"


def read(path: Path) -> Initial:
    """The file that ``actor init`` writes. Raises InitialError where it is none."""
    try:
        path.open("rb").close()  # safetensors' own errors do not say what the system said
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            theta = file.get_tensor("theta")
        layout = msgspec.json.decode(metadata["layout"], type=Layout)
        if theta.dtype != np.float32 or theta.shape != (layout.length,):
            raise ValueError(f"theta is {theta.dtype} {theta.shape}, its layout has {layout.length} parameters")
        of = (metadata["env"], int(metadata["observation_size"]), int(metadata["seed"]), metadata["actor_digest"])
        table = base64.b64decode(metadata["actor_table"], validate=True) if "actor_table" in metadata else None
        if table is not None and digest_of(table).hex() != of[-1]:
            raise ValueError("its actor table does not have its digest")
    except OSError as error:
        raise InitialError(path, error.strerror or str(error)) from None
    except (KeyError, ValueError, safetensors.SafetensorError) as error:
        raise InitialError(path, f"`actor init` did not write this: {error}") from None
    return Initial(theta, layout, *of, table)


def given(path: Path, env: object, seed: int, table: bytes | None) -> Initial:
    """θ₀ that was made elsewhere, for this experiment and no other. Raises InitialError.

    env: as the actor table names it; None: it names none. table: that table, msgpack; None: whatever it is.
    """
    made = read(path)
    if env is not None and made.env != env:
        raise InitialError(path, f"they are of {made.env}, and this experiment's environment is {env}")
    if made.seed != seed:
        raise InitialError(path, f"they follow from seed {made.seed}, and this run's is {seed} (actor init --seed)")
    if table is not None and (differ := _table_difference(made, table)):
        again = "make them again of the same file; what --set and FARFLUNG_ACTOR__ say reaches the learner alone"
        raise InitialError(path, f"they were made of another [actor] table ({differ}): {again}")
    return made


def _table_difference(made: Initial, table: bytes) -> str:
    """What is other in the table that it was made of, empty where nothing is."""
    if made.table is not None:
        return in_words(changes(made.table, table), "in the file", "in this experiment")
    ours = digest_of(table).hex()
    return "" if made.actor_digest == ours else f"{made.actor_digest} and {ours}"
