"""Every sequence of docs/diagrams.md is what the services say to each other when it is played."""

import io
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from common.ids import new_id
from gristmill.wire.processors import ProcessorOffer
from services.front.domain.job import NewJob, Owner, Status, Transition
from tests.support.pages import code_blocks, page, section
from tests.support.platform import Platform, eventually, open_platform
from tests.support.submitting import job_id_of, post_batch, post_json, post_raw
from tests.support.traffic import Message

PAGE = page("docs/diagrams.md")
TITLES = re.findall(r"^### (.*)$", section(PAGE, "## Sequences"), flags=re.MULTILINE)
ARROW = re.compile(r"^\s*(\w+)(-?->>)(\w+): (.*)$", re.MULTILINE)
REQUEST = re.compile(r"[A-Z]+ /[^ ,]*")
STATE = re.compile(r"[A-Z_]{4,}")
# What is said by the clock, as the page says.
BY_THE_CLOCK = {"POST /api/v1/processor", "GET /api/v1/processor"}
LAPSED = -1.0
OWNER = Owner("acme", "alice")

Lanes = dict[tuple[str, str], list[tuple[str, int]]]


@dataclass
class Stage:
    """Where a sequence is played: a platform, a client, and the job that it is about."""

    platform: Platform
    client: httpx.AsyncClient
    job_id: str = ""
    _reports_before: int = field(init=False)

    def __post_init__(self) -> None:
        self._reports_before = self._reports()

    async def ended(self) -> None:
        """Waits for the end of the job and for the response to its report, and asks nobody over HTTP."""

        async def told() -> bool:
            return self._reports() > self._reports_before

        await self._until(lambda status: status.is_final)
        await eventually(told)

    def _reports(self) -> int:
        return sum(message.request == "POST /internal/run" for message in self.platform.wire.messages)

    async def submitted(self) -> None:
        await self._until(lambda status: status is Status.SUBMITTED)

    async def _until(self, reached: Callable[[Status], bool]) -> None:
        async def there() -> bool:
            job = await self.platform.core.jobs.find(self.job_id)
            return job is not None and reached(job.status)

        await eventually(there)

    async def history(self) -> list[str]:
        job = await self.platform.core.jobs.find(self.job_id)
        return [str(status) for status, _ in job.history] if job else []

    async def raw(self, **fields: Any) -> None:
        self.job_id = job_id_of(await post_raw(self.client, **fields))

    async def waiting(self) -> None:
        """A job that no processor takes."""
        await self.raw(processor="idle")
        await self.submitted()

    async def left(self, *, submitted: bool) -> None:
        """A job that its front has left, in `CREATED` or in `SUBMITTED` without a run."""
        new = NewJob(id=new_id(), owner=OWNER, name="n", mimetype="text/plain", size=1, processor="idle", params={})
        self.job_id = new.id
        await self.platform.core.inline.put(new.id, b"x")
        await self.platform.core.jobs.insert_created(new, LAPSED)
        if submitted:
            await self.platform.core.jobs.apply(new.id, Transition.stored(1, "0" * 64), LAPSED)
            await self.platform.core.jobs.apply(new.id, Transition.submitted(), LAPSED)

    async def get(self, what: str) -> None:
        await self.client.get(f"/api/v1/job/{self.job_id}/{what}")


async def create_raw(stage: Stage) -> None:
    await stage.raw()
    await stage.ended()


async def create_json(stage: Stage) -> None:
    stage.job_id = job_id_of(await post_json(stage.client))
    await stage.ended()


async def done(stage: Stage) -> None:
    await create_raw(stage)


async def failed(stage: Stage) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, "JPEG")
    await stage.raw(content=file.getvalue()[:700], mimetype="image/jpeg", processor="image-variants")
    await stage.ended()


async def nothing(stage: Stage) -> None:
    stage.job_id = new_id()


async def away(stage: Stage) -> None:
    stage.platform.to_job.on = True
    try:
        await stage.get("status")
    finally:
        stage.platform.to_job.on = False


