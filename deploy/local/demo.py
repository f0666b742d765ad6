"""Sends a picture through a running Gristmill, and tells of it on the way."""

import asyncio
import base64
import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import puremagic

PROCESSOR = "image-variants"
MAX_JSON_BYTES = 8 * 1024**2
LIMIT_SECONDS = 120
POLL_SECONDS = 0.05


class DemoError(Exception):
    """The picture did not come through; the message says why."""


@dataclass(frozen=True)
class Picture:
    """The file that is sent."""

    path: Path
    content: bytes

    @property
    def mimetype(self) -> str:
        try:
            return str(puremagic.from_string(self.content[:4096], mime=True))
        except puremagic.PureError:
            return "application/octet-stream"


async def send(http: httpx.AsyncClient, picture: Picture, say: Callable[[str], None]) -> dict[str, Any]:
    """Hand in the picture and say each state as it is reached, with the seconds since the first. Returns the job.

    Raises `DemoError` when the job is refused, fails, or isn't done in two minutes.
    """
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            answer = await _post(http, picture)
            if answer.status_code != 201:
                raise DemoError(f"The picture was refused: {_detail(answer)}")
            job = await _followed(http, answer.headers["Location"], say)
    except TimeoutError:
        raise DemoError(f"The picture was not done within {LIMIT_SECONDS} s.") from None
    except httpx.HTTPError as error:
        raise DemoError(f"front did not answer: {error!r}.") from None
    if job["status"] != "EXECUTION_COMPLETED":
        raise DemoError(f"The picture could not be worked on: {(job.get('error') or {}).get('detail', job['status'])}")
    return job


async def _followed(http: httpx.AsyncClient, location: str, say: Callable[[str], None]) -> dict[str, Any]:
    said = 0
    while True:
        job: dict[str, Any] = (await http.get(location)).raise_for_status().json()
        history = job["history"]
        for state in history[said:]:
            seconds = (_moment(state["at"]) - _moment(history[0]["at"])).total_seconds()
            say(f"  {state['status']:<20} {seconds:7.3f} s")
        said = len(history)
        if job["status"] == "EXECUTION_COMPLETED" or job["status"].endswith("_ERROR"):
            return job
        await asyncio.sleep(POLL_SECONDS)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def _post(http: httpx.AsyncClient, picture: Picture) -> httpx.Response:
    if len(picture.content) > MAX_JSON_BYTES:
        query = {"processor": PROCESSOR, "name": picture.path.name}
        headers = {"Content-Type": picture.mimetype}
        return await http.post("/api/v1/job", params=query, content=picture.content, headers=headers)
    # The JSON kind is answered before anything else is done, so that every state can be seen.
    body = {
        "encoding": "base64",
        "MD5": hashlib.md5(picture.content, usedforsecurity=False).hexdigest(),
        "content": base64.b64encode(picture.content).decode(),
        "mimetype": picture.mimetype,
        "name": picture.path.name,
        "processor": PROCESSOR,
    }
    return await http.post("/api/v1/job", json=body)


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError):
        return f"HTTP {answer.status_code}"


async def save_outputs(http: httpx.AsyncClient, job: dict[str, Any], folder: Path) -> list[Path]:
    """Fetch all outputs of a job into a folder."""
    paths = []
    for output in job["outputs"]:
        content = (await http.get(output["href"])).raise_for_status().content
        path = folder / Path(output["name"]).name
        await asyncio.to_thread(path.write_bytes, content)
        paths.append(path)
    return paths


def curl(front_url: str, token: str, file: Path, mimetype: str, query: str) -> str:
    """A command line that hands in a file and waits for its end, ready to be pasted."""
    return " \\\n     ".join(
        [
            f"curl -X POST -T {shlex.quote(str(file))} -H 'Content-Type: {mimetype}' -H 'Prefer: wait=30'",
            f"-H 'Authorization: Bearer {token}'",
            f"'{front_url}/api/v1/job?{query}'",
        ]
    )
