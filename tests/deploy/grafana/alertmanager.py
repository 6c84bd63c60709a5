"""A real Alertmanager with deploy/prometheus/alertmanager.yml, and who heard of what. Knows processes and HTTP."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.rules import PROMETHEUS
from tests.loopback.system import free_ports

PROGRAM = "prometheus-alertmanager"
ADDRESS = "127.0.0.1:9095"  # of the receivers in the example


@dataclass(slots=True)
class Alertmanager:
    """address: HOST:PORT. heard: names of alerts, by the receiver that was told."""

    address: str
    heard: dict[str, set[str]]


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """The example as it stands, but for where its receivers listen."""
    heard: dict[str, set[str]] = defaultdict(set)

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard[self.path.lstrip("/")].update(alert["labels"]["alertname"] for alert in told["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        text = (PROMETHEUS / "alertmanager.yml").read_text(encoding="utf-8")
        assert text.count(ADDRESS) == 3
        (folder / "alertmanager.yml").write_text(text.replace(ADDRESS, f"127.0.0.1:{server.server_port}"))
        place = f"127.0.0.1:{free_ports()}"
        with (folder / "alertmanager.log").open("wb") as log:
            process = subprocess.Popen([
                str(shutil.which(PROGRAM)), f"--config.file={folder}/alertmanager.yml",
                f"--storage.path={folder}/alertmanager", f"--web.listen-address={place}", "--cluster.listen-address=",
            ], stderr=log, stdout=log)  # fmt: skip
        try:
            yield Alertmanager(place, heard)
        finally:
            process.terminate()
            process.wait(10)
            server.shutdown()
