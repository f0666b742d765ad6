"""Monitoring: rules, panels and the autoscaler ask for numbers that the services export."""

import re

import pytest

from common.metrics import REGISTRY
from services.job.api.metrics import GAUGES
from tests.support.pages import page, rows, section


@pytest.mark.parametrize("asking", ["monitoring/rules.yaml", "monitoring/dashboard.json", "autoscaling/processor.yaml"])
def test_what_is_asked_of_prometheus_is_exported(asking: str) -> None:
    asked = set(re.findall(r"\b(?:gristmill|http_server|db_client)_\w+", page(f"deploy/k8s/components/{asking}")))
    counted = {f"{family.name}{part}" for family in REGISTRY.collect() for part in ("", "_bucket", "_count", "_sum")}
    assert asked
    assert asked <= counted | {name for name, _, _ in GAUGES}


def test_the_guide_says_what_to_do_about_each_alert() -> None:
    alerts = section(page("docs/operations.md"), "## Alerts")
    ruled = re.findall(r"alert: (\w+)", page("deploy/k8s/components/monitoring/rules.yaml"))
    assert [name for name, *_ in rows(alerts)] == ruled
