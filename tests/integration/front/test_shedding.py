"""More requests than a process can work on are refused at once, and who takes nothing of a response is let go."""

import asyncio
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common.web.serve import Listener, new_server
from tests.support.platform import eventually
from tests.support.serving import serving

MOST = 3
KERNEL_BYTES = 4096
# What the process holds of a response before it would wait for its client.
LEFT_BYTES = 32 * 1024


class Slow:
    """Answers when it is told to, except for what only asks how it is."""

    def __init__(self) -> None:
        self.working: asyncio.Queue[str] = asyncio.Queue()
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("/work") or path.endswith("/events"):
            self.working.put_nowait(path)
            await self.may_answer.wait()
            await Request(scope, receive).body()
        await Response(path)(scope, receive, send)


async def test_requests_on_top_of_the_most_are_refused_with_a_problem_and_others_go_on() -> None:
    app = Slow()
    async with (
        serving(app, max_requests=MOST) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http,
        asyncio.TaskGroup() as group,
    ):
        streams = [group.create_task(http.get("/job/1/events")) for _ in range(2 * MOST)]
        work = [group.create_task(http.post(f"/work/{n}", content=b"x")) for n in range(MOST)]
        for _ in [*streams, *work]:
            await app.working.get()
        # Also with a body that is larger than what the kernel holds, and as often as it is asked.
        for body in [b"x", bytes(4 * 2**20)] * MOST:
            refused = await http.post("/work/more", content=body)
            assert refused.status_code == 503
            assert refused.headers["Retry-After"]
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert refused.json()["type"] == "/problems/unavailable"
        for path in ("/livez", "/readyz"):
            assert (await http.get(path)).text == path
        app.may_answer.set()
        assert {(await answer).status_code for answer in [*streams, *work]} == {200}
        assert (await http.post("/work/again", content=b"x")).status_code == 200


async def test_who_takes_nothing_of_an_answer_is_let_go() -> None:
    ended = asyncio.Event()

    async def endless(_scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_gone(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
            await asyncio.sleep(0)
        ended.set()

    async with serving(endless, take_seconds=0.3) as url:
        address = urlsplit(url)
        _, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**10)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        async with asyncio.timeout(20):
            await ended.wait()
        writer.close()


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_who_leaves_the_end_of_an_answer_is_let_go(connection: str) -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        host, port = listening.getsockname()
        answer = Response(bytes(LEFT_BYTES + 4 * KERNEL_BYTES))
        server = new_server(Listener(answer, host, port), drain_seconds=1, take_seconds=0.3)
        served = asyncio.create_task(server.serve(sockets=[listening]))
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
            client.connect((host, port))
            client.sendall(f"GET / HTTP/1.1\r\nHost: here\r\nConnection: {connection}\r\n\r\n".encode())

            async def answered() -> bool:
                return server.server_state.total_requests == 1

            async def closed() -> bool:
                return not server.server_state.connections

            await eventually(answered)
            await eventually(closed)
        server.should_exit = True
        await served


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
