"""What is logged of a request, and what is not."""

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from common.ids import new_id
from common.metrics import REGISTRY
from common.settings import AccessLog
from common.web.middleware.observing import ROUTE, Observing

JOB_ID = new_id()


async def ask(
    log: AccessLog, path: str, status: int | None = 200, more: Mapping[str, Any] | None = None
) -> list[MutableMapping[str, Any]]:
    """What is logged of a request that is answered so; one whose status is None isn't answered."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if status is not None:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"answer"})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"body", "more_body": False}

    async def send(_: Message) -> None:
        """The client."""

    asked = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"token=secret",
        "headers": [],
        **(more or {}),
    }
    with capture_logs() as logged:
        await Observing(app, log)(asked, receive, send)
    return logged


async def test_a_request_is_logged_by_its_route_and_not_by_its_address() -> None:
    path = f"/api/v1/job/{JOB_ID}/output/secret.pdf"
    route = "/api/v1/job/{job_id}/output/{output_name}"
    (entry,) = await ask(
        "most", path, 200, {ROUTE: route, "path_params": {"job_id": JOB_ID, "output_name": "secret.pdf"}}
    )
    assert entry.pop("milliseconds") >= 0
    assert entry == {
        "event": "request.completed",
        "log_level": "info",
        "method": "GET",
        "route": route,
        "status": 200,
        "bytes_in": 4,
        "bytes_out": 6,
        "job": JOB_ID,
    }


async def test_words_of_strangers_are_not_logged_in_the_place_of_ids_methods_or_routes() -> None:
    (entry,) = await ask("most", "/secret", 404, {"method": "SECRET", "path_params": {"job_id": "secret"}})
    assert (entry["method"], entry["route"], entry["status"]) == ("_OTHER", "", 404)
    assert "secret" not in str(entry).lower()


@pytest.mark.parametrize(
    ("log", "path", "status", "count"),
    [
        ("most", "/api/v1/job/x/status", 200, 0),
        ("most", "/api/v1/job/x/status", 401, 1),
        ("most", "/readyz", 503, 1),
        ("most", "/api/v1/claim", 200, 0),
        ("most", "/api/v1/job", 200, 1),
        ("all", "/api/v1/job/x/status", 200, 1),
        ("none", "/api/v1/job", 500, 0),
    ],
)
async def test_what_polls_and_succeeds_is_left_out_unless_all_is_asked_for(
    log: AccessLog, path: str, status: int, count: int
) -> None:
    assert len(await ask(log, path, status)) == count


async def test_a_client_that_went_before_the_answer_is_499() -> None:
    (entry,) = await ask("most", "/api/v1/job", None)
    assert (entry["status"], entry["bytes_out"]) == (499, 0)


async def test_what_fails_while_it_is_answered_is_logged_and_still_fails() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError

    async def nothing(*_: object) -> Any:
        """Neither side says anything."""

    with capture_logs() as logged, pytest.raises(asyncio.CancelledError):
        await Observing(app)({"type": "http", "method": "GET", "path": "/a", "headers": []}, nothing, nothing)
    assert [entry["status"] for entry in logged] == [200]


async def test_requests_that_are_being_answered_are_counted_over_all_ports() -> None:
    seen: list[float | None] = []

    def active() -> None:
        seen.append(REGISTRY.get_sample_value("http_server_active_requests"))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        active()
        if scope["path"] == "/outer":
            await Observing(app)({**scope, "path": "/inner"}, receive, send)  # stands for another port's
        active()

    async def nothing(*_: object) -> Any:
        """Neither side says anything."""

    active()
    await Observing(app)({"type": "http", "method": "GET", "path": "/outer", "headers": []}, nothing, nothing)
    active()
    assert seen == [0, 1, 2, 2, 1, 0]
