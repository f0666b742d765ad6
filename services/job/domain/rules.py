"""The rules of a run's life, as data and pure functions. The stores carry them out; see `services.job.ports`.

| state | means | who moves it on | after a crash |
|---|---|---|---|
| `QUEUED` | it waits for a processor, at once or after a backoff | a claim | nothing is lost |
| `RUNNING` | a claim holds it under a lease, proved by its fence | the processor, or the sweep | its lease lapses |
| `SUCCESS`, `FAILED`, `CANCELLED` | it has ended, and is reported to front | nobody | any process reports it |
"""

from dataclasses import dataclass

from common.contracts.job import WAITING_FOR_PROCESSOR, RunError, RunState
from common.failures import FAILURES

TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED}),
    RunState.RUNNING: frozenset({RunState.QUEUED, RunState.SUCCESS, RunState.FAILED, RunState.CANCELLED}),
    RunState.SUCCESS: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}

FINAL = frozenset(state for state, onward in TRANSITIONS.items() if not onward)

OPEN = frozenset(TRANSITIONS) - FINAL

DEADLINE = RunError(type="deadline", detail=f"{FAILURES['deadline'].title}.")
POISON = RunError(type="poison", detail=f"{FAILURES['poison'].title}.")


CLAIMED = "CLAIMED"
"""The phase of a run that a claim holds and nobody has started yet."""

TOMBSTONE_SECONDS = 30 * 86_400
"""How long a run is remembered of which only that it is over matters: it was cancelled before it was submitted, or it
was deleted. A submit that comes later than that would start it."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a run is tried, and how long it rests after a failure: `backoff_seconds`, doubled after each attempt.
    One that lapsed has rested for its lease, and goes back to its place in line.

    Failures and lapses are counted apart. A run that has failed so often that it isn't tried again may have lapsed
    before, and the other way round: of a failure its own process is sure, of a lapse nobody is.
    """

    max_attempts: int
    backoff_seconds: float

    def allows_another(self, attempts: int) -> bool:
        """Whether a run that has had so many attempts, or lapses, gets one more."""
        return attempts < self.max_attempts

    def backoff(self, attempts: int, jitter: float) -> float:
        """Seconds to rest after so many attempts; `jitter` in [0, 1) spreads them over the upper half."""
        return float(self.backoff_seconds * 2 ** (attempts - 1) * (0.5 + jitter / 2))


def retry_after(error: RunError, policy: RetryPolicy) -> RetryPolicy | None:
    """The policy, or None when a run that failed so is not tried again.

    A type that the table doesn't know comes from a newer processor; trying again is the careful answer.
    """
    failure = FAILURES.get(error.type)
    return policy if failure is None or failure.retried else None


def phase_of(state: RunState, started: bool, reported: str | None, can_be_taken: bool) -> str | None:
    """The phase of a run: `reported` by its processor, once it has started; None when it has ended.

    `can_be_taken`: a processor that is live runs what the run wants.
    """
    if state == RunState.QUEUED:
        return state.value if can_be_taken else WAITING_FOR_PROCESSOR
    if state == RunState.RUNNING:
        return (reported or state.value) if started else CLAIMED
    return None
