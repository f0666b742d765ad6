"""Streams of the changes of a job or a batch. One loop looks for all of them, however many they are.

Hints of the change stream name the job to look at; while it is broken, all that are watched are read now and then.
Progress is known to job alone, which is asked once a second about those that are watched, many at a time.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from common.contracts.job import MAX_IDS, RunStatus
from common.errors import NotFound, Problem, TooManyRequests, Unavailable
from common.logging import get_logger
from services.front.domain.job import Job, Owner
from services.front.domain.revision import NOTHING, Revision, event_id, revision, together
from services.front.ports import JobStore, Runs
from services.front.use_cases.batch import Batches
from services.front.use_cases.read import POLL_SECONDS, ReadJob

PROGRESS_SECONDS = 1.0

log = get_logger()


class Watch:
    """What one stream has yet to send: of each job only the newest state, however slowly it is read."""

    def __init__(self, jobs: Iterable[Job], last_event_id: str | None) -> None:
        self.jobs = {job.id: job for job in jobs}
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
        return not self._new and all(job.status.is_final for job in self.jobs.values())

    def put(self, job: Job) -> None:
        self.jobs[job.id] = job
        if revision(job) != self._sent.get(job.id):
            self._new[job.id] = None
            self.changed.set()

    def gone(self, job_id: str) -> None:
        """The job was deleted: nothing more is sent of it."""
        self.jobs.pop(job_id, None)
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
        max_streams: int,
        max_streams_per_owner: int,
        is_draining: Callable[[], bool],
    ) -> None:
        self._jobs = jobs
        self._runs = runs
        self._read = read
        self._batches = batches
        self._max_streams = max_streams
        self._max_streams_per_owner = max_streams_per_owner
        self._is_draining = is_draining
        self._streams: Counter[Owner] = Counter()
        self._watches: dict[str, set[Watch]] = {}
        self._newest: dict[str, Job] = {}
        self._hinted: set[str] = set()
        self._woken = asyncio.Event()
        self._progress_at = 0.0
        self._read_at = 0.0

    @asynccontextmanager
    async def job(self, owner: Owner, job_id: str, last_event_id: str | None) -> AsyncIterator[Watch]:
        """Watch a job. Raises `NotFound` as its status does, `TooManyRequests`, `Unavailable`."""
        with self._stream(owner):
            snapshot = await self._read.status(owner, job_id)
            with self._watched([snapshot.job], last_event_id) as watch:
                yield watch

    @asynccontextmanager
    async def batch(self, owner: Owner, batch_id: str, last_event_id: str | None) -> AsyncIterator[Watch]:
        """Watch all jobs of a batch; likewise."""
        with self._stream(owner):
            jobs = await self._as_of_now(await self._batches.all_jobs(owner, batch_id))
            with self._watched(jobs, last_event_id) as watch:
                yield watch

    def hint(self, job_id: str) -> None:
        """The job has changed."""
        if job_id in self._watches:
            self._hinted.add(job_id)
            self._woken.set()

    async def look(self) -> None:
        """One round, when there is a hint, and in any case once a second."""
        try:
            async with asyncio.timeout(max(0, self._progress_at - time.monotonic())):
                await self._woken.wait()
        except TimeoutError:
            pass  # it is time to ask for progress
        self._woken.clear()
        hinted, self._hinted = self._hinted, set()
        if self._is_draining():  # requests are still taken for a while: their streams end in the next round
            self._close_all()
        now = time.monotonic()
        unfinished = [job_id for job_id, job in self._newest.items() if not job.status.is_final]
        if now >= self._read_at:
            self._read_at, hinted = now + POLL_SECONDS, set(unfinished)
        looked_at: Collection[str] = hinted
        if now >= self._progress_at:
            self._progress_at, looked_at = now + PROGRESS_SECONDS, hinted.union(unfinished)
        await self._look_at([job_id for job_id in looked_at if job_id in self._newest], hinted)

    async def _look_at(self, job_ids: Sequence[str], changed: Collection[str]) -> None:
        for start in range(0, len(job_ids), MAX_IDS):
            some = job_ids[start : start + MAX_IDS]
            again = [job_id for job_id in some if job_id in changed]
            found = {
                job_id: job for job_id, job in (await self._jobs.find_many(again)).items() if job.deleted_at is None
            }
            for job_id in set(again) - found.keys():
                self._gone(job_id)
            # One that nobody watches any more may have left while the store was asked.
            jobs = [found.get(job_id) or self._newest[job_id] for job_id in some if job_id in self._newest]
            for job in await self._as_of_now(jobs):
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
        for watch in self._watches[job.id]:
            watch.put(job)

    def _gone(self, job_id: str) -> None:
        self._newest.pop(job_id, None)
        for watch in self._watches.get(job_id, ()):
            watch.gone(job_id)

    def _close_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.close()

    @contextmanager
    def _stream(self, owner: Owner) -> Iterator[None]:
        if self._streams.total() >= self._max_streams:
            raise Unavailable("This server has as many streams of events as it can take.")
        if self._streams[owner] >= self._max_streams_per_owner:
            raise TooManyRequests(f"You have {self._max_streams_per_owner} streams of events open already.")
        self._streams[owner] += 1
        try:
            yield
        finally:
            self._streams[owner] -= 1
            if not self._streams[owner]:
                del self._streams[owner]

    @contextmanager
    def _watched(self, jobs: Sequence[Job], last_event_id: str | None) -> Iterator[Watch]:
        watch = Watch(jobs, last_event_id)
        ids = list(watch.jobs)
        for job in jobs:
            self._watches.setdefault(job.id, set()).add(watch)
            self._newest.setdefault(job.id, job)
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
