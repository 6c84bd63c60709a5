"""What learning notices of each codec: steps to solve against bytes, on every seed. Knows processes and records.

CartPole-v1, two actors in turns, one process (``turns.py``). Every codec carries preconditioned updates, dense ones
too, so that nothing but the codec differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from tests.bench.machine import ask
from tests.bench.store import Record, Store
from tests.learning.turns import EACH

# Sparse ones at several densities. Settings are the shipped ones but for what is named here.
WAYS: dict[str, tuple[str, ...]] = {
    "f32": ("actor.codec=f32",),
    "f16": ("actor.codec=f16",),
    "bf16": ("actor.codec=bf16",),
    "i8": ("actor.codec=i8",),
    "i4": ("actor.codec=i4",),
    "sign": ("actor.codec=sign",),
    "lowrank, rank 2": ("actor.codec=lowrank", "actor.rank=2"),
    "topk_i8, 5 %": ("actor.codec=topk_i8", "actor.density=0.05"),
    "topk_i8, 2 %": ("actor.codec=topk_i8", "actor.density=0.02"),
    "topk_i8, 1 %": ("actor.codec=topk_i8", "actor.density=0.01"),
    "topk_i8, 0.3 %": ("actor.codec=topk_i8", "actor.density=0.003"),
    "topk_f16, 5 %": ("actor.codec=topk_f16", "actor.density=0.05"),
    "randk_i8, 5 %": ("actor.codec=randk_i8", "actor.density=0.05"),
    "topk_i8+zstd, 1 %": ("actor.codec=topk_i8+zstd", "actor.density=0.01"),
}
SEEDS, LAG, STEPS = 5, 1, 400_000


def measure(store: Store, *, quick: bool) -> None:
    """Every codec and seed that is not measured yet."""
    for way in list(WAYS)[: 2 if quick else None]:
        for seed in range(1 if quick else SEEDS):
            store.once({"way": way, "seed": seed}, lambda w=way, s=seed: _run(w, s))  # type: ignore[misc]


def _run(way: str, seed: int) -> Record:
    asked = [
        "tests.learning.turns",
        "--lag",
        str(LAG),
        "cartpole",
        str(seed),
        f"run.until_steps={STEPS}",
        *EACH,
        *WAYS[way],
    ]
    return ask(asked, seed)


def runs(records: Sequence[Record], way: str) -> list[Record]:
    """Of one codec, by seed."""
    return sorted((record for record in records if record["way"] == way), key=lambda record: record["seed"])


def fewer(found: Sequence[Record]) -> float:
    """How many times fewer bytes than float32, payloads alone."""
    return float(median(record["dense_bytes"] / record["bytes_per_gradient"] for record in found))


def draw(records: Sequence[Record], path: Path) -> None:
    """Steps to solve against bytes of a gradient, every seed; and the return against all bytes sent until then."""
    figure = Figure(figsize=(11.4, 3.8), dpi=160, layout="constrained")
    steps, curves = figure.subplots(1, 2)
    for number, way in enumerate(WAYS):
        found, color = runs(records, way), f"C{number % 10}"
        if not found:
            continue
        marker = "o" if number < 10 else "s"
        for solved, face in ((True, color), (False, "none")):
            some = [record for record in found if record["solved"] is solved]
            places = [record["bytes_per_gradient"] for record in some], [record["env_steps"] / 1000 for record in some]
            label = way if solved else None
            steps.scatter(*places, s=22, color=color, facecolors=face, marker=marker, label=label)
        middle = found[len(found) // 2]
        each = middle["bytes_per_gradient"] * middle["gradients"] / middle["env_steps"]
        points = middle["curve"]
        curves.plot([at * each / 1e6 for at, _ in points], [mean for _, mean in points], color=color, linewidth=1.2)
    steps.set_xscale("log")
    steps.set_xlabel("bytes of a gradient's payload")
    steps.set_ylabel("thousand steps to 475 (hollow: not solved)")
    steps.legend(frameon=False, fontsize=6.5, ncols=2)
    curves.set_xscale("log")
    curves.set_xlabel("megabytes sent up, both actors")
    curves.set_ylabel("mean return of 100 episodes")
    figure.savefig(path, facecolor="white")