async def upload(stage: Stage) -> None:
    batch = await post_batch(stage.client, processor="idle")
    stage.job_id = job_id_of(batch)
    plan = batch.json()["items"][0]["upload"]
    async with httpx.AsyncClient() as line:
        sent = await line.request(plan["method"], plan["url"], content=b"x", headers=plan["headers"])
        sent.raise_for_status()
    completed = await stage.client.post(f"/api/v1/job/{stage.job_id}/upload/complete")
    assert completed.json()["status"] == "SUBMITTED"


Play = Callable[[Stage], Awaitable[None]]
# For each sequence what comes before it, and the sequence itself.
SEQUENCES: dict[str, tuple[Play, Play]] = {
    "Create a job from a raw body or a form": (nothing, create_raw),
    "Create a job from a JSON body": (nothing, create_json),
    "Status of a job that is final": (done, lambda stage: stage.get("status")),
    "Status of a job that isn't final": (Stage.waiting, lambda stage: stage.get("status")),
    "Status while job is away": (Stage.waiting, away),
    "Output that is known": (done, lambda stage: stage.get("output")),
    "Output of a job that isn't there, or is another's": (nothing, lambda stage: stage.get("output")),
    "Output that isn't ready": (Stage.waiting, lambda stage: stage.get("output")),
    "Output of a job that failed": (failed, lambda stage: stage.get("output")),
    "Upload a file of a batch": (nothing, upload),
    "Recovery of a job that its front left in `CREATED`": (
        lambda stage: stage.left(submitted=False),
        lambda stage: recovered(stage),
    ),
    "Recovery of a job whose run job doesn't know": (
        lambda stage: stage.left(submitted=True),
        lambda stage: recovered(stage),
    ),
}


async def recovered(stage: Stage) -> None:
    await stage.platform.recover()()


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("sequences"))
    async with open_platform(mongodb_uri, f"test-{new_id()}", folder) as platform:
        offer = ProcessorOffer(name="idle", version="1.0.0", summary="", media_types=["*/*"], params={})
        await platform.as_processor.offer([offer])
        yield platform


def drawn(title: str) -> tuple[Lanes, list[str]]:
    """What a diagram shows: of each pair the requests and how they were answered, and the states in MongoDB."""
    (diagram,) = code_blocks(section(PAGE, f"### {title}"), "mermaid")
    asked: dict[tuple[str, str], list[str]] = defaultdict(list)
    answered: dict[tuple[str, str], list[int]] = defaultdict(list)
    states: list[str] = []
    for left, arrow, right, text in ARROW.findall(diagram.replace("tracker", "front")):
        if right == "mongodb":
            states += STATE.findall(text)
        elif arrow == "-->>":
            answered[right, left].append(int(text.split()[0]))
        else:
            request = REQUEST.match(text)
            assert request, f"{text!r} is no request"
            asked[left, right].append(request[0])
    assert {pair: len(requests) for pair, requests in asked.items()} == {
        pair: len(answers) for pair, answers in answered.items()
    }, "every request is answered"
    return {pair: list(zip(asked[pair], answered[pair], strict=True)) for pair in asked}, states


def heard(messages: list[Message]) -> Lanes:
    """The same of what went over the wire; what was repeated counts once."""
    lanes: Lanes = defaultdict(list)
    for message in messages:
        if message.request not in BY_THE_CLOCK:
            lanes[message.caller, message.callee].append((message.request, message.status))
    return {pair: [one for one, _ in groupby(lane)] for pair, lane in lanes.items()}


def test_every_sequence_of_the_page_is_played() -> None:
    assert list(SEQUENCES) == TITLES


@pytest.mark.parametrize("title", SEQUENCES)
async def test_the_sequence_is_what_goes_over_the_wire(platform: Platform, title: str) -> None:
    stage = Stage(platform, platform.client())
    before, play = SEQUENCES[title]
    await before(stage)
    states = [] if before is nothing else await stage.history()
    start = len(platform.wire.messages)
    await play(stage)
    lanes, written = drawn(title)
    said = heard(platform.wire.messages[start:])
    # An idle processor's claim is answered when its time is over, whatever else happens.
    if ("processor", "job") not in lanes:
        said.pop(("processor", "job"), None)
    assert said == lanes
    assert (await stage.history())[len(states) :] == written
