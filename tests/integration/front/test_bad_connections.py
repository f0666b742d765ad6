"""What a client can do to a connection: too much, too little, too slowly. Each over a real socket, byte by byte."""

import asyncio
import base64
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from common.ids import new_id
from tests.support.platform import Platform, open_platform, token
from tests.support.serving import serving
from tests.support.wire import KINDS, Watched, Wire, chunk

MIB = 1024 * 1024
# Where it is another than the input's.
LIMITS_MIB = {"batch": 8}


@pytest.fixture(scope="module")
async def running(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("bad-wire"))
    async with open_platform(
        mongodb_uri, folder.name, folder, max_input_bytes=2 * MIB, max_json_bytes=MIB, stall_seconds=1
    ) as platform:
        yield platform


@pytest.fixture(scope="module")
async def front(running: Platform) -> Watched:
    return Watched(running.front)


@pytest.fixture(scope="module")
async def address(front: Watched) -> AsyncIterator[str]:
    async with serving(front, header_seconds=1) as url:
        yield url


@pytest.fixture(autouse=True)
async def nothing_kept(running: Platform) -> AsyncIterator[None]:
    yield
    assert (await running.blob.list()).items == []
    assert await running.core.jobs.jobs.count_documents({}) == 0
    assert await running.core.inline.inline.count_documents({}) == 0


async def test_a_declared_size_over_the_limit_is_refused_before_the_body_is_read(address: str) -> None:
    async def refused(kind: str) -> None:
        wire = await Wire.open(address)
        await wire.post(kind, f"Content-Length: {10 * 1024 * MIB}")
        status, _, problem = await wire.refusal()
        assert (status, problem["type"]) == (413, "/problems/too-large")

    await asyncio.gather(refused("raw"), refused("json"), refused("batch"))


async def test_who_is_not_known_is_refused_before_the_body_is_read(address: str) -> None:
    for path in ("/api/v1/job", "/api/v1/batch", f"/api/v1/job/{new_id()}/upload/complete"):
        wire = await Wire.open(address)
        fields = ("Host: front", "Content-Type: application/json", "Content-Length: 5000")
        await wire.send("\r\n".join((f"POST {path} HTTP/1.1", *fields, "", "")).encode())
        async with asyncio.timeout(20):
            assert (await wire.reader.readuntil(b"\r\n")).split()[1] == b"401"
        wire.writer.close()


