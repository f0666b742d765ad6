"""What job needs from outside: a store of runs, a store of offers, and front's ear.

Every time is the store's own clock, so that no process's clock decides about a lease; only lengths are
arguments, in seconds. A store that can't be reached raises its own error, and nothing is known of the write.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.contracts.job import OutputInfo, RunError, RunState, RunStatus, RunSubmit
from gristmill.wire.processors import OfferedProcessor, ProcessorOffer
from services.job.domain.rules import RetryPolicy


@dataclass(frozen=True, slots=True)
class Handover:
    """A claim that a new run is given to as it is written: born RUNNING, with fence 1 and a lease to start in."""

    claim_id: str
    start_seconds: float


@dataclass(frozen=True, slots=True)
class Submitted:
    """`created` says whether this call made the run; else `state` is that of the run which was there."""

    state: RunState
    created: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that a claim holds, and the fence that proves it.

    `deadline_seconds` are left until its deadline, if it has one; the run's own say nothing any more. `alone` says
    that the next lapse would be its last: nothing may be worked on beside it, so that no other run can be to blame.
    """

    run: RunSubmit
    fence: int
    deadline_seconds: float | None = None
    alone: bool = False


class RunStore(Protocol):
    """The queue. A fence only grows, a final state never changes, and every change is one conditional write.

    `heartbeat`, `complete`, `fail` and `release` raise `StaleFence`, and change nothing, unless the run is
    RUNNING with just this fence.
    """

    async def submit(self, run: RunSubmit, handover: Handover | None = None) -> Submitted:
        """Queue a run, or hand it over; one with this id that is there already stays as it is.

        Its deadline, if it has one, begins now; nothing moves it.
        Raises `Invalid` for values that can't be stored.
        """

    async def queued_estimate(self, tenant: str) -> int:
        """About how many runs of the tenant are queued, cheaply."""

    async def queued_count(self, tenant: str) -> int:
        """The same, counted."""

    async def claim(
        self, claim_id: str, processors: Sequence[str], limit: int, start_seconds: float
    ) -> Sequence[Claimed]:
        """Take up to `limit` runs that are due; each raises its fence. Tenants share by weight, and of a tenant's runs
        that want the same, the one goes first that is due longest. None is taken of a tenant that has as many running
        as it may.

        None is taken whose deadline has passed. When runs are still this claim's, they are returned again and none is
        taken. Of many that claim at once each run goes to one.
        """

    async def heartbeat(
        self,
        run_id: str,
        fence: int,
        lease_seconds: float,
        *,
        started: bool,
        phase: str | None = None,
        progress: float | None = None,
    ) -> None:
        """Renew the lease; the first one with `started` begins the attempt. One before that says that the run is held
        until it may begin.

        `phase` and `progress` are what the attempt is at until another one says so, or it is over.
        """

    async def complete(self, run_id: str, fence: int, outputs: Sequence[OutputInfo]) -> bool:
        """End the run as SUCCESS; returns whether this call did. False: it had been completed with this fence."""

    async def fail(self, run_id: str, fence: int, error: RunError, retry: RetryPolicy | None) -> RunState:
        """Queue the run again after a backoff where `retry` allows another attempt, else end it as FAILED.

        Returns which of them came about.
        """

    async def release(self, run_id: str, fence: int) -> None:
        """Queue the run again with a new fence, at its old place; the attempt under way doesn't count."""

    async def sweep(self, retry: RetryPolicy) -> int:
        """End every run whose deadline has passed as FAILED with `deadline`, and take back every other one whose lease
        has lapsed, each with a new fence; returns how many.

        One that never started goes back to its place. One that did goes back after a backoff, or ends as FAILED with
        `poison` when it has lapsed as often as `retry` allows attempts. Before the last of them it is to be worked on
        alone. Safe in many processes at once.
        """

    async def cancel(self, run_id: str) -> RunStatus:
        """End the run as CANCELLED, with a new fence, unless it has ended. Returns how it has ended.

        A run that isn't there is written as CANCELLED, and kept for `TOMBSTONE_SECONDS`, so that a submit that comes
        late starts nothing. Nobody is told of that one but the caller.
        """

    async def delete(self, run_id: str) -> None:
        """Forget a run that has ended; one that isn't there is fine. Raises `Conflict` while it hasn't ended.

        Front deletes what is final there, and submits nothing of that kind. But a front that was stopped between its
        look at the job and its submit may go on after any time: so the id and the state are kept for
        `TOMBSTONE_SECONDS` more, and a submit in that time starts nothing.
        """

    async def statuses(self, ids: Sequence[str], live: Collection[str] | None = None) -> list[RunStatus]:
        """Those of the runs that exist and were not deleted, in no order.

        `live`: all that a run may want and be taken now; with it, a queued run that wants something else is waiting
        for a processor. Of queued ones with an estimate of their position, unless that would take too long for so
        many.
        """

    async def take_reports(self, limit: int) -> list[RunStatus]:
        """Ended runs whose report is due, each taken by one caller; it is due again later unless `settle` says so."""

    async def settle(self, ids: Sequence[str]) -> None:
        """These runs need no further report."""


@dataclass(frozen=True, slots=True)
class Depth:
    """Of the runs that want one thing: about how many are queued, how long the oldest is due, and how many run."""

    processor: str
    queued: int
    oldest_age_seconds: float
    running: int


class QueueDepths(Protocol):
    """What an autoscaler wants to know."""

    async def depths(self) -> list[Depth]:
        """For everything that is wanted by runs that wait or run, 500 things at the most."""


class QueueHints(Protocol):
    """A store that can say that something was queued, by whichever process. A hint may come late, twice or never."""

    def queued(self) -> AsyncIterator[str | None]:
        """The processor a run was queued for, None when it isn't known. Ends with an error when hints break off."""


class OfferStore(Protocol):
    """What processors can run: names, and the versions of each that were offered."""

    async def offer(self, offers: Sequence[ProcessorOffer], kept_seconds: float) -> None:
        """These are offered now; what was not offered in the last `kept_seconds` may go."""

    async def offered(self, live_seconds: float, kept_seconds: float) -> list[OfferedProcessor]:
        """All that was offered in the last `kept_seconds`, by name; live if in the last `live_seconds`.

        A name is described by the highest of its live versions, or the highest of all when none is live.
        """


class FrontReports(Protocol):
    """Front, which wants to know how runs ended."""

    async def report(self, runs: Sequence[RunStatus]) -> list[str]:
        """The ids that front has settled. Raises `Unavailable` when front can't be reached."""
