"""The network between the processes breaks, stalls, and changes bytes: answers are late or refused, and never wrong."""

import asyncio
import base64
import random
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.clients.http import MOST_TRIES
from common.contracts.job import RunState
from tests.faults.network import Network, networked
from tests.support.journey import RAW, assert_completes, ended, hand_in
from tests.support.marks import long
from tests.support.processes import until

LONG = random.Random(1).randbytes(2**20)
# More than all buffers on its way hold.
LONGEST = bytes(24 * 2**20)
# Before the end of the body.
IN_THE_BODY = 100_000
TIMED_READS = 200
ROUNDS = 5
SPOILT: list[Any] = [{"truncate_reply": IN_THE_BODY}, *long({"flip_reply": IN_THE_BODY})]


@pytest.fixture(scope="module")
async def started(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    async with networked(Path(tmp_path_factory.mktemp("network"))) as network:
        yield network


@pytest.fixture
async def network(started: Network) -> AsyncIterator[Network]:
    async with asyncio.timeout(90):
        yield started
    started.heal()


@pytest.fixture
async def http(network: Network) -> AsyncIterator[httpx.AsyncClient]:
    async with network.local.client() as client:
        yield client


def post_raw(http: httpx.AsyncClient, content: bytes = b"x") -> Awaitable[httpx.Response]:
    return http.post("/api/v1/job?processor=checksum", content=content, headers=RAW)


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] == "/problems/unavailable"
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("lost", [1, *long(MOST_TRIES)], ids=["once", "each time"])
async def test_fault_06_a_submit_whose_reply_is_lost_makes_one_run(
    network: Network, http: httpx.AsyncClient, lost: int
) -> None:
    network.to_job.only = b"POST /api/v1/job "
    network.to_job.asked, network.to_job.drop_reply = 0, lost
    location = await hand_in(http)
    await assert_completes(http, location)
    # job's report may overtake the submit that is made again, also the last one.
    await until(lambda: network.to_job.asked >= min(lost + 1, MOST_TRIES))
    await assert_completes(http, location)
    async with network.local.job() as job:
        (run,) = (await job.statuses([location.rpartition("/")[2]])).values()
    assert (run.status, run.fence, run.attempt) == (RunState.SUCCESS, 1, 1)


async def test_fault_19_while_blob_is_down_raw_files_are_refused_and_json_waits_for_it(
    network: Network, http: httpx.AsyncClient
) -> None:
    for proxy in (network.to_blob, network.processor_to_blob):
        proxy.refusing = True
        proxy.reset()
    assert_unavailable(await post_raw(http))
    content = b"it waits"
    body = {"processor": "checksum", "mimetype": "text/plain", "content": base64.b64encode(content).decode()}
    answer = await http.post("/api/v1/job", json=body)
    assert answer.status_code == 201, answer.text
    location = answer.headers["Location"]
    assert (await http.get(f"{location}/status")).json()["status"] == "CREATED"
    network.heal()
    await assert_completes(http, location, content)


@pytest.mark.long
async def test_fault_20_a_blob_that_hangs_is_given_up_and_other_routes_do_not_notice(
    network: Network, http: httpx.AsyncClient
) -> None:
    location = await hand_in(http)
    await assert_completes(http, location)
    await p99(http, location)

    async def hanging() -> list[httpx.Response]:
        return await asyncio.gather(*(post_raw(http, content) for content in [LONGEST, *[LONG, b"x"] * 10]))

    before, beside = [], []
    for _ in range(ROUNDS):
        before.append(await p99(http, location))
        network.to_blob.stalled = True
        posts = asyncio.create_task(hanging())
        await asyncio.sleep(0)
        beside.append(await p99(http, location))
        hung = not posts.done()
        for answer in await posts:
            assert_unavailable(answer)
        network.heal()
        if hung and beside[-1] < 2 * max(before):
            break
    else:
        pytest.fail(f"99 % of reads took {before} s before, and {beside} s while blob hung.")
    await assert_completes(http, await hand_in(http))


async def p99(http: httpx.AsyncClient, location: str) -> float:
    """Of reads of a status, one after the other: how long all but the slowest hundredth take at the most."""
    seconds = []
    for _ in range(TIMED_READS):
        began = time.perf_counter()
        (await http.get(f"{location}/status")).raise_for_status()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[-1 - TIMED_READS // 100]


@pytest.mark.parametrize(
    "spoil", [{"truncate_reply": IN_THE_BODY}, *long({"flip_reply": IN_THE_BODY})], ids=["cut", "flip"]
)
async def test_fault_21_an_output_that_is_cut_short_or_changed_is_no_complete_answer(
    network: Network, http: httpx.AsyncClient, spoil: dict[str, Any]
) -> None:
    answer = await http.post("/api/v1/job?processor=compress", content=LONG, headers=RAW)
    job = await ended(http, answer.headers["Location"])
    (output,) = job["outputs"]
    whole = (await http.get(output["href"])).raise_for_status().content
    assert len(whole) > IN_THE_BODY
    network.to_blob.spoilt = 0
    for name, value in spoil.items():
        setattr(network.to_blob, name, value)
    # Whether front has begun to answer by then is the network's affair.
    with suppress(httpx.RemoteProtocolError):
        assert (await http.get(output["href"])).status_code == 502
    assert network.to_blob.spoilt
    network.heal()
    assert (await http.get(output["href"])).content == whole


async def test_fault_21_an_output_that_is_spoilt_before_the_answer_begins_is_a_bad_gateway(
    network: Network, http: httpx.AsyncClient
) -> None:
    location = await hand_in(http)
    (output,) = (await ended(http, location))["outputs"]
    network.to_blob.flip_reply = 10
    refused = await http.get(output["href"])
    assert (refused.status_code, refused.json()["type"]) == (502, "/problems/bad-gateway")
    network.heal()
    await assert_completes(http, location)


@pytest.mark.parametrize(
    "spoil", [{"truncate_reply": IN_THE_BODY}, *long({"flip_reply": IN_THE_BODY})], ids=["cut", "flip"]
)
async def test_fault_21_an_input_that_is_cut_short_or_changed_is_read_again(
    network: Network, http: httpx.AsyncClient, spoil: dict[str, Any]
) -> None:
    proxy = network.processor_to_blob
    for name, value in {**spoil, "only": b"GET /api/v1/blob/"}.items():
        setattr(proxy, name, value)
    proxy.spoilt = 0
    location = await hand_in(http, LONG)
    await until(lambda: proxy.spoilt >= 2)
    network.heal()
    await assert_completes(http, location, LONG)
    assert (await ended(http, location))["attempt"] == 1
