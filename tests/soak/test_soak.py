"""A minute of the soak; and its checker, which must be able to find fault."""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.soak import plan
from tests.soak.checker import Verdict, check
from tests.soak.clients import Acknowledged
from tests.soak.soak import soak

SEED = 1
CONTENT = b"the content"


async def test_a_minute_of_faults_loses_nothing(tmp_path: Path) -> None:
    done = await soak(tmp_path, SEED, 60, print)
    assert done.faults["kill"] > 0
    assert done.faults["stop"] > 0
    assert done.verdict.faults == []
    assert done.seen.unexpected == {}
    assert done.verdict.completed == len(done.seen.jobs) > 0


def test_a_seed_is_a_plan() -> None:
    assert plan.faults(7, 600) == plan.faults(7, 600) != plan.faults(8, 600)
    assert plan.faults(7, 60) == [fault for fault in plan.faults(7, 600) if fault.at < 60]


def test_a_plan_lets_the_runner_keep_each_process_running() -> None:
    for seed in range(20):
        for service in plan.SERVICES:
            kills = [fault.at for fault in plan.faults(seed, 600) if fault.victim == service and fault.kind == "kill"]
            assert all(after - before >= plan.QUIET_SECONDS for before, after in itertools.pairwise(kills))


async def checked(**said: Any) -> Verdict:
    """What the checker makes of a job that is right but for what is `said` of it."""
    output = json.dumps({"digest": hashlib.sha256(said.get("content", CONTENT)).hexdigest()}).encode()
    digest = said.get("sha256", hashlib.sha256(output).hexdigest())
    outputs = [{"name": "checksum.json", "href": "/output", "sha256": digest}] * said.get("outputs", 1)

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["subject"] == "stranger" and not said.get("leaks"):
            return httpx.Response(404)
        if request.url.path.endswith("/status"):
            return httpx.Response(200, json={"status": said.get("status", "EXECUTION_COMPLETED")})
        if request.url.path.endswith("/output"):
            return httpx.Response(200, content=output)
        return httpx.Response(200, json={"outputs": outputs})

    owner, stranger = (
        httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://front", headers={"subject": subject})
        for subject in ("owner", "stranger")
    )
    async with owner, stranger:
        return await check([Acknowledged(0, "/job", CONTENT)], [owner, stranger], seconds=0.2)


async def test_the_checker_passes_what_is_right() -> None:
    verdict = await checked()
    assert (verdict.completed, verdict.faults) == (1, [])


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"status": "SUBMITTED"}, "lost"),
        ({"status": "EXECUTION_ERROR"}, "wrong"),
        ({"outputs": 0}, "wrong"),
        ({"outputs": 2}, "wrong"),
        ({"sha256": "0" * 64}, "wrong"),
        ({"content": b"another's"}, "wrong"),
        ({"leaks": True}, "leaked"),
    ],
    ids=["not-final", "failed", "no-output", "two-outputs", "digest", "anothers-input", "leak"],
)
async def test_the_checker_finds_fault(said: dict[str, Any], kind: str) -> None:
    verdict = await checked(**said)
    assert len(getattr(verdict, kind)) >= 1
    assert len(verdict.faults) == len(getattr(verdict, kind))
