"""What the clients of services do when these are slow, gone for a moment, or asked too much."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from common.clients.blob import MOST_READERS, open_blob_client
from common.clients.http import MOST_TRIES, ServiceHttp, open_http
from common.clients.job import JobClient
from common.contracts.job import StatusQuery, StatusResponse
from common.errors import Unavailable
from common.retries import RetryBudget
from tests.fakes.keys import signer
from tests.support.blob_service import running_blob
from tests.support.proxy import Proxy, proxied

PATH = "/api/v1/job/status"
QUERY = StatusQuery(ids=["a"])
LARGE = 64 * 1024 * 1024
Answerer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Service:
    """A job that knows no run. How many calls came is counted; `answers` takes the place of the response."""

    def __init__(self) -> None:
        self.url = ""
        self.calls = 0
        self.answers: Answerer | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await self._head(reader):
            self.calls += 1
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if self.answers is not None:
                await self.answers(reader, writer)
                break
            body = StatusResponse(items=[]).to_wire()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    @staticmethod
    async def _head(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.02)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    described = Service()
    async with await asyncio.start_server(described.serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        described.url = f"http://{host}:{port}"
        yield described


@asynccontextmanager
async def calling(
    service: Service, retries: RetryBudget | None = None, most_calls: int = 10
) -> AsyncIterator[ServiceHttp]:
    async with open_http(service.url) as http:
        yield ServiceHttp(http, signer("front"), "job", retries=retries, most_calls=most_calls)


@pytest.mark.parametrize("slow", [say_nothing, drip], ids=["silent", "drips"])
async def test_a_call_ends_at_its_deadline_however_the_answer_is_spread_and_is_not_repeated(
    service: Service, slow: Answerer
) -> None:
    service.answers = slow
    async with calling(service, RetryBudget()) as http, asyncio.timeout(20):
        with pytest.raises(Unavailable):
            await http.post(PATH, QUERY, StatusResponse, timeout=0.3)
    assert service.calls == 1


async def test_a_call_whose_connection_broke_is_made_again(service: Service) -> None:
    async def once(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service.answers = None
        writer.transport.abort()

    async with calling(service, RetryBudget()) as http:
        for _ in range(3):
            service.answers = once
            assert await JobClient(http).statuses(["a"]) == {}
    assert service.calls == 6


async def test_repeated_calls_are_bounded_each_and_together(service: Service) -> None:
    budget = RetryBudget()
    service.answers = hang_up
    async with calling(service, budget) as http, calling(service) as without:
        with pytest.raises(Unavailable):
            await JobClient(http).statuses(["a"])
        assert service.calls == MOST_TRIES
        while budget.take():
            pass
        for client in (http, without):
            service.calls = 0
            with pytest.raises(Unavailable):
                await JobClient(client).statuses(["a"])
            assert service.calls == 1


async def test_a_budget_is_earned_by_calls_that_succeed(service: Service) -> None:
    budget = RetryBudget()
    while budget.take():
        pass
    async with calling(service, budget) as http:
        for _ in range(int(1 / budget.EARNED) + 1):
            await JobClient(http).statuses(["a"])
    assert budget.take()
    assert not budget.take()


async def test_calls_on_top_of_the_most_are_refused_at_once(service: Service) -> None:
    service.answers = say_nothing
    async with calling(service, most_calls=2) as http, asyncio.TaskGroup() as group:
        waiting = [group.create_task(http.post(PATH, QUERY, StatusResponse, timeout=60)) for _ in range(2)]
        while service.calls < 2:  # noqa: ASYNC110 - the server gives no event
            await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="Too many") as refused:
            async with asyncio.timeout(20):
                await http.post(PATH, QUERY, StatusResponse, timeout=60)
        assert refused.value.headers["Retry-After"]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        service.answers = None
        assert (await http.post(PATH, QUERY, StatusResponse)).items == []


@pytest.fixture
async def to_blob(tmp_path: Path) -> AsyncIterator[Proxy]:
    async with running_blob(tmp_path) as blob, proxied(int(blob.url.rpartition(":")[2])) as proxy:
        yield proxy


async def large(proxy: Proxy, stall_after: int) -> AsyncIterator[bytes]:
    for sent in range(0, LARGE, 2**20):
        proxy.stalled = sent >= stall_after
        yield bytes(2**20)


@pytest.mark.parametrize("stall_after", [2**20, LARGE - 2**20], ids=["in the body", "after it"])
async def test_a_blob_that_takes_nothing_more_of_a_body_is_unavailable(to_blob: Proxy, stall_after: int) -> None:
    async with open_blob_client(to_blob.url, signer("front"), seconds=0.5) as client, asyncio.timeout(30):
        with pytest.raises(Unavailable):
            await client.put("b-1", large(to_blob, stall_after))
        for call in (client.put("b-2", bytes(LARGE)), client.head("b-1"), client.list(), client.delete("b-1")):
            with pytest.raises(Unavailable):
                await call


async def test_a_body_whose_source_is_slow_is_not_blobs_fault(to_blob: Proxy) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"some"
        await asyncio.sleep(0.6)
        yield b"more"

    async with open_blob_client(to_blob.url, signer("front"), seconds=0.3) as client:
        assert (await client.put("b-1", slow())).size == 8


async def test_readers_leave_connections_for_writers(to_blob: Proxy) -> None:
    async with open_blob_client(to_blob.url, signer("front")) as client, AsyncExitStack() as stack:
        await client.put("b-1", bytes(2**20))
        for _ in range(MOST_READERS):
            await stack.enter_async_context(client.open("b-1"))
        with pytest.raises(Unavailable, match="Too many"):
            await stack.enter_async_context(client.open("b-1"))
        assert (await client.put("b-2", b"x")).size == 1
