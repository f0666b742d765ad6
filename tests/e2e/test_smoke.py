"""`make smoke` finds a real Gristmill well, and finds out each way in which one is broken."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import httpx
import pytest

from deploy.local import keys, tokens
from deploy.local.mongod import free_ports
from deploy.smoke import Smoke, walk
from tests.support.local import Local

STEPS = 11


def token(local: Local, subject: str) -> str:
    return tokens.make(keys.ensure(local.data).users_secret, "smoke", subject, ttl=600)


async def smoke(url: str, token: str, **settings: str) -> tuple[int | None, str, str]:
    """Its exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deploy.smoke",
        env={"PATH": os.environ["PATH"], "URL": url, "TOKEN": token, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def fails(said: str) -> list[str]:
    return [line.split(":")[0].split(maxsplit=1)[1] for line in said.splitlines() if line.startswith("  fails")]


async def test_a_real_gristmill_works_and_keeps_nothing_of_it(gristmill: Local) -> None:
    alice, bob = token(gristmill, "alice"), token(gristmill, "bob")
    code, said, err = await smoke(gristmill.url, alice, OTHER_TOKEN=bob)
    assert (code, err, fails(said)) == (0, "", [])
    assert said.count("  works   ") == STEPS
    assert said.endswith("Everything works.\n")
    assert alice not in said
    async with gristmill.client("smoke", "alice") as http:
        assert (await http.get("/api/v1/job")).json()["items"] == []


async def test_where_nobody_listens_everything_fails() -> None:
    (port,) = free_ports(1)
    code, said, err = await smoke(f"http://127.0.0.1:{port}", "a.b.c")
    assert (code, err, len(fails(said))) == (1, "", STEPS)
    assert said.endswith(f"{STEPS} of what was tried fails.\n")


async def test_what_it_is_told_wrong_is_named() -> None:
    code, _, err = await smoke("gristmill.example.org", "")
    assert code == 2
    assert "URL: " in err
    assert "TOKEN: " in err


async def test_a_processor_that_hangs_is_found_out(gristmill: Local) -> None:
    pid = gristmill.pid_of("services.processor")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        code, said, _ = await smoke(gristmill.url, token(gristmill, "alice"), WITHIN="0.2")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert code == 1
    found = fails(said)
    assert "a raw file is taken, worked on, and its output has its digest" in found
    assert "it is there and ready" not in found
    assert "a request that makes no sense is refused, and the response says why" not in found


class Spoilt(httpx.AsyncHTTPTransport):
    """A way to a real Gristmill on which one kind of request gets another response, and nothing is done for it."""

    def __init__(self, method: str, path_end: str, answer: httpx.Response | Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._method, self._path_end, self._answer = method, path_end, answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != self._method or not request.url.path.endswith(self._path_end):
            return await super().handle_async_request(request)
        if isinstance(self._answer, httpx.Response):
            return self._answer
        response = await super().handle_async_request(request)
        content = self._answer(await response.aread())
        return httpx.Response(response.status_code, headers=response.headers, content=content)


def other_bytes(content: bytes) -> bytes:
    """What a disk or a proxy may do to an output."""
    return content.replace(b"sha256", b"sha512")


LISTS = ["the job is in its owner's list", "nobody is let in without a token"]
OUTPUTS = ["a raw file is taken, worked on, and its output has its digest", "so is a form", "so is JSON"]


@pytest.mark.parametrize(
    ("method", "path_end", "answer", "found"),
    [
        ("GET", "/readyz", httpx.Response(503, json={"items": []}), ["it is there and ready"]),
        ("GET", "/processor", httpx.Response(200, json={"items": []}), ["a processor `checksum` is on offer"]),
        ("GET", "/output", other_bytes, OUTPUTS),
        (
            "GET",
            "/api/v1/job",
            httpx.Response(200, json={"items": []}),
            ["the job is in its owner's list", "nobody is let in without a token"],
        ),
        ("POST", "/cancel", httpx.Response(503, json={"items": []}), ["a job that waits is cancelled"]),
        ("DELETE", "", httpx.Response(204), ["a job that is deleted is gone"]),
    ],
    ids=["not ready", "no processor", "other bytes", "an open, empty list", "no cancel", "nothing deleted"],
)
async def test_what_is_broken_is_found_out(
    gristmill: Local,
    method: str,
    path_end: str,
    answer: httpx.Response | Callable[[bytes], bytes],
    found: list[str],
) -> None:
    said: list[str] = []
    headers = {"Authorization": f"Bearer {token(gristmill, 'carol')}"}
    way = Spoilt(method, path_end, answer)
    async with httpx.AsyncClient(base_url=gristmill.url, headers=headers, transport=way, timeout=60) as http:
        broken = await walk(Smoke(http, None, within=30), said.append)
    told = fails("\n".join(said))
    # Without a job that came to its end, what needs one can't be tried.
    assert told[: len(found)] == found
    assert broken == len(told)


async def test_a_job_that_others_see_is_found_out(gristmill: Local) -> None:
    said: list[str] = []
    async with gristmill.client("smoke") as http, gristmill.client("smoke") as other:
        await walk(Smoke(http, other, within=30), said.append)
    assert fails("\n".join(said)) == ["a job of somebody else is not there"]
