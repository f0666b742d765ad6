"""Files, and the ways to hand them in."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

JOB = "/api/v1/job"
KIND = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class File:
    """What is handed in, under a name that it has alone, and for which processor."""

    name: str
    processor: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


async def as_json(http: httpx.AsyncClient, file: File, headers: Mapping[str, str]) -> httpx.Response:
    content = base64.b64encode(file.content).decode()
    body = {"content": content, "mimetype": KIND, "processor": file.processor, "name": file.name}
    return await http.post(JOB, json=body, headers=headers)


async def raw(http: httpx.AsyncClient, file: File, headers: Mapping[str, str]) -> httpx.Response:
    query = {"processor": file.processor, "name": file.name}
    return await http.post(JOB, params=query, content=file.content, headers={**headers, "Content-Type": KIND})


async def form(http: httpx.AsyncClient, file: File, headers: Mapping[str, str]) -> httpx.Response:
    files = {"file": (file.name, file.content, KIND)}
    return await http.post(JOB, data={"processor": file.processor}, files=files, headers=headers)


async def batch(http: httpx.AsyncClient, files: Sequence[File], headers: Mapping[str, str]) -> httpx.Response:
    """Announce files, which are all for the first one's processor; they are uploaded then."""
    announced = [{"name": f.name, "size": len(f.content), "mimetype": KIND, "sha256": f.sha256} for f in files]
    body = {"processor": files[0].processor, "files": announced}
    return await http.post("/api/v1/batch", json=body, headers=headers)
