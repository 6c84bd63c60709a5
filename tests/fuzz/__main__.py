"""Fuzzes decoders with atheris: ``python -m tests.fuzz SECONDS [--keep] [TARGET ...]``, each target for so long.

An input that breaks a decoder is written to ``corpus`` beside this file, where ``make test`` replays it from then on.
With --keep the shortest of the inputs that reach code that no kept one reaches are kept there too.
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
        found, sound, chosen = (Path(folder) / name for name in ("found", "sound", "chosen"))
        for each in (found, sound, chosen):
            each.mkdir()
        for number, data in enumerate(seeds(target)):
            (sound / f"{number}").write_bytes(data)
        code = _run(target, f"-max_total_time={seconds}", f"-artifact_prefix={kept}/", found, kept, sound)
        if keep and not code:
            _run(target, "-merge=1", chosen, sound, kept, found)
            taken = sorted(chosen.iterdir(), key=lambda path: (path.stat().st_size, path.name))
            known = set(seeds(target))
            fresh = [path for path in taken if path.read_bytes() not in known][:MOST_KEPT]
            for path in kept.iterdir():
                path.unlink()
            for path in fresh:
                (kept / path.name[:16]).write_bytes(path.read_bytes())
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
