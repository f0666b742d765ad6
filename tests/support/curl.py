"""curl, as a client that isn't ours: it knows a URL, what to send, and the headers that the plan names."""

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass

SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What the server said in the end; an interim `100 Continue` is none."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def curl(*arguments: str, stdin: bytes = b"") -> Answer:
    """One request, as on a command line; `stdin` is what `-T -` and `--data-binary @-` send."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-i", "--max-time", str(SECONDS), *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    printed, complaints = await process.communicate(stdin)
    assert process.returncode == 0, complaints.decode()
    head, _, body = printed.partition(b"\r\n\r\n")
    while head.split()[1].startswith(b"1"):
        head, _, body = body.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (field.split(":", 1) for field in fields)}
    return Answer(int(status.split()[1]), headers, body)


async def fed(size: int, url: str, headers: Mapping[str, str]) -> Process:
    """A PUT of `size` bytes, which are to be written to its standard input; it may be killed at any byte of them."""
    return await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--fail", "--max-time", str(SECONDS), "-T", "-"),
        # What comes from a pipe would be chunked, and a store that signs the length takes nothing that is.
        *("-H", "Transfer-Encoding:", "-H", f"Content-Length: {size}"),
        *header_options(headers),
        url,
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=DEVNULL,
    )


def header_options(headers: Mapping[str, str]) -> list[str]:
    return [option for name, value in headers.items() for option in ("-H", f"{name}: {value}")]