async def test_a_stream_that_passes_the_limit_is_refused_there_and_closed(address: str) -> None:
    async def refused(kind: str) -> None:
        wire = await Wire.open(address)
        await wire.post(kind, "Transfer-Encoding: chunked")
        for _ in range(8 * LIMITS_MIB.get(kind, 2) + 8):
            await wire.send(chunk(b"A" * (MIB // 8)))
        status, _, problem = await wire.refusal()  # though the body hasn't come to its end
        assert (status, problem["type"]) == (413, "/problems/too-large")

    await asyncio.gather(*map(refused, KINDS))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("header", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
async def test_a_body_shorter_than_declared_makes_no_job(address: str, front: Watched, kind: str, header: str) -> None:
    while not front.ended.empty():
        front.ended.get_nowait()
    wire = await Wire.open(address)
    await wire.post(kind, header)
    wire.writer.close()
    assert await asyncio.wait_for(front.ended.get(), 20) == "POST"


async def beside(address: str, waiting: Callable[[], Awaitable[Any]]) -> Any:
    """What is waited for, while other clients go on being answered."""
    task = asyncio.ensure_future(waiting())
    answered = 0
    async with httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {token()}"}) as other:
        while not task.done():
            assert (await other.get("/api/v1/processor")).status_code == 200
            answered += 1
    assert answered > 1
    return await task


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slow_body_is_closed_and_others_do_not_notice(address: str, kind: str) -> None:
    wires = [await Wire.open(address) for _ in range(20)]
    for wire in wires:
        await wire.post(kind, "Content-Length: 5000")
    for status, _, problem in await beside(address, lambda: asyncio.gather(*(wire.refusal() for wire in wires))):
        assert (status, problem["type"], problem["detail"]) == (400, "/problems/malformed", "The body stalled.")


@pytest.mark.parametrize("beginning", [b"", b"POST /api/v1/job HT", b"GET /livez HTTP/1.1\r\nX: y\r\nX-Slow: "])
async def test_slow_headers_are_closed_and_others_do_not_notice(address: str, beginning: bytes) -> None:
    wires = [await Wire.open(address) for _ in range(20)]
    for wire in wires:
        await wire.send(beginning)
    answers = await beside(address, lambda: asyncio.gather(*(wire.reader.read() for wire in wires)))
    assert answers == [b""] * 20
    for wire in wires:
        wire.writer.close()


async def test_dripping_headers_gain_no_time(address: str) -> None:
    wire = await Wire.open(address)
    await wire.send(b"GET /livez HTTP/1.1\r\nHost: front\r\nX: ")

    async def drip() -> None:
        while not wire.reader.at_eof():
            await wire.send(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    with suppress(ConnectionResetError):  # by a drop that was sent when the connection had been closed
        assert await asyncio.wait_for(wire.reader.read(), 20) == b""
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    wire.writer.close()


async def test_a_dripping_body_gains_no_time(address: str) -> None:
    wire = await Wire.open(address)
    await wire.post("raw", "Content-Length: 5000")

    async def drip() -> None:
        while not wire.reader.at_eof():
            await wire.send(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    status, _, problem = await wire.refusal()
    assert (status, problem["detail"]) == (400, "The body stalled.")
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)


async def test_a_refusal_arrives_though_its_client_still_sends(address: str, front: Watched) -> None:
    while not front.ended.empty():
        front.ended.get_nowait()
    wire = await Wire.open(address)
    await wire.post("raw", "Content-Length: 5000")
    await asyncio.wait_for(front.ended.get(), 20)
    for _ in range(3):
        await wire.send(b"x")
        await asyncio.sleep(0.01)  # a connection that was closed would be reset by now, and its response lost
    status, _, problem = await wire.refusal()
    assert (status, problem["detail"]) == (400, "The body stalled.")


async def test_slow_headers_of_a_later_request_are_closed(address: str) -> None:
    wire = await Wire.open(address)
    await wire.send(b"GET /livez HTTP/1.1\r\nHost: front\r\n\r\nGET /livez HTTP/1.1\r\nX: ")
    answer = await asyncio.wait_for(wire.reader.read(), 20)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1
    wire.writer.close()


@pytest.mark.parametrize(
    ("request_", "after"),
    [
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: front\r\n\r\n", b"\r\n", id="empty-line"),
        pytest.param(b"POST /livez HTTP/1.1\r\nHost: front\r\nContent-Length: 50\r\n\r\n", b"x", id="late-body"),
    ],
)
async def test_what_comes_after_an_answer_and_begins_no_request_is_closed(
    address: str, request_: bytes, after: bytes
) -> None:
    wire = await Wire.open(address)
    await wire.send(request_)
    assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
    await wire.send(after)
    async with asyncio.timeout(20):
        while await wire.reader.read(4096):
            pass
    wire.writer.close()


async def test_trailers_are_dropped_however_many_they_are() -> None:
    known: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        known.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with serving(app) as url:
        wire = await Wire.open(url)
        await wire.send(b"POST / HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
        await wire.send(b"X: " + b"x" * 1000 + b"\r\n")
        await wire.send(b"X: y\r\n" * 1000 + b"\r\n")
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        wire.writer.close()
    assert known == [(b"host", b"front"), (b"transfer-encoding", b"chunked")]


async def test_endless_headers_are_too_large(address: str) -> None:
    wire = await Wire.open(address)
    await wire.send(b"GET /livez HTTP/1.1\r\nHost: front\r\nX: ")
    for _ in range(200):
        if wire.reader.at_eof() or wire.writer.is_closing():
            break
        wire.writer.write(b"x" * 4096)
        await asyncio.sleep(0)
    status, _, problem = await wire.refusal()
    assert (status, problem["status"]) == (431, 431)


NO_HTTP = [
    b"nonsense\r\n\r\n",
    b"GET /livez\xc3\xbc HTTP/1.1\r\nHost: front\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: front\r\nContent-Length: x\r\n\r\n",
    b"POST /api/v1/job HTTP/1.1\r\nHost: front\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    b"POST /api/v1/job HTTP/1.1\r\nHost: front\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
    b"POST /api/v1/job HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /livez HTTP/1.1\r\nHost: front\r\nX: a\x00b\r\n\r\n",
]


async def test_what_is_no_http_is_malformed(address: str) -> None:
    async def refused(request: bytes) -> None:
        wire = await Wire.open(address)
        await wire.send(request)
        status, _, problem = await wire.refusal()
        assert (status, problem["type"]) == (400, "/problems/malformed")

    await asyncio.gather(*map(refused, NO_HTTP))


async def test_a_body_that_is_no_http_makes_no_job(address: str, front: Watched) -> None:
    while not front.ended.empty():
        front.ended.get_nowait()
    wire = await Wire.open(address)
    await wire.post("raw", "Transfer-Encoding: chunked")
    await wire.send(b"zz\r\n")
    status, _, problem = await wire.refusal()
    assert (status, problem["type"]) == (400, "/problems/malformed")
    assert await asyncio.wait_for(front.ended.get(), 20) == "POST"


async def test_a_token_over_8_kb_is_refused_on_the_wire(address: str) -> None:
    bearer = base64.urlsafe_b64encode(b"x" * 9000).decode()
    async with httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {bearer}"}) as client:
        assert (await client.get("/api/v1/processor")).status_code == 401


UPGRADE = b"Host: front\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAo\r\n"


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"nothing": 1}', b"422"), (b"GET /api/v1/job HTTP/1.1\r\nHost: smuggled\r\n\r\n", b"400")],
    ids=["json", "request"],
)
@pytest.mark.parametrize("together", [True, False])
async def test_a_body_behind_an_upgrade_is_a_body_and_no_request(
    address: str, framing: str, body: bytes, status: bytes, together: bool
) -> None:
    """RFC 9110, 7.8: a server may ignore `Upgrade`. Java's HttpClient sends it with every request."""
    fields = b"Content-Type: application/json\r\nAuthorization: Bearer " + token().encode() + b"\r\n"
    if framing == "length":
        fields += b"Content-Length: %d\r\n" % len(body)
    else:
        fields, body = fields + b"Transfer-Encoding: chunked\r\n", chunk(body) + chunk(b"")
    head = b"POST /api/v1/job HTTP/1.1\r\n" + UPGRADE + fields + b"\r\n"
    wire = await Wire.open(address)
    for piece in [head + body] if together else [head, body]:
        await wire.send(piece)
        await asyncio.sleep(0.05)  # so that they come apart
    await wire.send(b"GET /livez HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n")
    response = await asyncio.wait_for(wire.reader.read(), 20)
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [status, b"200"]
    wire.writer.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_curl_that_would_rather_speak_http_2_sends_its_file(address: str) -> None:
    arguments = ["--http2", "-sS", "-H", f"Authorization: Bearer {token()}", "-H", "Content-Type: application/json"]
    process = await asyncio.create_subprocess_exec(
        "curl", *arguments, "-d", '{"nothing": 1}', f"{address}/api/v1/job", stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 20)
    assert b"/nothing" in said, "the fault that the body has"


async def test_requests_behind_an_upgrade_without_a_body_are_answered_in_turn(address: str) -> None:
    wire = await Wire.open(address)
    await wire.send(b"GET /livez HTTP/1.1\r\n" + UPGRADE + b"\r\nGET /nothing HTTP/1.1\r\nHost: front\r\n\r\n")
    for status in (b"200", b"404"):
        head = await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 20)
        assert head.split()[1] == status
        (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        await wire.reader.readexactly(int(length.split()[1]))
    wire.writer.close()


async def test_connect_is_refused_and_nothing_behind_it_is_a_request(address: str) -> None:
    wire = await Wire.open(address)
    await wire.send(b"CONNECT front:443 HTTP/1.1\r\nHost: front\r\n\r\nGET /livez HTTP/1.1\r\nHost: front\r\n\r\n")
    response = await asyncio.wait_for(wire.reader.read(), 20)
    assert response.count(b"HTTP/1.1 ") == 1
    assert response.split()[1] in (b"400", b"404", b"405")
    wire.writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n", id="close"),
        pytest.param(b"GET /livez HTTP/1.0\r\nHost: front\r\n\r\n", id="http-1.0"),
        pytest.param(b"POST /livez HTTP/1.0\r\nHost: front\r\nContent-Length: 1\r\n\r\nx", id="with-a-body"),
    ],
)
async def test_who_wants_the_connection_closed_is_told_that_it_is(address: str, request_: bytes) -> None:
    wire = await Wire.open(address)
    await wire.send(request_)
    response = await asyncio.wait_for(wire.reader.read(), 20)
    assert b"\r\nconnection: close\r\n" in response.lower()
    wire.writer.close()
