"""A batch that starts whole or not at all starts no file when another has failed, whenever that is found."""

from common.ids import new_id
from services.front.domain.batch import NewBatch
from services.front.domain.job import JobError, NewJob, NewUpload, Owner, Status, Transition
from services.front.domain.listing import JobPage
from services.front.use_cases.advance import Advance
from services.front.use_cases.tracking.uploads import TrackUploads
from services.front.use_cases.upload import Uploads
from tests.fakes.front_ports import MemoryBlobs, MemoryRuns
from tests.fakes.job_store import Clock, MemoryBatchStore, MemoryInlineStore, MemoryJobStore

ALICE = Owner("acme", "alice")
A_WEEK = 604_800.0


class ComesJustNow(MemoryBatchStore):
    """Once: right after the jobs were read, the file of one of them is there."""

    job_id: str | None = None

    def __init__(self, jobs: MemoryJobStore) -> None:
        super().__init__(jobs)
        self._jobs = jobs

    async def batch_jobs(self, batch_id: str, after: str, limit: int, *, deleted: bool = False) -> JobPage:
        found = await super().batch_jobs(batch_id, after, limit, deleted=deleted)
        if self.job_id is not None:
            await self._jobs.apply(self.job_id, Transition.stored(1, "ab" * 32))
            self.job_id = None
        return found


async def test_a_file_that_comes_while_the_others_are_failed_is_failed_too() -> None:
    clock = Clock()
    jobs, inline, blobs, runs = MemoryJobStore(clock), MemoryInlineStore(clock), MemoryBlobs(), MemoryRuns()
    batches, advance = ComesJustNow(jobs), Advance(jobs, inline, blobs, runs, lease_seconds=15, ask_seconds=60)
    uploads = Uploads(jobs, batches, blobs, advance, most_seconds=A_WEEK, lease_seconds=15)
    track = TrackUploads(jobs, batches, blobs, advance, uploads, grace_seconds=0)
    batch = NewBatch(new_id(), ALICE, "n", "checksum", held=True)
    files = [NewJob(new_id(), ALICE, "n", "text/plain", 1, "checksum", {}) for _ in range(2)]
    await batches.insert_uploads([NewUpload(file, batch.id, None, A_WEEK, 1e6, held=True) for file in files])
    await batches.insert_batch(batch)
    wrong, late = (file.id for file in files)
    await jobs.apply(wrong, Transition.not_stored(JobError("upload-mismatch", "It is another file.")))
    batches.job_id = late

    await track()
    assert (await jobs.find_many([late]))[late].held, "nothing is started that can't be whole"
    clock.forward(2)  # when the batch has its turn again
    await track()
    assert (await jobs.find_many([late]))[late].status is Status.SUBMITTED_ERROR
    assert not runs.submitted
