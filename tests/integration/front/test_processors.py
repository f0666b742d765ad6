"""Processors as the public sees them: what there is, what each version takes, and what the server allows."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.ids import new_id
from gristmill.wire.processors import OfferedLimits, ProcessorOffer
from tests.support.platform import Platform, eventually, open_platform
from tests.support.submitting import KINDS, Post, job_id_of, post_raw

LIMITS = {"shout": {"text/plain": {"maxBytes": 100, "maxBatchFiles": 7}, "text/csv": {"maxBytes": 5}}}
LARGEST = 10


def offer(version: str, media_types: list[str], most: int | None = None, **properties: Any) -> ProcessorOffer:
    params = {"type": "object", "properties": properties, "additionalProperties": False}
    return ProcessorOffer(
        name="shout",
        version=version,
        summary="Shouts.",
        media_types=media_types,
        params=params,
        limits=OfferedLimits(max_input_bytes=most),
    )


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("processors"))
    async with open_platform(
        mongodb_uri, f"test-{new_id()}", folder, processor=False, limits=LIMITS, lease_seconds=0.1
    ) as platform:
        await platform.as_processor.offer(
            [
                offer("1.0.0", ["text/*"], volume={"type": "integer"}),
                offer("1.2.0", ["text/*", "image/png"], LARGEST, loud={"type": "boolean"}),
                offer("2.0.0", ["text/*"], LARGEST, pitch={"type": "number"}),
            ]
        )

        async def offered() -> bool:
            items = (await platform.client().get("/api/v1/processor")).json()["items"]
            return bool(items and len(items[0].get("versions", ())) == 3)

        await eventually(offered)
        yield platform


async def test_it_lists_the_versions_and_the_limits(platform: Platform) -> None:
    answer = (await platform.client().get("/api/v1/processor")).json()
    (shout,) = answer["items"]
    assert (shout["name"], shout["version"], shout["live"]) == ("shout", "2.0.0", True)
    assert [(each["version"], sorted(each["params"]["properties"])) for each in shout["versions"]] == [
        ("2.0.0", ["pitch"]),
        ("1.2.0", ["loud"]),
        ("1.0.0", ["volume"]),
    ]
    assert shout["limits"] == {"maxInputBytes": LARGEST}, "what the author doesn't say is left out"
    assert shout["maxBatchFiles"] == 1000
    assert shout["byMediaType"] == {
        "text/*": {"maxBytes": LARGEST},
        "text/plain": {"maxBytes": LARGEST, "maxBatchFiles": 7},
        "text/csv": {"maxBytes": 5},
    }
    settings = platform.settings
    assert answer["limits"] == {
        "maxInputBytes": settings.max_input_bytes,
        "maxJsonBytes": settings.max_json_bytes,
        "maxBatchFiles": 1000,
        "maxParamsBytes": 65_536,
        "maxWaitSeconds": 60,
        "deadlineSeconds": settings.deadline_seconds,
        "maxDeadlineSeconds": settings.max_deadline_seconds,
        "retentionSeconds": settings.retention_seconds,
        "recordSeconds": settings.record_seconds,
    }


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize("wanted", ["shout", "shout@2", "shout@1", "shout@1.2", "shout@1.2.0"])
async def test_a_job_may_pin_a_version(platform: Platform, post: Post, wanted: str) -> None:
    alice = platform.client()
    job_id = job_id_of(await post(alice, processor=wanted))
    assert (await alice.get(f"/api/v1/job/{job_id}/status")).json()["processor"] == wanted


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize("wanted", ["shout@", "shout@x", "shout@1.", "shout@01", "shout@1.2.3.4", "SHOUT", "whisper@1"])
async def test_what_no_processor_can_be_named_is_refused(platform: Platform, post: Post, wanted: str) -> None:
    answer = await post(platform.client(), processor=wanted)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/processor")


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize("wanted", ["shout@3", "shout@1.1", "shout@1.2.1"])
async def test_a_pin_that_no_known_version_fits_is_refused_with_those_there_are(
    platform: Platform, post: Post, wanted: str
) -> None:
    answer = await post(platform.client(), processor=wanted)
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        [
            {
                "pointer": "/processor",
                "detail": f"No version of `shout` fits `{wanted}`. There is `2.0.0`, `1.2.0` and `1.0.0`.",
            }
        ],
    )


@pytest.mark.parametrize(
    ("wanted", "parameter"),
    [
        ("shout", "pitch"),
        ("shout@2", "pitch"),
        ("shout@1", "loud"),
        ("shout@1.2", "loud"),
        ("shout@1.0", "volume"),
        ("shout@1.0.0", "volume"),
    ],
)
async def test_parameters_are_those_of_the_highest_version_that_fits(
    platform: Platform, wanted: str, parameter: str
) -> None:
    taken = set()
    values = {"pitch": "1.5", "loud": "true", "volume": "3"}
    for name, value in values.items():
        fields: dict[str, Any] = {"processor": wanted, name: value}
        answer = await post_raw(platform.client(), **fields)
        assert answer.status_code in (201, 422)
        if answer.status_code == 201:
            taken.add(name)
    assert taken == {parameter}


async def test_media_types_and_sizes_are_those_of_the_version(platform: Platform) -> None:
    alice, picture = platform.client(), b"\x89PNG\r\n\x1a\n"
    assert (await post_raw(alice, picture, "image/png", processor="shout@1")).status_code == 201
    assert (await post_raw(alice, picture, "image/png", processor="shout@2")).status_code == 415
    assert (await post_raw(alice, b"x" * 100, processor="shout@1.0")).status_code == 201


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize(("mimetype", "most"), [("text/plain", LARGEST), ("text/csv", 5)])
async def test_what_is_too_large_for_the_processor_is_refused(
    platform: Platform, post: Post, mimetype: str, most: int
) -> None:
    alice = platform.client()
    assert (await post(alice, b"x" * most, mimetype, processor="shout")).status_code == 201
    answer = await post(alice, b"x" * (most + 1), mimetype, processor="shout")
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


async def test_a_job_for_a_version_that_nothing_runs_any_more_says_that_it_waits(platform: Platform) -> None:
    alice = platform.client()
    database = platform.settings.database.removesuffix("front") + "job"
    last_seen = {"lastSeenAt": {"$subtract": ["$$NOW", 20 * 86_400_000]}}
    await platform.core.mongodb[database]["offers"].update_one({"_id": "shout@1.0.0"}, [{"$set": last_seen}])

    async def is_asleep() -> bool:
        (shout,) = (await alice.get("/api/v1/processor")).json()["items"]
        return [version["live"] for version in shout["versions"]] == [True, True, False]

    await eventually(is_asleep)
    job_id = job_id_of(await post_raw(alice, processor="shout@1.0"))

    async def waits() -> bool:
        return bool((await alice.get(f"/api/v1/job/{job_id}/status")).json().get("phase") == "waiting-for-processor")

    await eventually(waits)
