"""The four ways to ask for work on a file: each takes the job's own fields, and adds what its kind needs."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

Post = Callable[..., Awaitable[httpx.Response]]


async def post_raw(
    client: httpx.AsyncClient, content: bytes = b"x", mimetype: str = "text/plain", **fields: Any
) -> httpx.Response:
    params = {"processor": "checksum", **fields}
    return await client.post("/api/v1/job", params=params, content=content, headers={"Content-Type": mimetype})


async def post_form(
    client: httpx.AsyncClient, content: bytes = b"x", mimetype: str = "text/plain", **fields: Any
) -> httpx.Response:
    data = {"processor": "checksum", **{name: str(value) for name, value in fields.items()}}
    return await client.post("/api/v1/job", data=data, files={"file": ("a.txt", content, mimetype)})


async def post_json(
    client: httpx.AsyncClient, content: bytes = b"x", mimetype: str = "text/plain", **fields: Any
) -> httpx.Response:
    body = {"content": base64.b64encode(content).decode(), "mimetype": mimetype}
    return await client.post("/api/v1/job", json={"processor": "checksum", **body, **fields})


async def post_batch(
    client: httpx.AsyncClient, content: bytes = b"x", mimetype: str = "text/plain", **fields: Any
) -> httpx.Response:
    files = [{"name": "a.txt", "size": len(content), "mimetype": mimetype}]
    return await client.post("/api/v1/batch", json={"processor": "checksum", "files": files, **fields})


KINDS: list[Post] = [post_raw, post_form, post_json, post_batch]


def job_id_of(answer: httpx.Response) -> str:
    """The id of the job, or of the batch's first."""
    assert answer.status_code == 201, answer.text
    body = answer.json()
    job_id: str = body["items"][0]["id"] if "items" in body else body["id"]
    return job_id
