"""What job needs from outside: a store of runs, a store of offers, and front to report to.

Stores keep all times by their own clock, so that no process's clock decides about a lease; arguments are lengths of
time, in seconds. A store that can't be reached raises its own error, and a write may have taken hold or not.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.contracts.job import OutputInfo, RunError, RunState, RunStatus, RunSubmit
from gristmill.wire.processors import OfferedProcessor, ProcessorOffer
from services.job.domain.rules import RetryPolicy


@dataclass(frozen=True, slots=True)
class Handover:
    """The claim that gets a new run as it is written: RUNNING, with fence 1, and a lease of `start_seconds`."""

    claim_id: str
    start_seconds: float


@dataclass(frozen=True, slots=True)
class Submitted:
    """The state of a run that was submitted, and whether this call created it."""

    state: RunState
    created: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that a claim has, and the fence that proves it."""

    run: RunSubmit
    """As it was submitted; its `deadline_seconds` means nothing any more."""
    fence: int
    deadline_seconds: float | None = None
    """How long it is until the run's deadline, if it has one."""
    alone: bool = False
    """The next lapse would be its last, so nothing may be worked on beside it: no other run can be to blame."""


class RunStore(Protocol):
    """The queue. A fence only grows, a final state never changes, and every change is one conditional write.

    `heartbeat`, `complete`, `fail` and `release` raise `StaleFence`, and change nothing, unless the run is
    RUNNING with just this fence.
    """

    async def submit(self, run: RunSubmit, handover: Handover | None = None) -> Submitted:
        """Queue a run, or hand it over to a claim. A run with this id that is there already stays as it is.

        Its deadline is `run.deadline_seconds` from now, and nothing moves it. Raises `Invalid` for values that can't be
        stored.
        """

    async def queued_estimate(self, tenant: str) -> int:
        """About how many runs of the tenant are queued: a sum over its flows."""

    async def queued_count(self, tenant: str) -> int:
        """How many runs of the tenant are queued, counted; of each flow up to 100,000."""

    async def claim(
        self, claim_id: str, processors: Sequence[str], limit: int, start_seconds: float, *, first: bool = False
    ) -> Sequence[Claimed]:
        """Take up to `limit` runs that are due and want one of `processors`. Each is RUNNING then, with a higher fence
        and a lease of `start_seconds`; each run goes to exactly one claim.

        Tenants share by weight; of a tenant's runs that want the same, the one goes first that has been due longest.
        No run is taken whose deadline has passed, and none of a tenant that has as many running as it may. A claim that
        still has runs gets these again, and no others. It isn't asked whether it has any when this is its `first` call.
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
        """Renew the lease, to `lease_seconds` from now. The first heartbeat with `started` begins the attempt.

        `phase` and `progress` (0 to 1) describe the attempt until the next heartbeat that has them, or its end.
        """

    async def complete(self, run_id: str, fence: int, outputs: Sequence[OutputInfo]) -> RunStatus | None:
        """End the run as SUCCESS. Returns how it ended; None when it had been completed with this fence before."""

    async def fail(self, run_id: str, fence: int, error: RunError, retry: RetryPolicy | None) -> RunStatus:
        """Queue the run again after a backoff where `retry` allows another attempt, else end it as FAILED. Returns how
        it stands then.
        """

    async def release(self, run_id: str, fence: int) -> None:
        """Queue the run again with a new fence, at its old place; the attempt under way doesn't count."""

    async def sweep(self, retry: RetryPolicy) -> int:
        """End every run whose deadline has passed, as FAILED with `deadline`; and queue every other one whose lease has
        lapsed, with a new fence, at its old place. Returns how many runs there were.

        A run that lapsed as often as `retry` allows attempts, started each time, ends as FAILED with `poison`; before
        the last attempt it becomes `Claimed.alone`. Safe in many processes at once.
        """

    async def cancel(self, run_id: str) -> RunStatus:
        """End the run as CANCELLED, with a new fence, unless it has ended. Returns the run as it ended.

        A run that isn't there is written as CANCELLED, and kept for `TOMBSTONE_SECONDS`, so that a submit that comes
        late starts nothing. That one isn't reported. Raises `Unavailable` when the run changes all the time.
        """

    async def delete(self, run_id: str) -> None:
        """Forget a run that has ended; one that isn't there is no fault. Raises `Conflict` while it hasn't ended.

        Front deletes what is final there, and submits nothing of that kind. But a front that was stopped between its
        look at the job and its submit may go on after any time: so the id and the state are kept for
        `TOMBSTONE_SECONDS` more, and a submit in that time starts nothing.
        """

    async def statuses(self, ids: Sequence[str], live: Collection[str] | None = None) -> list[RunStatus]:
        """The runs among these that exist and were not deleted, in no order.

        `live` is everything that a processor which is live takes: with it, a queued run that wants something else has
        the phase `waiting-for-processor`. A queued run has an estimate of its position, unless `ids` has too many.
        """

    async def claim_reports(self, limit: int) -> list[RunStatus]:
        """Up to `limit` ended runs whose report is due. Each is this caller's alone for 2 to 30 s, longer each time,
        and then due again, unless it is settled.
        """

    async def settle(self, ids: Sequence[str]) -> None:
        """Front knows the end of these runs: they need no further report. A crash of the store may lose that again."""


@dataclass(frozen=True, slots=True)
class Depth:
    """Of the runs that want one processor: about how many are queued, how long the oldest has been due, in seconds, and
    how many are running.
    """

    processor: str
    queued: int
    oldest_age_seconds: float
    running: int


class QueueDepths(Protocol):
    """What an autoscaler wants to know."""

    async def depths(self, live: Collection[str] = frozenset()) -> list[Depth]:
        """One for each processor that a queued or running run wants; up to 500. Those that are `live` come first, then
        the longest queues: so nobody can push out the real ones by names that nothing runs.
        """


class QueueHints(Protocol):
    """Hints that a run was queued, by whichever process. A hint may come late, twice or never."""

    def queued(self) -> AsyncIterator[str | None]:
        """The processor that each run wants, None when it isn't known. Raises when the hints break off."""


class OfferStore(Protocol):
    """The processors on offer, by name and version."""

    async def offer(self, offers: Sequence[ProcessorOffer], kept_seconds: float) -> None:
        """Write down that these are offered now. Those that were not in the last `kept_seconds` may be removed."""

    async def offered(self, live_seconds: float, kept_seconds: float) -> list[OfferedProcessor]:
        """The processors that were offered in the last `kept_seconds`, by name; live if in the last `live_seconds`.

        A processor is described by the highest of its live versions, or the highest of all when none is live.
        """


class FrontReports(Protocol):
    """Front, which has to know how runs ended."""

    async def report(self, runs: Sequence[RunStatus]) -> list[str]:
        """Report runs that have ended. Returns the ids of those that front has settled. Raises `Unavailable` when front
        can't be reached.
        """
