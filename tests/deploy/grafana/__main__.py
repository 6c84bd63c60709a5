"""``python -m tests.deploy.grafana``: draws every panel of every dashboard, light and dark, and says what is wrong.

Three real runs under a real Prometheus for some minutes (``scene``), Grafana's own front end in Chromium. Ends with 1
where a panel has no data or an error, or where ``alertmanager.yml`` tells the wrong receiver of an alert. The pictures
go to deploy/grafana/pictures, or where ``--pictures`` says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path

from tests.bench.machine import ROOT
from tests.deploy import browser, rules
from tests.deploy.grafana import tool
from tests.deploy.grafana.alertmanager import PROGRAM as ALERTMANAGER
from tests.deploy.grafana.alertmanager import alertmanager
from tests.deploy.grafana.drawing import drawn
from tests.deploy.grafana.judging import complaints
from tests.deploy.grafana.scene import ALERTS, shown
from tests.faults.scene import until

PICTURES = ROOT / "deploy" / "grafana" / "pictures"
PROGRAMS, CHROMIUM = ["node", "npm", "prometheus", ALERTMANAGER], ["chromium"]
PACKAGES = "nodejs, npm, prometheus, prometheus-alertmanager, chromium"
HEARD = {"page": {"RunDiverged"}, "team": {"ActorsQuarantined"}}  # which receiver of which of the scene's alerts
HEARD_S = 60.0  # Alertmanager waits before it tells of a warning


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser("python -m tests.deploy.grafana", description=__doc__)
    parser.add_argument("--pictures", type=Path, default=PICTURES, metavar="DIR", help="where the pictures go")
    asked = parser.parse_args()
    if missing := [name for name in PROGRAMS if shutil.which(name) is None] + CHROMIUM[bool(browser.found()) :]:
        parser.error(f"not installed here: {', '.join(missing)} (Debian: {PACKAGES})")
    began = time.monotonic()
    tool.bundled()
    print(f"Grafana's front end is bundled after {time.monotonic() - began:.0f} s", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="farflung-grafana-") as scratch,
        alertmanager(Path(scratch)) as alerting,
        shown(alerting.address) as seen,
    ):
        print(f"the runs were looked at after {time.monotonic() - began:.0f} s", flush=True)
        asked.pictures.mkdir(parents=True, exist_ok=True)
        records = asyncio.run(drawn(sorted(rules.boards()), seen, asked.pictures, Path(scratch)))
        until(lambda: HEARD.items() <= {who: ALERTS & names for who, names in alerting.heard.items()}.items(), HEARD_S)
        heard = {who: ALERTS & names for who, names in alerting.heard.items() if ALERTS & names}
    for record in records:
        print(json.dumps({**record, "panels": len(record["panels"])}), flush=True)
    print(json.dumps({who: sorted(names) for who, names in alerting.heard.items()}), flush=True)
    found = list(complaints(records))
    found += [] if heard == HEARD else [f"receivers of alerts heard of {heard}, and should of {HEARD}"]
    print("\n".join(found), flush=True)
    panels = sum(len(record["panels"]) for record in records)
    print(f"{panels} panels drawn in {time.monotonic() - began:.0f} s, {len(found)} complaints", flush=True)
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
