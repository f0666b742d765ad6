"""Streams of the changes of a job or a batch. One loop looks for all of them, however many they are.

Hints of the change stream name the job to look at. Beside them up to `LOOKS` of the watched jobs that haven't ended are
read once a second, in turn: progress is known to job alone, and a hint may get lost. So what is watched costs by what
changes, and the more there is, the later what got no hint is seen.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import islice

from common.contracts.job import MAX_IDS, RunStatus
from common.errors import NotFound, Problem
from common.logging import get_logger
from common.shares import Shares
from services.front.domain.job import Job, Owner
from services.front.domain.revision import NOTHING, Revision, event_id, revision, together
from services.front.ports import JobStore, Runs
from services.front.use_cases.batch import Batches
from services.front.use_cases.read import ReadJob

ROUND_SECONDS = 1.0
LOOKS = MAX_IDS

log = get_logger()


class Watch:
    """What one stream has yet to send: of each job only the newest state, however slowly it is read."""

    def __init__(self, jobs: Iterable[Job], last_event_id: str | None) -> None:
        self.jobs = {job.id: job for job in jobs}
        self._unfinished = {job.id for job in self.jobs.values() if not job.status.is_final}
        self.changed = asyncio.Event()
        self.closing = False
        self._sent: dict[str, Revision] = {job_id: revision(job) for job_id, job in self.jobs.items()}
        self._seen = NOTHING
        for sent in self._sent.values():
            self._seen = together(self._seen, NOTHING, sent)
        self._new: dict[str, None] = {}
        if last_event_id is None or not last_event_id.startswith(self.event_id):
            self._sent, self._seen = {}, NOTHING
            self._new = dict.fromkeys(self.jobs)

    @property
    def event_id(self) -> str:
        """The id of the last event that was sent."""
        return event_id(self._seen)

    @property
    def is_over(self) -> bool:
        """Whether every job is final, and that was sent."""
        return not (self._new or self._unfinished)

    def put(self, job: Job) -> None:
        self.jobs[job.id] = job
        if job.status.is_final:
            self._unfinished.discard(job.id)
        if revision(job) != self._sent.get(job.id):
            self._new[job.id] = None
            self.changed.set()

    def gone(self, job_id: str) -> None:
        """The job was deleted: nothing more is sent of it."""
        self.jobs.pop(job_id, None)
        self._unfinished.discard(job_id)
        self._new.pop(job_id, None)
        self.changed.set()

    def close(self) -> None:
        self.closing = True
        self.changed.set()

    def take(self) -> Iterator[Job]:
        """What is new, as it is when it is taken; `event_id` is that of each."""
        while self._new and not self.closing:
            job = self.jobs[next(iter(self._new))]
            del self._new[job.id]
            now = revision(job)
            self._seen = together(self._seen, self._sent.get(job.id, NOTHING), now)
            self._sent[job.id] = now
            yield job

    async def wait(self, seconds: float) -> bool:
        """Whether something has changed within these seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        except TimeoutError:
            return False
        self.changed.clear()
        return True


