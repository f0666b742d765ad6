"""What one owner holds, however slowly, leaves the others what they need; and a request ends with its client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.clients.blob import BlobBody
from tests.support.platform import Platform, eventually, open_platform, token
from tests.support.serving import serving
from tests.support.wire import Watched, Wire

KIB = 1024
MAX_ANNOUNCED = 20
RAW = {"Content-Type": "text/plain"}


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("neighbours"))
    with pytest.MonkeyPatch.context() as few:
        few.setattr("services.front.app.MOST_READERS", 6)
        few.setattr("services.front.app.MOST_WRITERS", 6)
        limits: dict[str, Any] = {
            "max_waits": 6,
            "max_requests": 30,
            "max_held_bytes": 64 * KIB,
            "max_announced": MAX_ANNOUNCED,
        }
        async with open_platform(mongodb_uri, folder.name, folder, max_json_bytes=32 * KIB, **limits) as platform:
            yield platform


@pytest.fixture(scope="module")
async def front(platform: Platform) -> Watched:
    return Watched(platform.front)


@pytest.fixture(scope="module")
async def address(front: Watched) -> AsyncIterator[str]:
    async with serving(front, header_seconds=1) as url:
        yield url


@pytest.fixture
async def bob(address: str) -> AsyncIterator[httpx.AsyncClient]:
    """Another tenant."""
    headers = {"Authorization": f"Bearer {token('other', 'bob')}"}
    async with httpx.AsyncClient(base_url=address, headers=headers) as client:
        yield client


@pytest.fixture
async def waiting_job(platform: Platform) -> str:
    """The id of a job of alice's that waits for its file, and so doesn't end."""
    file = {"name": "a", "size": 4, "mimetype": "text/plain"}
    created = await platform.client().post("/api/v1/batch", json={"processor": "checksum", "files": [file]})
    job_id: str = created.json()["items"][0]["id"]
    return job_id


async def hanging(address: str, count: int, request: str, body: bytes = b"") -> list[Wire]:
    """Connections of alice's, each with this request."""
    wires = [await Wire.open(address) for _ in range(count)]
    for wire in wires:
        head = f"{request.strip()}\r\nHost: front\r\nAuthorization: Bearer {token()}\r\n\r\n"
        await wire.send(head.encode() + body)
    return wires


async def statuses(wires: list[Wire], count: int) -> list[int]:
    """The statuses of the first `count` of these requests to be answered."""
    async with asyncio.timeout(20):
        done = []
        for answered in asyncio.as_completed([wire.reader.readuntil(b"\r\n") for wire in wires]):
            done.append(int((await answered).split()[1]))
            if len(done) == count:
                break
    return done


def close(wires: list[Wire]) -> None:
    for wire in wires:
        wire.writer.close()


async def nothing_held(platform: Platform) -> None:
    deps = platform.front.app.state.dependencies

    async def free() -> bool:
        return not any(shares.used for shares in (deps.requests, deps.waits, deps.downloads, deps.bodies.held))

    await eventually(free)


async def test_a_wait_ends_with_its_client(platform: Platform, address: str, front: Watched, waiting_job: str) -> None:
    path = f"/api/v1/job/{waiting_job}/status"
    wires = await hanging(address, 2, f"GET {path} HTTP/1.1\r\nPrefer: wait=60")
    waits = platform.front.app.state.dependencies.waits

    async def all_wait() -> bool:
        return bool(waits.used == 2)

    await eventually(all_wait)
    close(wires)
    await nothing_held(platform)


async def test_a_wait_ends_with_its_client_though_another_request_was_sent_ahead(
    platform: Platform, address: str, waiting_job: str
) -> None:
    wires = await hanging(address, 2, f"GET /api/v1/job/{waiting_job}/status HTTP/1.1\r\nPrefer: wait=60")
    waits = platform.front.app.state.dependencies.waits

    async def all_wait() -> bool:
        return bool(waits.used == 2)

    await eventually(all_wait)
    for wire in wires:
        await wire.send(b"GET /livez HTTP/1.1\r\nHost: front\r\n\r\n")
    close(wires)
    await nothing_held(platform)


