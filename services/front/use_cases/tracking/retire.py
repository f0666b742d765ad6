"""Deletes the bytes of jobs that are final, each when its time is over, and in the end the jobs themselves."""

import asyncio

from common.errors import Conflict
from common.ids import input_blob_id, output_blob_id
from common.logging import get_logger
from services.front.domain.disposal import Due, Times, due
from services.front.domain.job import Job
from services.front.ports import Blobs, InlineStore, JobStore, RetentionStore, Runs

PAGE_SIZE = 100
AT_ONCE = 16

log = get_logger()


class Retire:
    """Any number may run: a job that is due is taken by one alone. Bytes are deleted first and that is written down
    after, so what a crash leaves is done again when the lease on it is over.
    """

    def __init__(
        self,
        jobs: JobStore,
        retention: RetentionStore,
        inline: InlineStore,
        blobs: Blobs,
        runs: Runs,
        *,
        keep_inputs: bool,
        record_seconds: float,
        hidden_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._retention = retention
        self._inline = inline
        self._blobs = blobs
        self._runs = runs
        self._keep_inputs = keep_inputs
        self._times = Times(record=record_seconds, rest=lease_seconds, hidden=hidden_seconds)
        self._lease_seconds = lease_seconds
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def __call__(self) -> int:
        """Do what is due now. Returns for how many jobs. Raises what blob or job answered when it would not delete
        something, after what it did delete was written down.
        """
        taken = 0
        while jobs := await self._retention.claim_retiring(self._lease_seconds, PAGE_SIZE):
            taken += len(jobs)
            now = await self._jobs.now()
            # Before the input's blob: who still carried the job on from here would write that blob again.
            await self._inline.delete([job.id for job in jobs])
            what = [due(job, now, self._times, keep_inputs=self._keep_inputs) for job in jobs]
            answers = await asyncio.gather(*map(self._delete, jobs, what), return_exceptions=True)
            deleted: dict[Due, list[Job]] = {}
            for job, step, answer in zip(jobs, what, answers, strict=True):
                if answer is None:
                    deleted.setdefault(step, []).append(job)
            for step, of_step in deleted.items():
                await self._write_down(step, of_step)
            if failures := [answer for answer in answers if answer is not None]:
                raise failures[0]
        return taken

    async def _delete(self, job: Job, step: Due) -> None:
        if step is Due.LATER:
            return
        blob_ids = [] if step is Due.NOTHING else [input_blob_id(job.id)]
        if step in (Due.BYTES, Due.RUN, Due.RECORD):
            blob_ids += [output_blob_id(job.id, job.fence or 0, n) for n in range(len(job.outputs))]
        async with self._slots:
            if job.upload is not None and job.sha256 is None:
                await self._blobs.abort_upload(input_blob_id(job.id))
            for blob_id in blob_ids:
                await self._blobs.delete(blob_id)
            if step in (Due.RUN, Due.RECORD):
                await self._delete_run(job.id)

    async def _delete_run(self, run_id: str) -> None:
        """One by one, as blobs are: job makes one write of those that come together."""
        try:
            await self._runs.delete(run_id)
        except Conflict:
            # It has outlived its job, so that nobody is left who wants its end.
            await self._runs.cancel(run_id)
            await self._runs.delete(run_id)

    async def _write_down(self, step: Due, jobs: list[Job]) -> None:
        if step is Due.LATER:
            return
        ids = [job.id for job in jobs]
        if step is Due.RECORD:
            await self._retention.forget(jobs)
        elif step is Due.BYTES:
            await self._retention.bytes_deleted(ids, self._times.record)
        elif step is Due.RUN:
            await self._retention.bytes_deleted(ids, self._times.hidden, deleted=True)
        else:
            await self._retention.await_expiry(ids, input_deleted=step is Due.INPUT)
        log.info("retire.done", step=step, jobs=len(jobs))
