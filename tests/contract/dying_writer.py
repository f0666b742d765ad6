"""A process that SIGKILLs itself before or after one of its fsyncs, while it writes a blob or the end of an upload.

`python -m tests.contract.dying_writer <folder> blob|upload <point>`; point 1 is before the first fsync, 2 after it, and
so on. A process that gets past the point exits with 0.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from common.contracts.upload import UploadFacts
from services.blob.adapters.filesystem.folder import Disk
from tests.contract.test_blob_store import put
from tests.support.uploading import LONG, SHORT, WHOLE, opened

BLOB_ID = "i-killed"
FACTS = UploadFacts(id=BLOB_ID, size=len(LONG), media_type="a/b", name="a", tenant="acme", subject="alice")


async def main(root: Path, what: str, point: int) -> None:
    armed, events = False, 0

    def event() -> None:
        nonlocal events
        events += armed
        if events == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def fsync(fd: int) -> None:
        event()
        os.fsync(fd)
        event()

    async with opened(root, Disk(fsync=fsync)) as store:
        if what == "blob":
            armed = True
            await put(store.store, BLOB_ID, SHORT)
        else:
            await store.plan(FACTS)
            for number in WHOLE[:-1]:
                await store.send(FACTS, number)
            armed = True
            await store.send(FACTS, WHOLE[-1])
            await store.completed(FACTS)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
