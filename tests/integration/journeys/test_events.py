"""Watching: what a stream of events tells of a job and of a batch, on any front, and when it ends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.contracts.job import ClaimedRun, Complete, Heartbeat
from common.ids import new_id
from common.web.serve import Readiness
from services.front import app as front_app
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.domain.job import Job
from services.front.use_cases import watch
from tests.support.manual_processor import claim, offer_checksum
from tests.support.platform import Platform, eventually, open_platform, token
from tests.support.serving import serving
from tests.support.submitting import job_id_of, post_batch, post_json, post_raw


@dataclass
class Front:
    """A front that listens, with a client of Alice's, and what ends it."""

    http: httpx.AsyncClient
    readiness: Readiness

    @asynccontextmanager
    async def watch(self, path: str, last: str | None = None) -> AsyncIterator["Stream"]:
        headers = {"Last-Event-ID": last} if last else {}
        async with self.http.stream("GET", f"/api/v1/{path}/events", headers=headers) as answer:
            yield Stream(answer)


class Stream:
    """The events of a response, one after the other."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self) -> dict[str, Any] | None:
        """The next event or comment; None at the end."""
        fields: dict[str, Any] = {}
        async with asyncio.timeout(20):
            async for line in self._lines:
                if not line:
                    return fields
                name, _, value = line.partition(": ")
                fields[name] = json.loads(value) if name == "data" else value
        return None

    async def until(self, **expected: Any) -> dict[str, Any]:
        """The first event whose data says what is expected."""
        while (event := await self.next()) is not None:
            if expected.items() <= event.get("data", {}).items():
                return event
        raise AssertionError(f"the stream ended without {expected}")

    async def rest(self) -> list[dict[str, Any]]:
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


@asynccontextmanager
async def another_front(platform: Platform, **settings: Any) -> AsyncIterator[Front]:
    """One more front over the same database, at a port of its own."""
    changed = platform.settings.model_copy(update=settings)
    readiness = Readiness()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        core = await enter(front_app.open_core(changed, blobs=platform.to_blob, runs=platform.to_job))
        public, _ = await enter(front_app.open_apps(changed, readiness, core))
        url = await enter(serving(public))
        # No connection is kept: on a busy machine the server may close one in the moment in which it is used again.
        http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token()}"},
            timeout=30,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        yield Front(await enter(http), readiness)


@pytest.fixture
async def platform(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[Platform]:
    async with open_platform(mongodb_uri, f"test-{new_id()}", tmp_path, processor=False) as platform:
        await offer_checksum(platform)
        yield platform


@pytest.fixture
async def front(platform: Platform) -> AsyncIterator[Front]:
    async with another_front(platform) as front:
        yield front


async def complete(platform: Platform, run: ClaimedRun) -> None:
    await platform.as_processor.complete(run.id, Complete(fence=run.fence, outputs=[]))


def distinct(events: Sequence[dict[str, Any]]) -> list[str]:
    """The states in the order told, each once."""
    return list(dict.fromkeys(event["data"]["status"] for event in events if "data" in event))


async def test_from_created_to_its_end_in_order_and_then_it_closes(platform: Platform, front: Front) -> None:
    platform.to_blob.on = True  # so that the job stays CREATED
    job_id = job_id_of(await post_json(platform.client()))
    async with front.watch(f"job/{job_id}") as stream:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        events = [await stream.until(status="CREATED")]
        platform.to_blob.on = False
        job = await platform.core.jobs.find(job_id)
        assert job is not None
        await platform.core.advance.carry_on(job)
        events.append(await stream.until(status="SUBMITTED", phase="QUEUED"))
        run = await claim(platform, job_id)
        await platform.as_processor.heartbeat(run.id, Heartbeat(fence=run.fence, phase="reading", progress=0.25))
        events.append(await stream.until(phase="reading", progress=0.25))
        await platform.as_processor.heartbeat(run.id, Heartbeat(fence=run.fence, phase="reading", progress=0.75))
        events.append(await stream.until(phase="reading", progress=0.75))
        await complete(platform, run)
        events += await stream.rest()
    assert distinct(events) == ["CREATED", "SUBMITTED", "EXECUTION_COMPLETED"]
    assert {event["event"] for event in events} == {"status"}
    assert len({event["id"] for event in events}) == len(events)
    assert events[-1]["data"] == (await platform.client().get(f"/api/v1/job/{job_id}/status")).json()


async def test_who_comes_again_to_another_front_gets_only_what_is_new(platform: Platform, front: Front) -> None:
    job_id = job_id_of(await post_raw(platform.client()))
    async with front.watch(f"job/{job_id}") as stream:
        queued = await stream.until(status="SUBMITTED", phase="QUEUED")
    async with another_front(platform, heartbeat_seconds=0.1) as other:
        async with other.watch(f"job/{job_id}", queued["id"]) as stream:
            assert await stream.next() == {"": "heartbeat"}, "it has the newest already"
            run = await claim(platform, job_id)
            await complete(platform, run)
            ended = await stream.until(status="EXECUTION_COMPLETED")
        async with other.watch(f"job/{job_id}", queued["id"]) as stream:
            assert await stream.rest() == [ended], "the newest state, whatever was missed"
    async with front.watch(f"job/{job_id}", ended["id"]) as stream:
        assert stream.answer.status_code == 204


async def test_a_batch_tells_of_each_job_and_at_last_the_counts(platform: Platform, front: Front) -> None:
    answer = await post_batch(platform.client())
    batch_id, job_id = answer.json()["id"], answer.json()["items"][0]["id"]
    async with front.watch(f"batch/{batch_id}") as stream:
        assert (await stream.until(status="CREATED"))["data"]["id"] == job_id
        assert (await platform.client().post(f"/api/v1/job/{job_id}/cancel")).status_code == 200
        cancelled, end = await stream.rest()
    assert cancelled["data"]["status"] == "CANCELLED"
    assert (end["event"], end["data"]) == ("batch", {"id": batch_id, "counts": {"CANCELLED": 1}})
    async with front.watch(f"batch/{batch_id}", cancelled["id"]) as stream:
        assert await stream.rest() == [end]
    async with front.watch(f"batch/{batch_id}", end["id"]) as stream:
        assert stream.answer.status_code == 204


async def test_others_see_nothing(platform: Platform) -> None:
    job_id = job_id_of(await post_raw(platform.client()))
    batch_id = (await post_batch(platform.client())).json()["id"]
    for path in (f"job/{job_id}", f"batch/{batch_id}", f"job/{new_id()}", "job/x", "batch/x"):
        for stranger in (platform.client("acme", "bob"), platform.client("other", "alice")):
            answer = await stranger.get(f"/api/v1/{path}/events")
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def test_many_watch_with_one_change_stream(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = type(platform.core.jobs.jobs)
    opened, watch = [], collection.watch

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(self.database.name)
        return watch(self, *args, **kwargs)

    monkeypatch.setattr(collection, "watch", counted)
    job_id = job_id_of(await post_raw(platform.client()))
    async with another_front(platform) as front, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(front.watch(f"job/{job_id}")) for _ in range(30)]
        await asyncio.gather(*(stream.until(status="SUBMITTED") for stream in streams))
        run = await claim(platform, job_id)
        await complete(platform, run)
        ends = await asyncio.gather(*(stream.until(status="EXECUTION_COMPLETED") for stream in streams))
        assert len({end["id"] for end in ends}) == 1
    assert opened == [platform.settings.database]


async def test_without_the_change_stream_nothing_is_missed(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ConnectionError

    monkeypatch.setattr("services.front.adapters.mongodb.changes.changes", broken)
    job_id = job_id_of(await post_raw(platform.client()))
    async with another_front(platform) as front, front.watch(f"job/{job_id}") as stream:
        await stream.until(status="SUBMITTED")
        await complete(platform, await claim(platform, job_id))
        assert distinct(await stream.rest())[-1] == "EXECUTION_COMPLETED"


async def test_too_many_streams_are_refused_and_a_closed_one_makes_room(platform: Platform) -> None:
    job_id = job_id_of(await post_raw(platform.client()))
    bobs = {"Authorization": f"Bearer {token(subject='bob')}"}
    async with another_front(platform, max_streams=1) as front:
        async with front.watch(f"job/{job_id}") as stream:
            await stream.next()
            refused = await front.http.get(f"/api/v1/job/{job_id}/events", headers=bobs)
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")

        async def has_room() -> bool:
            return (await front.http.get(f"/api/v1/job/{job_id}/events", headers=bobs)).status_code == 404

        await eventually(has_room)
    async with another_front(platform, max_streams=3) as front, front.watch(f"job/{job_id}") as stream:
        await stream.next()
        refused = await front.http.get(f"/api/v1/job/{job_id}/events")
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-requests")


async def test_a_stream_ends_with_its_token(platform: Platform, front: Front) -> None:
    job_id = job_id_of(await post_raw(platform.client()))
    front.http.headers["Authorization"] = f"Bearer {token(exp=int(time.time()) + 3)}"
    async with asyncio.timeout(20), front.watch(f"job/{job_id}") as stream:
        events = await stream.rest()
    assert distinct(events)[-1] == "SUBMITTED"
    async with front.watch(f"job/{job_id}") as stream:
        assert stream.answer.status_code == 401


async def test_what_is_watched_and_does_not_change_is_read_in_turn(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [{"name": "a", "size": 4, "mimetype": "text/plain"}] * 20
    batch = (await post_batch(platform.client(), files=files)).json()
    reads: asyncio.Queue[list[str]] = asyncio.Queue()

    class Store(MongoJobStore):
        async def find_many(self, job_ids: Collection[str]) -> Mapping[str, Job]:
            reads.put_nowait(list(job_ids))
            return await super().find_many(job_ids)

    monkeypatch.setattr(front_app, "MongoJobStore", Store)
    monkeypatch.setattr(watch, "LOOKS", 5)
    async with another_front(platform) as front, front.watch(f"batch/{batch['id']}") as stream:
        await stream.next()
        async with asyncio.timeout(20):
            while len(await reads.get()) > 5:
                pass  # as it begins, each is looked at once
            rounds = [await reads.get() for _ in range(4)]
    assert [len(ids) for ids in rounds] == [5] * 4
    assert {job_id for ids in rounds for job_id in ids} == {item["id"] for item in batch["items"]}


async def test_a_drain_ends_the_streams(platform: Platform, front: Front) -> None:
    job_id = job_id_of(await post_raw(platform.client()))
    async with front.watch(f"job/{job_id}") as stream:
        await stream.until(status="SUBMITTED", phase="QUEUED")
        front.readiness.draining = True
        await stream.rest()
    async with front.watch(f"job/{job_id}") as stream:
        assert stream.answer.status_code == 200, "requests are taken until balancers know"
        await stream.rest()
