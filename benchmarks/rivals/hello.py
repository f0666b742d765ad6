"""A bare ASGI application: what the server alone can do."""

import sys

from starlette.types import Receive, Scope, Send

from benchmarks.rivals.serving import serve

BODY = b'{"hello":"world"}'


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    serve(hello, int(sys.argv[1]))
