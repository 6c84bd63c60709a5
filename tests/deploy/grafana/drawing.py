"""A dashboard in Chromium: its picture, and what each panel was asked and had. Knows the page of ``app.jsx``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.deploy import rules
from tests.deploy.browser import Page, browsing
from tests.deploy.grafana import tool
from tests.deploy.grafana.scene import Shown

WIDE, DEADLINE_S = 1600, 90.0
HTML = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><link rel="stylesheet" href="/app.css">
<style>*{box-sizing:border-box}html{font-size:14px}body{margin:0}</style><div id="root"></div>
<script>window.ASKED=%s;window.grafanaBootData={settings:{},user:{}}</script><script src="/app.js"></script>"""
PACKED = {
    "/public/build/img/": "/node_modules/@grafana/ui/dist/public/img/",
    "/public/fonts/inter/Inter-Regular.": "/node_modules/@fontsource/inter/files/inter-latin-400-normal.",
    "/public/fonts/inter/Inter-Medium.": "/node_modules/@fontsource/inter/files/inter-latin-500-normal.",
}

Json = dict[str, Any]


async def drawn(boards: list[str], shown: Shown, folder: Path, scratch: Path) -> list[Json]:
    """Draws each board, light and dark, into ``folder``; a record for each: board, dark, panels, alerts, errors."""
    found = []
    async with browsing(scratch) as page:
        with _served() as address:
            for uid in boards:
                for dark in (False, True):
                    picture = folder / f"{uid}{'-dark' if dark else ''}.png"
                    found.append(await _one(page, address, uid, shown, picture, dark=dark))
    return found


async def _one(page: Page, address: str, uid: str, shown: Shown, picture: Path, *, dark: bool) -> Json:
    asked = {"board": rules.boards()[uid], "prometheus": shown.prometheus.url, "run": shown.run, "dark": dark}
    moments = {"from": round(shown.begin * 1000), "to": round(shown.end * 1000)}
    text = json.dumps({**asked, **moments}).replace("<", "\\u003c")
    (tool.BUILD / "index.html").write_text(HTML % text, encoding="utf-8")
    page.errors.clear()
    await page.shape(WIDE, 1000, dark=dark)
    await page.open(f"{address}/index.html")
    said: Json = await page.until("window.DRAWN", DEADLINE_S)
    await page.shape(WIDE, round(said["high"]), dark=dark)
    await asyncio.to_thread(picture.write_bytes, await page.picture())
    return {"board": uid, "dark": dark, **said, "errors": list(page.errors)}


@contextlib.contextmanager
def _served() -> Iterator[str]:
    """The bundle, on a port of this machine."""
    handler = functools.partial(_Quiet, directory=str(tool.BUILD))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        """Icons and fonts lie elsewhere in the packages than Grafana serves them."""
        for served, packed in PACKED.items():
            path = path.replace(served, packed)
        return super().translate_path(path)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def end_headers(self) -> None:
        """Nothing is kept between two dashboards."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()