async def test_waits_of_one_owner_leave_those_of_others_and_their_own_status(
    platform: Platform, address: str, bob: httpx.AsyncClient, waiting_job: str
) -> None:
    path = f"/api/v1/job/{waiting_job}/status"
    wires = await hanging(address, 6, f"GET {path} HTTP/1.1\r\nPrefer: wait=60")
    assert await statuses(wires, 4) == [429] * 4
    assert (await bob.post("/api/v1/job?processor=checksum", content=b"some", headers=RAW)).status_code == 201
    created = await bob.post("/api/v1/job?processor=checksum", content=b"some", headers={**RAW, "Prefer": "wait=30"})
    assert created.json()["status"] == "EXECUTION_COMPLETED"
    alice = {"Authorization": f"Bearer {token()}"}
    assert (await bob.get(path, headers=alice)).status_code == 200
    close(wires)
    await nothing_held(platform)


async def test_repeats_that_wait_for_a_request_count_as_waits(platform: Platform, address: str) -> None:
    request = (
        "POST /api/v1/job?processor=checksum HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n"
        'Idempotency-Key: "one"'
    )
    first = await hanging(address, 1, request, b"some")
    keys = platform.core.mongodb[platform.settings.database]["idempotencyKeys"]
    await eventually(lambda: keys.count_documents({}))
    wires = await hanging(address, 6, f"{request}\r\nPrefer: wait=60")
    assert await statuses(wires, 4) == [409] * 4
    close(first + wires)
    await nothing_held(platform)


async def test_a_job_is_made_though_there_is_no_place_to_wait(
    platform: Platform, address: str, waiting_job: str
) -> None:
    wires = await hanging(address, 6, f"GET /api/v1/job/{waiting_job}/status HTTP/1.1\r\nPrefer: wait=60")
    await statuses(wires, 4)
    created = await platform.client().post(
        "/api/v1/job?processor=checksum", content=b"some", headers={**RAW, "Prefer": "wait=60"}
    )
    assert created.status_code == 201
    assert "Preference-Applied" not in created.headers
    close(wires)
    await nothing_held(platform)


async def test_slow_uploads_of_one_owner_leave_places_to_others(
    platform: Platform, address: str, bob: httpx.AsyncClient
) -> None:
    request = "POST /api/v1/job?processor=checksum HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 5000"
    wires = await hanging(address, 6, request, b"some")
    assert await statuses(wires, 4) == [429] * 4
    assert (await bob.post("/api/v1/job?processor=checksum", content=b"some", headers=RAW)).status_code == 201
    close(wires)
    await nothing_held(platform)


async def test_json_that_is_only_declared_takes_no_memory_from_others(
    platform: Platform, address: str, bob: httpx.AsyncClient
) -> None:
    request = "POST /api/v1/job HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 40000"
    wires = await hanging(address, 8, request, b'{"content": "')
    held = platform.front.app.state.dependencies.bodies.held

    async def all_arrived() -> bool:
        return bool(held.used == 8 * len(b'{"content": "'))

    await eventually(all_arrived)
    body = {"processor": "checksum", "mimetype": "text/plain", "encoding": "base64", "content": "A" * 30_000}
    assert (await bob.post("/api/v1/job", json=body)).status_code == 201
    close(wires)
    await nothing_held(platform)


async def test_json_of_one_owner_leaves_memory_to_others(
    platform: Platform, address: str, bob: httpx.AsyncClient
) -> None:
    request = "POST /api/v1/job HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 40000"
    wires = await hanging(address, 8, request, b'{"content": "' + b"A" * 10_000)
    assert set(await statuses(wires, 6)) == {429}
    body = {"processor": "checksum", "mimetype": "text/plain", "encoding": "base64", "content": "A" * 10_000}
    assert (await bob.post("/api/v1/job", json=body)).status_code == 201
    close(wires)
    await nothing_held(platform)


