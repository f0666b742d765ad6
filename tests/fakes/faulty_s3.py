"""A proxy before a real S3 that misbehaves as it is told: errors of the store, lost answers, broken bodies."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
from aiohttp import web

SLOW_DOWN = (503, "SlowDown")
INTERNAL_ERROR = (500, "InternalError")
FULL = (507, "InsufficientStorage")


class FaultyS3:
    """`fail`, `lose` and `cut` each say how many of the next requests that match meet that fault; `error` is the one
    that those are answered with which fail.
    """

    def __init__(self, behind: str, http: aiohttp.ClientSession) -> None:
        self.endpoint = ""
        self.fail = 0
        self.error = SLOW_DOWN
        self.lose = 0
        self.cut = 0
        self.matching: Callable[[web.Request], bool] = lambda request: True
        self.requests: list[str] = []
        self._behind = behind
        self._http = http

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(re.sub(r"=[^&]+", "", f"{request.method} {request.query_string}").strip())
        body = await request.read()
        matches = self.matching(request)
        if matches and self.fail:
            self.fail -= 1
            status, code = self.error
            return web.Response(status=status, text=f"<Error><Code>{code}</Code><Message>As told.</Message></Error>")
        # The Host it was signed for goes along, and so the signature holds.
        url = self._behind + request.raw_path
        headers = {key: value for key, value in request.headers.items() if key != "Expect"}
        async with self._http.request(request.method, url, headers=headers, data=BytesIO(body)) as answer:
            content = await answer.read()
            if matches and self.lose:
                self.lose -= 1
                _hang_up(request)
            response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
            await response.prepare(request)
            if matches and self.cut:
                self.cut -= 1
                await response.write(content[: len(content) // 2])
                _hang_up(request)
            if request.method != "HEAD":
                await response.write(content)
            return response


def _hang_up(request: web.Request) -> None:
    if request.transport:
        request.transport.close()
    raise web.HTTPServerError  # nobody hears it


def _end_to_end(headers: "aiohttp.typedefs.LooseHeaders") -> dict[str, str]:
    return {key: value for key, value in dict(headers).items() if key not in ("Connection", "Transfer-Encoding")}


@asynccontextmanager
async def faulty_s3(behind: str) -> AsyncIterator[FaultyS3]:
    async with aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=("User-Agent",)) as http:
        proxy = FaultyS3(behind, http)
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            proxy.endpoint = f"http://{host}:{port}"
            yield proxy
        finally:
            await runner.cleanup()
