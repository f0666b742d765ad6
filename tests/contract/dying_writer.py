"""A process that SIGKILLs itself before or after one of its fsyncs, while it writes a blob or the end of an upload, or
wraps the keys of both anew.

`python -m tests.contract.dying_writer <folder> blob|upload|rotation <point> [<key> ...]`; point 1 is before the first
fsync, 2 after it, and so on. A process that gets past the point exits with 0. With keys what it writes is encrypted.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from common.contracts.upload import UploadFacts
from services.blob.adapters.filesystem.folder import Disk
from services.blob.adapters.filesystem.upload_folder import UploadFolder
from tests.contract.test_blob_store import put
from tests.fakes.keys import master_keys
from tests.support.uploading import LONG, SHORT, WHOLE, opened

BLOB_ID = "i-killed"
UPLOAD_ID = "i-begun"
FACTS = UploadFacts(id=BLOB_ID, size=len(LONG), media_type="a/b", name="a", tenant="acme", subject="alice")


async def main(root: Path, what: str, point: int, *names: str) -> None:
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

    async with opened(root, Disk(fsync=fsync), keys=master_keys(*names)) as store:
        if what == "rotation":
            armed = True
            UploadFolder(store.store.folder).wrap_anew(UPLOAD_ID)
            store.store.folder.wrap_anew(BLOB_ID)
        elif what == "blob":
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
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