async def test_requests_of_one_owner_leave_places_to_others(
    platform: Platform, address: str, bob: httpx.AsyncClient
) -> None:
    request = "POST /api/v1/batch HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 5000"
    wires = await hanging(address, 30, request, b"{")
    assert await statuses(wires, 20) == [429] * 20
    assert (await bob.get("/api/v1/job")).status_code == 200
    close(wires)
    await nothing_held(platform)


async def test_files_that_are_announced_and_never_come_have_a_limit_for_each_owner(platform: Platform) -> None:
    dave, bob = platform.client("acme", "dave"), platform.client("other", "bob")
    file = {"name": "a", "size": 4, "mimetype": "text/plain"}
    first = await dave.post("/api/v1/batch", json={"processor": "checksum", "files": [file] * MAX_ANNOUNCED})
    assert first.status_code == 201
    refused = await dave.post("/api/v1/batch", json={"processor": "checksum", "files": [file]})
    assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-requests")
    assert f"{MAX_ANNOUNCED} files" in refused.json()["detail"]
    assert (await bob.post("/api/v1/batch", json={"processor": "checksum", "files": [file]})).status_code == 201
    await dave.post(f"/api/v1/job/{first.json()['items'][0]['id']}/cancel")
    assert (await dave.post("/api/v1/batch", json={"processor": "checksum", "files": [file]})).status_code == 201


@dataclass
class Endless:
    """Stands for blob: outputs that are as long as anybody reads them."""

    pieces: int = 0
    open_bodies: int = 0

    @asynccontextmanager
    async def open(self, *_: Any) -> AsyncIterator[BlobBody]:
        self.open_bodies += 1
        try:
            yield BlobBody(200, 2**50, "00" * 32, None, self._chunks())
        finally:
            self.open_bodies -= 1

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            self.pieces += 1
            yield bytes(256 * KIB)


@pytest.fixture
async def output(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Endless]:
    """The path of an output of alice's that has no end."""
    alice, endless = platform.client(), Endless()
    created = await alice.post("/api/v1/job?processor=checksum", content=b"some", headers=RAW)
    await platform.final(alice, created.json()["id"])
    monkeypatch.setattr(platform.to_blob, "open", endless.open, raising=False)
    return f"/api/v1/job/{created.json()['id']}/output", endless


async def test_slow_readers_of_one_owner_leave_places_to_others(
    platform: Platform, address: str, output: tuple[str, Endless], bob: httpx.AsyncClient
) -> None:
    path, endless = output
    wires = await hanging(address, 6, f"GET {path} HTTP/1.1")
    assert sorted(await statuses(wires, 6)) == [200] * 2 + [429] * 4
    assert endless.open_bodies == 2
    created = await bob.post("/api/v1/job?processor=checksum", content=b"some", headers=RAW)
    await platform.final(platform.client("other", "bob"), created.json()["id"])
    async with bob.stream("GET", f"/api/v1/job/{created.json()['id']}/output") as response:
        assert response.status_code == 200
    close(wires)
    await nothing_held(platform)


async def test_a_download_takes_no_requests_without_end(address: str, output: tuple[str, Endless]) -> None:
    (wire,) = await hanging(address, 1, f"GET {output[0]} HTTP/1.1")
    assert await statuses([wire], 1) == [200]
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            while await wire.reader.read(256 * KIB):
                await wire.send(b"GET /livez HTTP/1.1\r\nHost: front\r\n\r\n")
    close([wire])


async def test_a_download_ends_with_its_client(platform: Platform, address: str, output: tuple[str, Endless]) -> None:
    path, endless = output
    wires = await hanging(address, 1, f"GET {path} HTTP/1.1")
    assert await statuses(wires, 1) == [200]
    close(wires)

    async def closed() -> bool:
        return endless.open_bodies == 0

    await eventually(closed)
