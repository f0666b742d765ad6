"""What a small job costs, and what nothing costs: counted, and held under a ceiling. A ceiling comes down with each
cut, and never goes up; the goal is beside it.

Counts are of a job, of 10 KB to `checksum`. What is looked at by the clock is left out, for there is more of it the
slower the machine is: a look that finds nothing, and what is known for a while and then asked again. For the same
reason no wait polls here, and each run ends within the moment after which `SUBMITTED` is written.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from common.ids import new_id
from common.mongo.client import opened
from services.front import app as front_app
from services.front.domain.job import Status
from services.front.use_cases import read
from tests.support.commands import Command, Commands
from tests.support.platform import Platform, eventually, open_platform

CONTENT = b"x" * 10_240
# Kept for a while, whatever is asked: an owner's budget of requests, and the processors on offer.
BY_THE_CLOCK_IN_MONGODB = {"budgets", "offers"}
BY_THE_CLOCK_OVER_HTTP = {"POST /api/v1/processor", "GET /api/v1/processor"}
STREAM_ANSWERS, STREAM_SECONDS = 5, 2  # a quiet stream is asked less often than that, as it ships
"""How long a test watches what nothing costs: mongod answers a change stream without changes once a second."""


@dataclass(frozen=True)
class Ceiling:
    """The most that there may be of something, and how much there is to be."""

    most: float
    goal: float | None = None


ONE_AT_A_TIME = {
    "front: commands": Ceiling(4.3),
    "job: commands": Ceiling(5.7),
    "commands": Ceiling(10, goal=10),
    "waiting for the journal": Ceiling(6, goal=5),
    "HTTP requests": Ceiling(8.2, goal=8),
}
SIXTEEN_AT_A_TIME = {
    "front: commands": Ceiling(4.2),
    "job: commands": Ceiling(11),
    "commands": Ceiling(15.2, goal=6),
    "waiting for the journal": Ceiling(6.5, goal=4),
    "HTTP requests": Ceiling(7.2, goal=6),
}
TRACKER_AFTERWARDS = {
    "tracker: commands": Ceiling(0.5),
    "HTTP requests": Ceiling(1.2),
}
IDLE = {
    "front: commands": Ceiling(1),
    "job: commands": Ceiling(3),
    "tracker: commands": Ceiling(3),
    "commands": Ceiling(7, goal=2),
}


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("costs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "POLL_SECONDS", 60)
        patch.setattr(front_app, "MOMENT_SECONDS", 600)
        patch.setattr("common.mongo.client.CHANGES_SECONDS", STREAM_SECONDS)
        async with open_platform(mongodb_uri, f"test-{new_id()}", folder, quick=False) as platform:
            await hand_in(platform, jobs=1, clients=1)  # what is asked once is asked by this one
            yield platform


@pytest.fixture
async def tracker(platform: Platform, mongodb_uri: str) -> AsyncIterator[tuple[Platform, Commands]]:
    """The platform as the tracker sees it, and what that says to MongoDB."""
    said = Commands()
    async with (
        opened(mongodb_uri, said) as client,
        front_app.open_core(platform.settings, mongodb=client, blobs=platform.to_blob, runs=platform.to_job) as core,
    ):
        yield replace(platform, core=core), said


async def hand_in(platform: Platform, *, jobs: int, clients: int) -> None:
    """So many jobs; each client hands one in and waits for its end, and then hands in the next."""
    left = iter(range(jobs))
    headers = {"Content-Type": "text/plain", "Prefer": "wait=60"}

    async def one_client() -> None:
        client = platform.client()
        for _ in left:
            done = await client.post("/api/v1/job?processor=checksum", content=CONTENT, headers=headers)
            assert done.json()["status"] == Status.EXECUTION_COMPLETED, done.text

    await asyncio.gather(*(one_client() for _ in range(clients)))


async def track(platform: Platform) -> None:
    """What a tracker does in each round."""
    await platform.recover()()
    await platform.track_uploads()()
    await platform.retire()()


def of_jobs(said: list[Command]) -> list[Command]:
    return [c for c in said if not c.in_vain and c.collection not in BY_THE_CLOCK_IN_MONGODB]


def requests_since(platform: Platform, start: int) -> int:
    """How many requests one service has made of another."""
    said = platform.wire.messages[start:]
    return sum(message.caller != "client" and message.request not in BY_THE_CLOCK_OVER_HTTP for message in said)


def assert_under(ceilings: dict[str, Ceiling], title: str, counted: dict[str, float]) -> None:
    """Print the table, and fail above a ceiling."""
    rows = [f"\n{title:40} {'counted':>8} {'most':>8} {'goal':>8}"]
    for name, ceiling in ceilings.items():
        goal = "" if ceiling.goal is None else f"{ceiling.goal:g}"
        rows.append(f"{name:40} {counted[name]:8.2f} {ceiling.most:8g} {goal:>8}")
    print("\n".join(rows))  # noqa: T201 - who cuts a cost wants to see it: `pytest -s`
    assert {name: counted[name] for name, ceiling in ceilings.items() if counted[name] > ceiling.most} == {}


@pytest.mark.parametrize(
    ("jobs", "clients", "ceilings"),
    [
        pytest.param(16, 1, ONE_AT_A_TIME, id="one-at-a-time"),
        pytest.param(64, 16, SIXTEEN_AT_A_TIME, id="sixteen-at-a-time"),
    ],
)
async def test_a_small_job_costs_no_more_than_it_may(
    platform: Platform, jobs: int, clients: int, ceilings: dict[str, Ceiling]
) -> None:
    starts = {name: len(commands.said) for name, commands in platform.to_mongodb.items()}
    start = len(platform.wire.messages)
    await hand_in(platform, jobs=jobs, clients=clients)
    said = {name: of_jobs(commands.said[starts[name] :]) for name, commands in platform.to_mongodb.items()}
    counted = {
        **{f"{name}: commands": len(commands) / jobs for name, commands in said.items()},
        "commands": sum(map(len, said.values())) / jobs,
        "waiting for the journal": sum(c.journaled for commands in said.values() for c in commands) / jobs,
        "HTTP requests": requests_since(platform, start) / jobs,
    }
    assert_under(ceilings, f"A job, of {jobs} by {clients} clients", counted)


async def test_the_tracker_works_on_what_has_ended_in_few_commands(
    platform: Platform, tracker: tuple[Platform, Commands]
) -> None:
    as_tracker, said = tracker
    await track(as_tracker)
    await hand_in(platform, jobs=16, clients=16)
    before, start = len(said.said), len(platform.wire.messages)
    await track(as_tracker)
    counted = {
        "tracker: commands": len(of_jobs(said.said[before:])) / 16,
        "HTTP requests": requests_since(platform, start) / 16,
    }
    assert_under(TRACKER_AFTERWARDS, "A job, afterwards", counted)


async def test_nothing_costs_no_more_than_it_may(platform: Platform, tracker: tuple[Platform, Commands]) -> None:
    as_tracker, by_tracker = tracker
    await track(as_tracker)
    before = len(by_tracker.said)
    await track(as_tracker)
    in_a_round = len(by_tracker.said) - before

    by_front = platform.to_mongodb["front"].said
    starts = {name: len(commands.said) for name, commands in platform.to_mongodb.items()}

    async def a_while_has_passed() -> bool:
        answers = sum(c.name == "getMore" and c.in_vain for c in by_front[starts["front"] :])
        return answers >= STREAM_ANSWERS

    await eventually(a_while_has_passed)
    counted = {
        f"{name}: commands": (len(commands.said) - starts[name]) / (STREAM_ANSWERS * STREAM_SECONDS)
        for name, commands in platform.to_mongodb.items()
    }
    counted["tracker: commands"] = in_a_round / platform.settings.recovery_seconds
    counted["commands"] = sum(counted.values())
    assert_under(IDLE, "A second without jobs", counted)
