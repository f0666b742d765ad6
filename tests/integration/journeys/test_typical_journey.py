"""A file's way through all four services, by each kind of body."""

import base64
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from services.processor import registry
from tests.support.platform import Platform, open_platform


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("platform"))
    async with open_platform(mongodb_uri, folder.parent.name + folder.name, folder) as platform:
        yield platform


def picture(width: int = 640, height: int = 480) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 50).convert("RGB").save(file, "JPEG")
    return file.getvalue()


async def test_a_raw_picture_comes_back_as_webp(platform: Platform) -> None:
    alice = platform.client()
    created = await alice.post(
        "/api/v1/job?processor=image-variants&widths=64,320&name=../holiday.jpg",
        content=picture(),
        headers={"Content-Type": "image/jpeg"},
    )
    assert created.status_code == 201
    assert created.json() == {"id": created.json()["id"], "status": "STORED"}
    assert created.headers["location"] == f"/api/v1/job/{created.json()['id']}"

    status = await platform.final(alice, created.json()["id"])
    assert status["status"] == "EXECUTION_COMPLETED"
    assert status["name"] == "holiday.jpg"
    assert status["params"] == {"widths": [64, 320]}
    assert [output["mimetype"] for output in status["outputs"]] == ["image/webp"] * 3
    for output, width in zip(status["outputs"], [64, 320, 640], strict=True):
        answer = await alice.get(output["href"])
        assert answer.status_code == 200
        assert hashlib.sha256(answer.content).hexdigest() == output["sha256"]
        assert Image.open(io.BytesIO(answer.content)).width == width
        assert answer.headers["content-disposition"].startswith("attachment; ")
        assert answer.headers["x-content-type-options"] == "nosniff"
        digest = base64.b64encode(bytes.fromhex(output["sha256"])).decode()
        assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"

    first = await alice.get(f"{created.headers['location']}/output")
    assert first.content == (await alice.get(status["outputs"][0]["href"])).content
    whole = (await alice.get(created.headers["location"])).json()
    assert [entry["status"] for entry in whole["history"]] == [
        "CREATED",
        "STORED",
        "SUBMITTED",
        "EXECUTION_COMPLETED",
    ]


async def test_a_json_body_is_answered_before_blob_or_job_hear_of_it(platform: Platform) -> None:
    alice = platform.client()
    content = b"some bytes"
    await alice.get("/api/v1/processor")
    platform.to_blob.on = platform.to_job.on = True
    try:
        created = await alice.post(
            "/api/v1/job",
            json={
                "encoding": "base64",
                "MD5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
                "content": base64.b64encode(content).decode(),
                "mimetype": "text/plain",
                "processor": "checksum",
                "params": {"algorithm": "sha512"},
            },
        )
    finally:
        platform.to_blob.on = platform.to_job.on = False
    assert created.status_code == 201
    assert created.json()["status"] == "CREATED"


async def test_a_json_body_comes_to_its_end(platform: Platform) -> None:
    alice = platform.client()
    created = await alice.post(
        "/api/v1/job",
        json={"content": base64.b64encode(b"hello").decode(), "mimetype": "text/plain", "processor": "checksum"},
        headers={"Prefer": "wait=20"},
    )
    assert created.headers["preference-applied"] == "wait=20"
    assert created.json()["status"] == "EXECUTION_COMPLETED"
    output = await alice.get(created.json()["outputs"][0]["href"])
    assert output.json()["digest"] == hashlib.sha256(b"hello").hexdigest()


async def test_a_form_comes_to_its_end(platform: Platform) -> None:
    alice = platform.client()
    created = await alice.post(
        "/api/v1/job",
        data={"processor": "image-variants", "widths": "32", "format": "png"},
        files={"file": ("täst.jpg", picture(), "image/jpeg")},
    )
    assert created.status_code == 201, created.text
    status = await platform.final(alice, created.json()["id"])
    assert status["name"] == "täst.jpg"
    assert [output["mimetype"] for output in status["outputs"]] == ["image/png"] * 2


async def test_a_broken_picture_is_the_users_fault_and_tried_once(platform: Platform) -> None:
    alice = platform.client()
    created = await alice.post(
        "/api/v1/job?widths=64", content=picture()[:4000], headers={"Content-Type": "image/jpeg"}
    )
    status = await platform.final(alice, created.json()["id"])
    assert status["status"] == "EXECUTION_ERROR"
    assert status["attempt"] == 1
    assert status["error"]["type"] == "/problems/invalid-input"
    assert status["error"]["fault"] == "user"
    output = await alice.get(f"{created.headers['location']}/output")
    assert output.status_code == 404
    assert output.json()["type"] == "/problems/result-not-available"


async def test_a_final_job_is_answered_without_a_call_to_job(platform: Platform) -> None:
    alice = platform.client()
    created = await alice.post("/api/v1/job?processor=checksum", content=b"x", headers={"Content-Type": "text/plain"})
    await platform.final(alice, created.json()["id"])
    platform.to_job.calls.clear()
    for path in ("", "/status", "/output"):
        assert (await alice.get(created.headers["location"] + path)).status_code == 200
    assert platform.to_job.calls == []


async def test_output_ranges_and_validators(platform: Platform) -> None:
    alice = platform.client()
    created = await alice.post("/api/v1/job?processor=checksum", content=b"x", headers={"Content-Type": "text/plain"})
    status = await platform.final(alice, created.json()["id"])
    href, size = status["outputs"][0]["href"], status["outputs"][0]["size"]
    whole = await alice.get(href)
    assert whole.headers["accept-ranges"] == "bytes"

    part = await alice.get(href, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole.content[2:6])
    assert part.headers["content-range"] == f"bytes 2-5/{size}"

    beyond = await alice.get(href, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.json()["type"]) == (416, "/problems/range-not-satisfiable")
    assert beyond.headers["content-type"] == "application/problem+json"

    many = await alice.get(href, headers={"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(1000))})
    assert (many.status_code, many.content) == (200, whole.content)

    assert (await alice.get(href, headers={"If-None-Match": whole.headers["etag"]})).status_code == 304
    changed = await alice.get(href, headers={"Range": "bytes=2-5", "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, whole.content)


async def test_the_processors_on_offer_come_with_their_schemas(platform: Platform) -> None:
    items = {item["name"]: item for item in (await platform.client().get("/api/v1/processor")).json()["items"]}
    assert items.keys() == registry.installed().keys()
    assert items["image-variants"]["live"] is True
    assert items["image-variants"]["params"]["properties"]["widths"]
