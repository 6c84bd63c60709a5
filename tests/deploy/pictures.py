"""Takes the pictures in ``deploy/pictures``: LunarLander-v3, learnt and going on, on the learner's page and a terminal.

``python -m tests.deploy.pictures``: needs Chromium, the extra ``box2d`` and about a minute. With ``terminal`` behind it
those of the terminal alone, without Chromium.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.deploy.browser import browsing
from tests.learner.monitoring.screen import Screen, Session
from tests.loopback.system import ROOT, Launcher, free_ports

PICTURES = ROOT / "deploy" / "pictures"
LEARNT = "parseFloat(document.getElementById('return').textContent.replace('\\u2212', '-')) > 140"
LEARNT_RETURN = 140.0
DRAWING = "\x1b[?2026h"  # begins one on a terminal
MOST_S = 400.0
SETTLED_S = 2.5  # after a change of size, so that it was drawn again with new numbers


async def take(folder: Path, launcher: Launcher) -> None:
    """Light on a desk, dark on a phone."""
    port = free_ports()
    arguments = ("lunarlander", "--actors", 2, "--until-return", 320, "--run-dir", folder / "run")
    learner = launcher.learner(*arguments, "--http", f"127.0.0.1:{port}")
    await asyncio.to_thread(learner.event, "started")
    async with browsing(folder / "browser") as page:
        await page.open(f"http://127.0.0.1:{port}/")
        await page.until(LEARNT, MOST_S)
        for name, width, height, dark in (("page", 1280, 800, False), ("page-dark-phone", 390, 844, True)):
            await page.shape(width, height, dark=dark)
            await asyncio.sleep(SETTLED_S)
            await asyncio.to_thread((PICTURES / f"{name}.png").write_bytes, await page.picture())


def take_terminal(folder: Path) -> None:
    """As wide as terminals are, and half of that."""
    with Session(("learner", "run", "lunarlander", "--run-dir", "runs/lunar"), folder, 80, 24) as session:
        session.until(_learnt)
        _write("terminal", session, "learner run lunarlander")
        session.resize(40, 30)
        drawn = session.screen.frames
        session.until(lambda screen: screen.frames > drawn + 2)
        _write("terminal-narrow", session, "learner run lunarlander")


def _learnt(screen: Screen) -> bool:
    reached = re.search(r"return +(-?[\d.]+) of", "\n".join(screen.shown))
    return reached is not None and float(reached[1]) > LEARNT_RETURN


def _write(name: str, session: Session, title: str) -> None:
    """The newest drawing as a vector picture. Fonts are the reader's own: none is loaded from anywhere."""
    drawing = re.sub(r"\x1b\[\??\d*[A-Zhl]", "", session.said.rpartition(DRAWING)[2]).replace("\r", "").rstrip()
    recorder = Console(record=True, width=session.screen.columns, file=io.StringIO(), force_terminal=True)
    recorder.print(Text.from_ansi(drawing))
    svg = recorder.export_svg(title=title, unique_id=name)
    (PICTURES / f"{name}.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), "utf-8")


def main() -> None:
    """All of them, or those that are named."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        take_terminal(Path(scratch))
    if sys.argv[1:] == ["terminal"]:
        return
    with tempfile.TemporaryDirectory() as scratch, Launcher(Path(scratch)) as launcher:
        asyncio.run(take(Path(scratch), launcher))


if __name__ == "__main__":
    main()
