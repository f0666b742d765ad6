"""`SUBMITTED` is written a moment after job has the run. Most runs have ended by then, and their end says both in one
write.

What a process hasn't written when it ends or dies is the tracker's: the job's lease lapses, the run is submitted again
under the same id, and then `SUBMITTED` is written at once.
"""

import asyncio

from services.front.use_cases.advance import Advance

MOMENT_SECONDS = 1.0


class LateSubmitted:
    """The jobs of this process whose runs job has, and whose `SUBMITTED` isn't written yet."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._young: set[str] = set()
        self._old: set[str] = set()

    def add(self, job_id: str) -> None:
        self._young.add(job_id)

    def ended(self, job_id: str) -> None:
        """The job is final: there is nothing left to write."""
        self._young.discard(job_id)
        self._old.discard(job_id)

    async def write(self) -> None:
        """Write those that were there at the last call, so that each has had from one pause between calls to two."""
        due, self._old, self._young = self._old, self._young, set()
        await asyncio.gather(*map(self._advance.submitted, due))
