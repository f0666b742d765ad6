"""What every store promises about uploads, to a client that knows only the plan and HTTP."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.contracts.upload import UploadPlan
from tests.fakes.keys import key_folder
from tests.support.s3 import TestBucket
from tests.support.s3_uploading import s3_uploads
from tests.support.uploading import (
    LONG,
    OVER,
    SHORT,
    WRONG_SIZE,
    Uploads,
    altered,
    facts_of,
    filesystem_uploads,
    part_of,
)

PARTS = 4


@pytest.fixture
async def filesystem(tmp_path: Path) -> AsyncIterator[Uploads]:
    async with filesystem_uploads(tmp_path) as opened:
        yield opened


@pytest.fixture
async def encrypted(tmp_path: Path) -> AsyncIterator[Uploads]:
    async with filesystem_uploads(tmp_path, keys=key_folder(tmp_path / "master-keys", "2026")) as opened:
        yield opened


@pytest.fixture
async def s3_store(s3_bucket: TestBucket) -> AsyncIterator[Uploads]:
    async with s3_uploads(s3_bucket) as opened:
        yield opened


@pytest.fixture(params=["filesystem", "encrypted", "s3_store"])
def uploads(request: pytest.FixtureRequest) -> Uploads:
    uploads: Uploads = request.getfixturevalue(request.param)
    return uploads


def received(plan: UploadPlan) -> list[int]:
    return [part.number for part in plan.parts if part.received]


@pytest.mark.parametrize("digest", [True, False], ids=["digest announced", "no digest"])
@pytest.mark.parametrize("data", [SHORT, LONG], ids=["single", "multipart"])
async def test_typical_journey(uploads: Uploads, data: bytes, digest: bool) -> None:
    facts = facts_of(data, digest=digest)
    assert (await uploads.store.status(facts)).state == "OPEN"
    parts = await uploads.send_all(facts, data)
    status = await uploads.ended(facts, parts)
    assert (status.state, status.size, status.sha256) == ("COMPLETE", len(data), hashlib.sha256(data).hexdigest())
    assert await uploads.read(facts) == data
    assert await uploads.store.status(facts) == await uploads.ended(facts, parts) == status


async def test_a_plan_says_exactly_what_to_send(uploads: Uploads) -> None:
    single = await uploads.plan(facts_of(SHORT))
    assert (single.kind, single.size, single.parts, single.part_size) == ("single", len(SHORT), [], None)
    long = await uploads.plan(facts_of(LONG))
    assert (long.kind, long.url, long.next) == ("multipart", None, None)
    assert [part.number for part in long.parts] == [1, 2, 3, 4]
    assert [part.size for part in long.parts] == [long.part_size] * 3 + [5]
    urls = [part.url for part in long.parts]
    assert None not in urls
    assert len(set(urls)) == PARTS


async def test_parts_go_in_any_order_and_one_again_without_the_others(uploads: Uploads) -> None:
    facts = facts_of(LONG)
    plan = await uploads.plan(facts)
    parts = [await uploads.send_part(plan, LONG, number) for number in (4, 2, 2, 3)]
    assert received(await uploads.plan(facts)) == [2, 3, 4]
    assert (await uploads.store.complete(facts, [])).state == "OPEN"
    parts.append(await uploads.send_part(plan, LONG, 1))
    by_number = {part.number: part for part in parts}
    status = await uploads.ended(facts, [by_number[number] for number in (1, 2, 3, 4)])
    assert status.state == "COMPLETE"
    assert await uploads.read(facts) == LONG


async def test_the_last_bytes_sent_as_a_part_are_the_parts(uploads: Uploads) -> None:
    facts = facts_of(LONG)
    plan = await uploads.plan(facts)
    spoilt = bytes(len(LONG))
    parts = [await uploads.send_part(plan, spoilt if number == 2 else LONG, number) for number in (1, 2, 3)]
    parts[1] = await uploads.send_part(plan, LONG, 2)
    parts.append(await uploads.send_part(plan, LONG, 4))
    assert (await uploads.ended(facts, parts)).state == "COMPLETE"
    assert await uploads.read(facts) == LONG


async def test_an_upload_goes_on_with_fresh_urls_for_the_rest(uploads: Uploads) -> None:
    facts = facts_of(LONG)
    first = await uploads.plan(facts)
    parts = [await uploads.send_part(first, LONG, number) for number in (1, 3)]
    later = await uploads.plan(facts, expiresIn=6000)
    assert later.expires_at > first.expires_at
    assert received(later) == [1, 3]
    assert [part.number for part in later.parts if part.url] == [2, 4]
    parts += [await uploads.send_part(later, LONG, number) for number in (2, 4)]
    status = await uploads.ended(facts, sorted(parts, key=lambda part: part.number))
    assert status.state == "COMPLETE"
    assert await uploads.read(facts) == LONG


async def test_urls_are_given_from_a_number_on_and_as_many_as_are_wanted(uploads: Uploads) -> None:
    facts = facts_of(LONG)
    asked = await uploads.plan(facts, maxUrls=0)
    assert (asked.state, asked.parts, asked.next) == ("OPEN", [], 1)
    begin = await uploads.plan(facts, maxUrls=2)
    assert ([part.number for part in begin.parts], begin.next) == ([1, 2], 3)
    rest = await uploads.plan(facts, **{"from": 3})
    assert ([part.number for part in rest.parts], rest.next) == ([3, 4], None)
    for plan, number in ((begin, 1), (rest, 3)):
        await uploads.send_part(plan, LONG, number)
    one = await uploads.plan(facts, maxUrls=1)
    assert [(part.number, part.received) for part in one.parts] == [(1, True), (2, False), (3, True)]
    assert one.next == 4
    assert (await uploads.plan(facts_of(SHORT), maxUrls=0)).url is None


async def test_a_question_is_enough_to_finish_what_nobody_completed(uploads: Uploads) -> None:
    for data in (SHORT, LONG):
        facts = facts_of(data)
        await uploads.send_all(facts, data)
        async with asyncio.timeout(30):
            while (await uploads.store.status(facts)).state != "COMPLETE":  # noqa: ASYNC110 - as in `ended`
                await asyncio.sleep(0.01)
        assert await uploads.read(facts) == data


@pytest.mark.parametrize("difference", [-1, 1], ids=["one byte less", "one byte more"])
async def test_another_size_than_signed_leaves_nothing(uploads: Uploads, difference: int) -> None:
    single, long = facts_of(SHORT), facts_of(LONG)
    plan = await uploads.plan(single)
    body = (SHORT + b"!")[: len(SHORT) + difference]
    assert (await uploads.send(plan, plan.url, body)).status_code in WRONG_SIZE
    assert await uploads.is_absent(single)
    plan = await uploads.plan(long)
    for number in (1, PARTS):
        body = (part_of(LONG, number) + b"!")[: plan.parts[number - 1].size + difference]
        assert (await uploads.send(plan, plan.parts[number - 1].url, body)).status_code in WRONG_SIZE
    assert received(await uploads.plan(long)) == []


async def test_what_is_not_as_announced_becomes_no_blob(uploads: Uploads) -> None:
    facts = facts_of(LONG, announced=b"something else")
    parts = await uploads.send_all(facts, LONG)
    assert (await uploads.ended(facts, parts)).state == "MISMATCH"
    assert await uploads.is_absent(facts)
    plan = await uploads.plan(facts)
    assert plan.state == "MISMATCH"
    assert not [part for part in plan.parts if part.url or part.received]
    await uploads.store.abort(facts.id)
    assert (await uploads.store.status(facts)).state == "OPEN"
    assert received(await uploads.plan(facts)) == []


async def test_a_single_that_is_not_as_announced_is_refused_or_becomes_no_blob(uploads: Uploads) -> None:
    facts = facts_of(SHORT, announced=b"something else")
    plan = await uploads.plan(facts)
    await uploads.send(plan, plan.url, SHORT)
    assert (await uploads.ended(facts)).state in ("OPEN", "MISMATCH")
    assert await uploads.is_absent(facts)


async def test_an_aborted_upload_forgets_its_parts(uploads: Uploads) -> None:
    facts = facts_of(LONG)
    plan = await uploads.plan(facts)
    await uploads.send_part(plan, LONG, 1)
    await uploads.store.abort(facts.id)
    await uploads.store.abort(facts.id)
    assert (await uploads.send(plan, plan.parts[1].url, part_of(LONG, 2))).status_code in OVER
    assert received(await uploads.plan(facts)) == []
    parts = await uploads.send_all(facts, LONG)
    assert (await uploads.ended(facts, parts)).state == "COMPLETE"
    await uploads.store.abort(facts.id)
    assert await uploads.read(facts) == LONG


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["single", "multipart"])
async def test_a_url_changes_nothing_after_completion(uploads: Uploads, data: bytes) -> None:
    facts = facts_of(data)
    plan = await uploads.plan(facts)
    assert (await uploads.ended(facts, await uploads.send_all(facts, data))).state == "COMPLETE"
    for body in (data, bytes(len(data))):
        url, size = (plan.url, len(data)) if plan.url else (plan.parts[0].url, plan.parts[0].size)
        assert (await uploads.send(plan, url, body[:size])).status_code in OVER
    assert await uploads.read(facts) == data
    again = await uploads.plan(facts)
    assert (again.state, again.url, [part.url for part in again.parts if part.url]) == ("COMPLETE", None, [])
    assert all(part.received for part in again.parts)


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["single", "multipart"])
async def test_an_altered_url_is_refused(uploads: Uploads, data: bytes) -> None:
    facts = facts_of(data)
    plan = await uploads.plan(facts)
    other = await uploads.plan(facts_of(data[::-1]))
    url, another = (plan.url, other.url) if plan.url else (plan.parts[0].url, plan.parts[1].url)
    assert url
    assert another
    changed = altered(url, another)
    answers = {name: await uploads.send(plan, each, part_of(data, 1)) for name, each in changed.items()}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(changed, 403)
    for method in ("POST", "GET", "DELETE", "HEAD"):
        assert (await uploads.http.request(method, url, headers=plan.headers)).status_code in {403, 405}, method
    assert received(await uploads.plan(facts)) == []
    assert (await uploads.ended(facts, await uploads.send_all(facts, data))).state == "COMPLETE"


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["single", "multipart"])
async def test_a_body_that_breaks_off_leaves_nothing(uploads: Uploads, data: bytes) -> None:
    facts = facts_of(data)
    plan = await uploads.plan(facts)
    url = httpx.URL(plan.url or plan.parts[0].url or "")
    body = part_of(data, 1)
    headers = {"Host": f"{url.host}:{url.port}", "Content-Length": str(len(body)), **plan.headers}
    head = [f"PUT {url.raw_path.decode()} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    for sent in (0, len(body) // 2, len(body) - 1):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write("\r\n".join(head).encode() + body[:sent])
        writer.write_eof()
        await reader.read()  # whatever it says: it knows then
        writer.close()
        await writer.wait_closed()
        assert (await uploads.store.status(facts)).state == "OPEN"
        assert await uploads.is_absent(facts)
        assert received(await uploads.plan(facts)) == []
    parts = [await uploads.send_part(plan, data, part.number) for part in plan.parts]
    if not parts:
        assert (await uploads.send(plan, plan.url, data)).is_success
    assert (await uploads.ended(facts, parts)).state == "COMPLETE"
    assert await uploads.read(facts) == data


async def test_a_body_without_a_length_is_as_long_as_signed_or_nothing(uploads: Uploads) -> None:
    async def chunks(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield bytes(min(100_000, size - start))

    facts = facts_of(LONG)
    plan = await uploads.plan(facts)
    (url, size) = plan.parts[0].url or "", plan.parts[0].size
    for wrong in (size - 1, size + 1):
        answer = await uploads.http.put(url, content=chunks(wrong), headers=plan.headers)
        assert answer.status_code in WRONG_SIZE
        assert received(await uploads.plan(facts)) == []


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["single", "multipart"])
async def test_an_expired_url_is_refused_and_a_fresh_one_is_not(uploads: Uploads, data: bytes) -> None:
    facts = facts_of(data)
    plan = await uploads.plan(facts, expiresIn=1)
    # A signature has whole seconds, and may be one younger than its plan. Nothing but time can be waited for.
    while time.time() <= plan.expires_at.timestamp() + 1.1:  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.1)
    url = plan.url or plan.parts[0].url
    assert (await uploads.send(plan, url, part_of(data, 1))).status_code == 403
    assert await uploads.is_absent(facts)
    assert received(await uploads.plan(facts)) == []
    assert (await uploads.ended(facts, await uploads.send_all(facts, data))).state == "COMPLETE"
