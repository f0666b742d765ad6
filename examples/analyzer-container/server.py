"""A container that Gristmill's processor `analyzer` can call: it takes a file by `POST`, and answers with JSON.

It needs nothing but Python. Any language and any framework will do; the rules are in docs/processors.md.
"""

import json
import math
import os
import re
import sys
from collections import Counter
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHUNK_BYTES = 256 * 1024
MIN_BYTES = 16
MAX_BYTES = 1_000_000_000


class Refusal(Exception):  # noqa: N818 - named for what the caller is told
    """The file is at fault, and the caller's user is told why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """`POST /`: how many bits of information a byte of the file has, and whether it is compressed or encrypted."""

    protocol_version = "HTTP/1.1"
    timeout = 60  # of a caller that sends nothing

    def do_POST(self) -> None:
        try:
            self._answer(200, "application/json", self._analyse())
        except Refusal as refusal:
            # What is left of the body isn't read, so the connection can't be used again.
            self.close_connection = True
            problem = {"status": refusal.status, "detail": str(refusal)}
            self._answer(refusal.status, "application/problem+json", problem)

    def do_GET(self) -> None:
        """For whoever asks whether the container is up."""
        self._answer(200, "application/json", {"status": "ok"})

    def _analyse(self) -> dict[str, Any]:
        size = int(self.headers.get("Content-Length", "0"))
        if size > MAX_BYTES:
            raise Refusal(413, f"A file has at most {MAX_BYTES} bytes.")
        if size < MIN_BYTES:
            raise Refusal(422, f"A file of fewer than {MIN_BYTES} bytes says nothing.")
        params = json.loads(self.headers.get("Gristmill-Params", "{}"))
        counts: Counter[int] = Counter()
        left = size
        while left:
            chunk = self.rfile.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise ConnectionError("The caller has gone away.")
            counts.update(chunk)
            left -= len(chunk)
        bits = -sum(count / size * math.log2(count / size) for count in counts.values())
        return {
            "name": self._name(),
            "mimetype": self.headers.get_content_type(),
            "size": size,
            "bitsPerByte": round(bits, 3),
            "dense": bits > params.get("threshold", 7.5),
        }

    def _name(self) -> str:
        header = Message()
        header["Content-Disposition"] = self.headers.get("Content-Disposition", "")
        return re.sub(r"[\x00-\x1f]", "", header.get_filename("file"))

    def _answer(self, status: int, mimetype: str, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", mimetype)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "9000"))
    with ThreadingHTTPServer((host, port), Handler) as server:
        print(f"Listening on http://{host}:{server.server_port}/", file=sys.stderr, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
