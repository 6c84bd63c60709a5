"""Writes components/monitoring/rules.yaml of deploy/prometheus/*.rules.yml: ``python -m deploy.kubernetes.generate``.

The Prometheus operator wants rules inside resources of its own. The result is committed, so that kubectl needs no
Python; ``tests/deploy/test_manifests.py`` holds the two together.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

HERE = Path(__file__).parent
TARGET = HERE / "components/monitoring/rules.yaml"
SOURCES = sorted((HERE.parent / "prometheus").glob("*.rules.yml"))
HEAD = "# deploy/prometheus/*.rules.yml, as python -m deploy.kubernetes.generate puts them for the operator.\n"
RESOURCE = """apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {name}
spec:
"""


def made() -> str:
    """One resource for each file, its comments included."""
    return HEAD + "---\n".join(map(_resource, SOURCES))


def _resource(source: Path) -> str:
    stem = source.name.removesuffix(".rules.yml")
    name = stem if stem == "farflung" else f"farflung-{stem}"
    return RESOURCE.format(name=name) + indent(source.read_text(encoding="utf-8"), "  ")


if __name__ == "__main__":
    TARGET.write_text(made(), encoding="utf-8")
