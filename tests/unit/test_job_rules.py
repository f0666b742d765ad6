"""The rules of a run's life."""

import pytest

from common.contracts.job import RunError, RunState
from common.failures import FAILURES
from services.job.domain.rules import FINAL, TRANSITIONS, RetryPolicy, retry_after

POLICY = RetryPolicy(max_attempts=3, backoff_seconds=2)


def test_every_state_has_its_row_and_the_ends_have_no_way_on() -> None:
    assert set(TRANSITIONS) == set(RunState)
    assert {RunState.SUCCESS, RunState.FAILED, RunState.CANCELLED} == FINAL


@pytest.mark.parametrize("failure", FAILURES.values(), ids=lambda failure: failure.slug)
def test_what_the_user_has_to_mend_is_tried_once(failure: object) -> None:
    slug = str(getattr(failure, "slug", ""))
    assert (retry_after(RunError(type=slug, detail="x"), POLICY) is None) == (not FAILURES[slug].retried)


def test_a_failure_of_a_newer_processor_is_tried_again() -> None:
    assert retry_after(RunError(type="unheard-of", detail="x"), POLICY) == POLICY


def test_the_backoff_doubles_and_its_jitter_never_halves_it_more_than_once() -> None:
    assert [POLICY.backoff(attempts, 0) for attempts in (1, 2, 3)] == [1, 2, 4]
    assert [POLICY.backoff(attempts, 1) for attempts in (1, 2, 3)] == [2, 4, 8]


def test_attempts_end() -> None:
    assert [POLICY.allows_another(attempts) for attempts in (0, 1, 2, 3)] == [True, True, True, False]
