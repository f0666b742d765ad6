"""The checker of the soak must be able to find fault: a front that lies in one way at a time."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.soak import checker
from tests.soak.checker import Verdict, check
from tests.soak.seen import CANCELLED, CHECKSUM, COMPLETED, NAP, Acknowledged, Refusal

CONTENT = b"the content"
JOB = Acknowledged(0, "/api/v1/job/7", "7.bin", CHECKSUM, hashlib.sha256(CONTENT).hexdigest())
NAPPED = replace(JOB, processor=NAP)


def page(request: httpx.Request, said: dict[str, Any]) -> httpx.Response:
    """What front answers the owner of one job that is right but for what is `said` of it."""
    status = said.get("status", COMPLETED)
    output = said.get("output", json.dumps({"digest": hashlib.sha256(CONTENT).hexdigest()}).encode())
    path = request.url.path
    if path == "/api/v1/job":
        listed = {"id": "7", "name": "7.bin", "status": said.get("listed", status)}
        return httpx.Response(200, json={"items": [{**listed, "id": one} for one in said.get("ids", ["7"])]})
    if said.get("unknown"):
        return httpx.Response(404)
    if path.endswith("/output"):
        return httpx.Response(said.get("output_status", 200), content=output)
    digest = said.get("sha256", hashlib.sha256(output).hexdigest())
    one = {"name": said.get("name", "checksum.json"), "href": f"{JOB.location}/output", "sha256": digest}
    outputs = [one] * said.get("outputs", 0 if status == CANCELLED else 1)
    history = [{"status": state} for state in ("STORED", *said.get("ends", [status]))]
    return httpx.Response(200, json={"status": status, "outputs": outputs, "history": history})


async def checked(job: Acknowledged, **said: Any) -> Verdict:
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["subject"] == "owner":
            return page(request, said)
        if request.url.path == "/api/v1/job":
            return httpx.Response(200, json={"items": []})
        leak = "leaks" in said and request.url.path == JOB.location + said["leaks"]
        return httpx.Response(200 if leak else 404)

    owner, stranger = (
        httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://front", headers={"subject": subject})
        for subject in ("owner", "stranger")
    )
    async with owner, stranger:
        return await check([job], [owner, stranger], seconds=0.2)


@pytest.mark.parametrize(
    ("job", "said", "end"),
    [
        (JOB, {}, COMPLETED),
        (replace(JOB, told=COMPLETED), {}, COMPLETED),
        (NAPPED, {"name": "result.txt", "output": CONTENT}, COMPLETED),
        (replace(JOB, cancelled=True), {"status": CANCELLED}, CANCELLED),
        (replace(JOB, cancelled=True), {}, COMPLETED),
        (replace(JOB, deleted=True), {"unknown": True, "ids": []}, "deleted"),
        (replace(JOB, deleted=None), {"unknown": True, "ids": []}, "deleted"),
        (replace(JOB, deleted=None), {}, COMPLETED),
    ],
    ids=["done", "told", "nap", "cancelled", "done-before-cancel", "deleted", "deleted-unheard", "delete-not-heard"],
)
async def test_the_checker_passes_what_is_right(job: Acknowledged, said: dict[str, Any], end: str) -> None:
    verdict = await checked(job, **said)
    assert (verdict.faults, verdict.ends) == ([], {end: 1})


WRONG = {
    "not final": (JOB, {"status": "SUBMITTED"}, {"lost", "unreported"}),
    "unknown": (JOB, {"unknown": True}, {"lost"}),
    "not listed": (JOB, {"ids": []}, {"lost"}),
    "front was not told": (JOB, {"listed": "SUBMITTED"}, {"unreported"}),
    "failed": (JOB, {"status": "EXECUTION_ERROR"}, {"wrong"}),
    "cancelled unasked": (JOB, {"status": CANCELLED}, {"wrong"}),
    "cancelled, with an output": (replace(JOB, cancelled=True), {"status": CANCELLED, "outputs": 1}, {"wrong"}),
    "another end than was told": (replace(JOB, told=CANCELLED, cancelled=True), {}, {"wrong"}),
    "two ends": (JOB, {"ends": [COMPLETED, COMPLETED]}, {"wrong"}),
    "no output": (JOB, {"outputs": 0}, {"wrong"}),
    "two outputs": (JOB, {"outputs": 2}, {"wrong"}),
    "an output that is gone": (JOB, {"output_status": 404}, {"wrong"}),
    "an output other than its digest": (JOB, {"sha256": "0" * 64}, {"wrong"}),
    "the output of another": (JOB, {"output": b'{"digest": "another\'s"}'}, {"wrong"}),
    "the file of another": (NAPPED, {"name": "result.txt", "output": b"another's"}, {"wrong"}),
    "two jobs": (JOB, {"ids": ["7", "8"]}, {"doubled"}),
    "deleted, and there again": (replace(JOB, deleted=True), {"unknown": True, "ids": ["8"]}, {"doubled"}),
    "deleted, and not": (replace(JOB, deleted=True), {"ids": []}, {"wrong"}),
    "deleted, and listed": (replace(JOB, deleted=True), {"unknown": True}, {"wrong"}),
    "seen by a stranger": (JOB, {"leaks": ""}, {"leaked"}),
    "its status seen by a stranger": (JOB, {"leaks": "/status"}, {"leaked"}),
    "its output seen by a stranger": (JOB, {"leaks": "/output"}, {"leaked"}),
}


@pytest.mark.parametrize(("job", "said", "kinds"), WRONG.values(), ids=WRONG)
async def test_the_checker_finds_fault(job: Acknowledged, said: dict[str, Any], kinds: set[str]) -> None:
    verdict = await checked(job, **said)
    found = {kind for kind in ("lost", "doubled", "wrong", "leaked", "unreported") if getattr(verdict, kind)}
    assert found == kinds


async def test_the_checker_hears_a_front_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "AGAIN_SECONDS", 0)
    answers: Iterator[httpx.Response | httpx.ConnectError] = iter(
        (httpx.Response(503), httpx.ConnectError("away"), httpx.Response(200))
    )

    async def answer(_: httpx.Request) -> httpx.Response:
        said = next(answers)
        if isinstance(said, httpx.Response):
            return said
        raise said

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://front") as client:
        assert (await checker._get(client, "/")).status_code == 200


@pytest.mark.parametrize(
    ("refusal", "decent"),
    [
        (Refusal(0, 503, "", "1"), True),
        (Refusal(0, 503, ""), False),
        (Refusal(0, 502, ""), True),
        (Refusal(0, 500, ""), False),
        (Refusal(0, 404, ""), False),
        (Refusal(0, 0, "ConnectError"), True),
        (Refusal(0, 0, "ReadTimeout"), False),
    ],
)
def test_a_fault_excuses_only_decent_refusals(refusal: Refusal, *, decent: bool) -> None:
    assert refusal.is_decent == decent