class Watching:
    """All streams of this process, and the loop that looks for them."""

    def __init__(
        self,
        jobs: JobStore,
        runs: Runs,
        read: ReadJob,
        batches: Batches,
        *,
        streams: Shares,
        watched: Shares,
        is_draining: Callable[[], bool],
    ) -> None:
        self._jobs = jobs
        self._runs = runs
        self._read = read
        self._batches = batches
        self._streams = streams
        self._watched = watched
        self._is_draining = is_draining
        self._watches: dict[str, set[Watch]] = {}
        self._newest: dict[str, Job] = {}
        self._in_turn: dict[str, None] = {}  # those that haven't ended, in the order in which they are read
        self._hinted: set[str] = set()
        self._woken = asyncio.Event()
        self._round_at = 0.0

    @asynccontextmanager
    async def job(self, owner: Owner, job_id: str, last_event_id: str | None) -> AsyncIterator[Watch]:
        """Watch a job. Raises `NotFound` as its status does, `TooManyRequests`, `Unavailable`."""
        with self._streams.take(owner):
            snapshot = await self._read.status(owner, job_id)
            with self._watched.take(owner), self._watching([snapshot.job], last_event_id) as watch:
                yield watch

    @asynccontextmanager
    async def batch(self, owner: Owner, batch_id: str, last_event_id: str | None) -> AsyncIterator[Watch]:
        """Watch all jobs of a batch; likewise."""
        with self._streams.take(owner):
            found = await self._batches.all_jobs(owner, batch_id)
            with self._watched.take(owner, len(found)):
                jobs = await self._as_of_now(found)
                with self._watching(jobs, last_event_id) as watch:
                    yield watch

    def hint(self, job_id: str) -> None:
        """The job has changed."""
        if job_id in self._watches:
            self._hinted.add(job_id)
            self._woken.set()

    async def look(self) -> None:
        """One round, when there is a hint, and in any case once a second."""
        try:
            async with asyncio.timeout(max(0, self._round_at - time.monotonic())):
                await self._woken.wait()
        except TimeoutError:
            pass  # it is time for a round
        self._woken.clear()
        hinted, self._hinted = self._hinted, set()
        if self._is_draining():  # requests are still taken for a while: their streams end in the next round
            self._close_all()
        now = time.monotonic()
        if now >= self._round_at:
            self._round_at = now + ROUND_SECONDS
            hinted.update(self._next_in_turn())
        await self._look_at([job_id for job_id in hinted if job_id in self._newest])

    def _next_in_turn(self) -> Sequence[str]:
        some = list(islice(self._in_turn, LOOKS))
        for job_id in some:
            del self._in_turn[job_id]
            self._in_turn[job_id] = None
        return some

    async def _look_at(self, job_ids: Sequence[str]) -> None:
        for start in range(0, len(job_ids), MAX_IDS):
            some = job_ids[start : start + MAX_IDS]
            found = {
                job_id: job for job_id, job in (await self._jobs.find_many(some)).items() if job.deleted_at is None
            }
            for job_id in set(some) - found.keys():
                self._gone(job_id)
            # One that nobody watches any more may have left while the store was asked.
            for job in await self._as_of_now([job for job_id, job in found.items() if job_id in self._newest]):
                self._send(job)

    async def _as_of_now(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """With what job knows of their runs. While it is away, those stay as they were last read."""
        asked = [job.id for job in jobs if not (job.status.is_final or job.is_fronts_alone)]
        try:
            runs = await self._runs.statuses(asked) if asked else {}
        except Problem as problem:
            log.warning("watch.job_away", jobs=len(asked), reason=problem.slug)
            return [self._last_seen(job) for job in jobs]
        now = await asyncio.gather(*(self._learned(job, runs.get(job.id)) for job in jobs))
        return [job for job in now if job is not None]

    async def _learned(self, job: Job, run: RunStatus | None) -> Job | None:
        try:
            return await self._read.learned(job, run) if run is not None and not job.status.is_final else job
        except NotFound:
            self._gone(job.id)
            return None

    def _last_seen(self, job: Job) -> Job:
        last = self._newest.get(job.id, job)
        return last if len(last.history) == len(job.history) else job

    def _send(self, job: Job) -> None:
        newest = self._newest.get(job.id)
        if newest is None or len(job.history) < len(newest.history) or revision(job) == revision(newest):
            return
        self._newest[job.id] = job
        if job.status.is_final:
            self._in_turn.pop(job.id, None)
        for watch in self._watches[job.id]:
            watch.put(job)

    def _gone(self, job_id: str) -> None:
        self._newest.pop(job_id, None)
        self._in_turn.pop(job_id, None)
        for watch in self._watches.get(job_id, ()):
            watch.gone(job_id)

    def _close_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.close()

    @contextmanager
    def _watching(self, jobs: Sequence[Job], last_event_id: str | None) -> Iterator[Watch]:
        watch = Watch(jobs, last_event_id)
        ids = list(watch.jobs)
        for job in jobs:
            self._watches.setdefault(job.id, set()).add(watch)
            self._newest.setdefault(job.id, job)
            if not self._newest[job.id].status.is_final:
                self._in_turn.setdefault(job.id)
            if not job.status.is_final:
                self.hint(job.id)  # it may have changed since it was read
            if (newest := self._newest[job.id]) is not job and len(newest.history) >= len(job.history):
                watch.put(newest)
        try:
            yield watch
        finally:
            for job_id in ids:
                self._watches[job_id].discard(watch)
                if not self._watches[job_id]:
                    del self._watches[job_id]
                    self._newest.pop(job_id, None)
                    self._in_turn.pop(job_id, None)
