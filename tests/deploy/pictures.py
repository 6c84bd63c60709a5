"""Takes the pictures of the learner's page in ``deploy/pictures``: LunarLander-v3, learnt and going on.

``python -m tests.deploy.pictures``: needs Chromium, the extra ``box2d`` and about a minute.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.deploy.browser import browsing
from tests.loopback.system import ROOT, Launcher, free_ports

PICTURES = ROOT / "deploy" / "pictures"
LEARNT = "parseFloat(document.getElementById('return').textContent.replace('\\u2212', '-')) > 140"
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


def main() -> None:
    """Both pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, Launcher(Path(scratch)) as launcher:
        asyncio.run(take(Path(scratch), launcher))


if __name__ == "__main__":
    main()
