"""One change stream for a whole process wakes all who wait for a job's end, or watch it, however many they are."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pymongo.asynchronous.collection import AsyncCollection

from common.bounded import BoundedDict
from common.mongo.client import Document, changes
from services.front.domain.job import FINAL

_FIELDS = "updateDescription.updatedFields"
_WATCHED = ("status", "phase", "cancelDueAt", "deletedAt")
_PIPELINE: list[Document] = [
    {"$match": {"$or": [{f"{_FIELDS}.{field}": {"$exists": True}} for field in _WATCHED]}},
    {"$project": {"documentKey": 1, f"{_FIELDS}.status": 1}},
]
_FINAL = {status.value for status in FINAL}
REMEMBERED_ENDS = 2048


class MongoChanges:
    """The `Changes` of front. The stream is a hint: while it is broken, those who wait look for themselves.

    `hint` is called for every change of a job's state or phase, and when it is deleted; `ended` is called for its end,
    which wakes listeners.
    """

    def __init__(self, jobs: AsyncCollection[Document]) -> None:
        self._jobs = jobs
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._just_ended: BoundedDict[str, None] = BoundedDict(REMEMBERED_ENDS)
        self.hint: Callable[[str], None] = lambda _: None
        self.ended: Callable[[str], None] = lambda _: None

    @contextmanager
    def listening(self, job_id: str) -> Iterator[asyncio.Event]:
        ended = asyncio.Event()
        if job_id in self._just_ended:
            ended.set()
        listeners = self._listeners.setdefault(job_id, set())
        listeners.add(ended)
        try:
            yield ended
        finally:
            listeners.discard(ended)
            if not listeners:
                self._listeners.pop(job_id, None)

    def wake(self, job_id: str) -> None:
        """The job has ended: those who wait for it here look at once, and not only when the stream says so."""
        self._just_ended[job_id] = None
        self.ended(job_id)
        for ended in self._listeners.get(job_id, ()):
            ended.set()

    async def follow(self) -> None:
        """Follow the stream until it breaks."""
        async for change in changes(self._jobs, _PIPELINE):
            job_id = change["documentKey"]["_id"]
            self.hint(job_id)
            if change.get("updateDescription", {}).get("updatedFields", {}).get("status") in _FINAL:
                self.wake(job_id)
