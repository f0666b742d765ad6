"""A deadline goes with its job, of each kind, from what its owner asks to what job is told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.ids import new_id
from gristmill.wire.processors import ProcessorOffer
from tests.support.platform import Platform, open_platform
from tests.support.submitting import KINDS, Post, job_id_of, post_batch, post_json, post_raw

DEFAULT, MOST = 3600, 7200


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("deadlines"))
    settings: dict[str, Any] = {"deadline_seconds": DEFAULT, "max_deadline_seconds": MOST, "lease_seconds": 0.1}
    async with open_platform(mongodb_uri, f"test-{new_id()}", folder, **settings) as platform:
        offer = ProcessorOffer(name="away", version="1.0.0", summary="", media_types=["*/*"], params={"type": "object"})
        await platform.as_processor.offer([offer])
        yield platform


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize(
    ("said", "seconds"), [({}, DEFAULT), ({"deadline": 90}, 90), ({"deadline": "15m"}, 900), ({"deadline": "2h"}, MOST)]
)
async def test_a_job_has_the_deadline_that_it_asks_for(
    platform: Platform, post: Post, said: dict[str, Any], seconds: int
) -> None:
    alice = platform.client()
    job_id = job_id_of(await post(alice, **said))
    assert (await alice.get(f"/api/v1/job/{job_id}")).json()["deadline"] == seconds


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize("text", [0, -1, "7201", "3h", "1d", "8w", "until-read", "1 h", "1" * 20, "٣d", "1D"])
async def test_a_deadline_that_cannot_be_is_refused(platform: Platform, post: Post, text: Any) -> None:
    before = await platform.core.jobs.jobs.count_documents({})
    answer = await post(platform.client(), deadline=text)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/deadline"]
    assert await platform.core.jobs.jobs.count_documents({}) == before


@pytest.mark.parametrize("value", [True, 1.5, {"$gt": ""}, ["7d"], ""])
async def test_a_deadline_of_another_type_is_refused(platform: Platform, value: Any) -> None:
    for post in (post_json, post_batch):
        answer = await post(platform.client(), deadline=value)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/deadline")


async def test_what_has_not_ended_by_its_deadline_ends_in_an_error(platform: Platform) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice, processor="away", deadline="1s"))
    status = await platform.final(alice, job_id)
    assert (status["status"], status["error"]["type"]) == ("EXECUTION_ERROR", "/problems/deadline")
    assert status["error"]["fault"] == "server"
