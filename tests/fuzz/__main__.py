"""Fuzzes decoders with atheris: ``python -m tests.fuzz SECONDS [--keep] [TARGET ...]``, each target for so long.

An input that breaks a decoder is written to ``corpus`` beside this file, where ``make test`` replays it from then on.
With --keep the shortest of those that reached something new are kept there too, up to MOST_KEPT.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

MOST_KEPT = 30  # files of one target
MAX_BYTES = 4096  # of one input
MAX_RSS_MB = 1024
FUZZING = "FARFLUNG_FUZZING"  # in the environment of the process that fuzzes: its target


def fuzz(target: str, seconds: int, keep: bool) -> int:
    """Runs one target in a process of its own, which ends with libFuzzer; its exit code."""
    from tests.fuzz.targets import CORPUS, seeds

    kept = CORPUS / target
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="farflung-fuzz-") as folder:
        found, sound = (Path(folder) / name for name in ("found", "sound"))
        for each in (found, sound):
            each.mkdir()
        for number, data in enumerate(seeds(target)):
            (sound / f"{number}").write_bytes(data)
        code = _run(target, f"-max_total_time={seconds}", f"-artifact_prefix={kept}/", found, kept, sound)
        if keep and not code:
            for path in sorted(found.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
                if len(list(kept.iterdir())) < MOST_KEPT:
                    (kept / f"{path.name[:16]}.bin").write_bytes(path.read_bytes())
    for broken in kept.glob("*-*"):  # as libFuzzer names them: crash-, oom-, timeout-
        broken.replace(broken.with_suffix(".bin"))
    return code


def _run(target: str, *arguments: object) -> int:
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        f"-max_len={MAX_BYTES}",
        f"-rss_limit_mb={MAX_RSS_MB}",
        "-timeout=10",
    ]
    return subprocess.run(
        [*command, "-print_final_stats=1", *map(str, arguments)], env={**os.environ, FUZZING: target}, check=False
    ).returncode


def child(target: str) -> None:
    """Never returns."""
    import atheris

    with atheris.instrument_imports(include=["protocol", "learner", "safetensors", "msgspec"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


def main(seconds: str, *words: str) -> int:
    """1 where any target broke."""
    from tests.fuzz.targets import TARGETS

    targets = [word for word in words if word != "--keep"] or list(TARGETS)
    codes = [fuzz(target, int(seconds), "--keep" in words) for target in targets]
    return int(any(codes))


if __name__ == "__main__":
    if FUZZING in os.environ:
        child(os.environ[FUZZING])
    sys.exit(main(*sys.argv[1:]))
