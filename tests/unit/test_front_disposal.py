"""What of a deleted job goes when: nothing before what was on its way has come, and its record last."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from common.ids import new_id
from services.front.domain.disposal import Due, Times, due
from services.front.domain.job import Job, Owner, Status

ENDED = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = Times(record=9_000, rest=15, hidden=600)
DELETED = Job(
    id=new_id(),
    owner=Owner("acme", "alice"),
    status=Status.EXECUTION_COMPLETED,
    name="a",
    mimetype="text/plain",
    size=1,
    processor="checksum",
    params={},
    created_at=ENDED,
    updated_at=ENDED,
    history=((Status.EXECUTION_COMPLETED, ENDED),),
    expires_at=ENDED + timedelta(seconds=5_000),
    deleted_at=ENDED,
)


def due_after(seconds: float, job: Job = DELETED, *, keep_inputs: bool = False) -> Due:
    return due(job, ENDED + timedelta(seconds=seconds), TIMES, keep_inputs=keep_inputs)


@pytest.mark.parametrize("keep_inputs", [False, True])
@pytest.mark.parametrize("bytes_deleted", [False, True])
def test_it_rests_and_then_goes_in_two_steps_whatever_else_holds(keep_inputs: bool, bytes_deleted: bool) -> None:
    job = replace(DELETED, bytes_deleted=bytes_deleted)
    for seconds, expected in [(0, Due.LATER), (14, Due.LATER), (15, Due.RUN), (599, Due.RUN), (600, Due.RECORD)]:
        assert due_after(seconds, job, keep_inputs=keep_inputs) is expected


def test_one_that_has_not_ended_loses_nothing() -> None:
    running = replace(DELETED, status=Status.SUBMITTED, history=((Status.SUBMITTED, ENDED),))
    assert due_after(10_000, running) is Due.NOTHING


def test_one_that_nobody_deleted_keeps_its_time() -> None:
    assert due_after(600, replace(DELETED, deleted_at=None), keep_inputs=True) is Due.NOTHING
