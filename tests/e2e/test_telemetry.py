"""What an operator sees of one job from outside: its trace, its lines in the logs, and its part in the metrics."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.traces import Traces, new_trace, receiving
from tests.support.journey import ENOUGH_SECONDS, RAW, assert_completes
from tests.support.local import Local, environment, running

PATH = "/api/v1/job?processor=checksum"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-|[0-9a-f]{32}")
# Who does what, and for whom.
SPANS = {
    ("front", "POST /api/v1/job", None),
    ("blob", "PUT /api/v1/blob/{blob_id}", "front"),
    ("job", "POST /api/v1/job", "front"),
    ("processor", "run checksum", "front"),
    ("blob", "GET /api/v1/blob/{blob_id}", "processor"),
    ("processor", "child checksum", "processor"),
    ("blob", "PUT /api/v1/blob/{blob_id}", "processor"),
    ("job", "POST /api/v1/run/{id}/complete", "processor"),
    ("front", "settle", "front"),
    ("front", "GET /api/v1/job/{job_id}/output", None),
    ("blob", "GET /api/v1/blob/{blob_id}", "front"),
}


@dataclass(frozen=True)
class Watched:
    """A Gristmill, and what is received of its traces."""

    local: Local
    traces: Traces
    metrics: dict[str, str]

    def spans(self, trace: str) -> set[tuple[str, str, str | None]]:
        """Of each span its service, its name, and the service that it worked for."""
        spans = self.traces.of(trace)
        services = {span.id: span.service.removeprefix("gristmill-") for span in spans}
        return {(services[span.id], span.name, services.get(span.parent)) for span in spans}

    def logged(self, process: str) -> list[dict[str, Any]]:
        lines = (self.local.data / "logs" / f"{process}.log").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    with receiving() as traces:
        yield traces


@pytest.fixture(scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory, traces: Traces) -> AsyncIterator[Watched]:
    settings = {**environment(Path(tmp_path_factory.mktemp("telemetry"))), **traces.environment}
    ports = {"front": settings["FRONT_INTERNAL_PORT"], "blob": settings["BLOB_PORT"], "job": settings["JOB_PORT"]}
    async with running(settings) as local:
        metrics = {name: f"http://127.0.0.1:{port}/metrics" for name, port in ports.items()}
        yield Watched(local, traces, metrics)


@pytest.mark.long
async def test_a_job_is_one_trace_from_its_post_to_its_output(watched: Watched) -> None:
    trace, traceparent = new_trace()
    traced = {"traceparent": traceparent}
    async with watched.local.client() as http, asyncio.timeout(ENOUGH_SECONDS):
        posted = await http.post(PATH, content=b"traced", headers={**RAW, **traced})
        await assert_completes(http, posted.headers["Location"], b"traced")
        (await http.get(f"{posted.headers['Location']}/output", headers=traced)).raise_for_status()
        while not watched.spans(trace) >= SPANS:  # noqa: ASYNC110 - another thread receives them
            await asyncio.sleep(0.05)
    assert watched.spans(trace) == SPANS


@pytest.mark.long
async def test_a_post_without_a_trace_begins_one_and_the_logs_name_it(watched: Watched) -> None:
    async with watched.local.client("acme", "canary-subject") as http, asyncio.timeout(ENOUGH_SECONDS):
        posted = await http.post(f"{PATH}&name=canary-name", content=b"logged", headers=RAW)
        job_id = posted.json()["id"]
        await assert_completes(http, posted.headers["Location"], b"logged")
        refused = await http.get(f"{posted.headers['Location']}/status?canary=x", headers={"Prefer": "wait=canary"})
    (made,) = [entry for entry in watched.logged("front") if entry.get("job") == job_id and entry.get("status") == 201]
    asked = {key: made[key] for key in ("action", "method", "route", "tenant", "bytes_in", "level")}
    assert asked == {
        "action": "request.completed",
        "method": "POST",
        "route": "/api/v1/job",
        "tenant": "acme",
        "bytes_in": len(b"logged"),
        "level": "info",
    }
    (claimed,) = [
        entry for entry in watched.logged("processor") if entry["action"] == "run.claimed" and entry["run"] == job_id
    ]
    assert claimed["trace"] == made["trace"]
    async with asyncio.timeout(ENOUGH_SECONDS):
        while ("processor", "run checksum", "front") not in watched.spans(made["trace"]):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
    assert refused.status_code in (200, 400)
    assert "canary" not in (watched.local.data / "logs" / "front.log").read_text()


@pytest.mark.long
async def test_the_metrics_count_it_and_have_no_id_for_a_label(watched: Watched) -> None:
    async with watched.local.client() as http, asyncio.timeout(ENOUGH_SECONDS):
        posted = await http.post(PATH, content=b"counted", headers=RAW)
        await assert_completes(http, posted.headers["Location"], b"counted")
        (await http.request("PROPFIND", posted.headers["Location"])).read()
        (await http.get("/nowhere")).read()
    async with httpx.AsyncClient(trust_env=False) as scraper:
        texts = {name: (await scraper.get(url)).raise_for_status().text for name, url in watched.metrics.items()}
    samples = {
        (name, sample.name, *sorted(sample.labels.values())): sample.value
        for name, text in texts.items()
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    counted = "http_server_request_duration_seconds_count"
    for expected in (
        ("front", counted, "/api/v1/job", "201", "POST"),
        ("front", counted, "", "404", "GET"),
        ("front", counted, "/api/v1/job/{job_id}", "405", "_OTHER"),
        ("front", "http_server_request_body_size_bytes_count", "/api/v1/job", "POST"),
        ("front", "db_client_operation_duration_seconds_count", "", "update"),
        ("blob", counted, "/api/v1/blob/{blob_id}", "201", "PUT"),
        ("blob", "gristmill_store_operation_duration_seconds_count", "filesystem", "publish"),
        ("job", counted, "/api/v1/claim", "200", "POST"),
        ("job", "gristmill_run_duration_seconds_count", "checksum", "success"),
    ):
        assert samples.get(expected, 0) > 0, expected
    assert not [key for key in samples if any(ID.search(value) for value in key[2:])]


@pytest.mark.long
async def test_make_up_shows_the_trace_of_its_picture_as_a_tree(tmp_path: Path) -> None:
    settings = {**environment(tmp_path / "data"), "DEMO": "1", "TRACE": "1"}
    async with running(settings, folder=tmp_path) as local:
        at = next(number for number, line in enumerate(local.said) if line.startswith("Its trace, "))
        lines = [re.split(r"  +-?\d", line)[0] for line in local.said[at + 1 :]]
    tree = lines[: lines.index("")]
    assert tree[:6] == [
        "  front: POST /api/v1/job",
        "    blob: PUT /api/v1/blob/{blob_id}",
        "    job: POST /api/v1/job",
        "    processor: run image-variants",
        "      blob: GET /api/v1/blob/{blob_id}",
        "      processor: child image-variants",
    ]
    assert "  front: GET /api/v1/job/{job_id}/output/{output_name}" in tree


def test_off_it_imports_nothing_of_opentelemetrys_sdk() -> None:
    program = (
        "import sys; from common import telemetry; import services.front.app, services.job.app, services.blob.app;"
        "import services.processor.app; telemetry.start('front');"
        "made = ('opentelemetry.sdk', 'opentelemetry.exporter');"
        "print(telemetry.is_on(), telemetry.traceparent(), [name for name in sys.modules if name.startswith(made)])"
    )
    said = subprocess.run([sys.executable, "-c", program], env={}, capture_output=True, text=True, check=True)
    assert said.stdout == "False None []\n"
