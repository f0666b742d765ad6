"""Named moments at which a process can be made to die, so that a test can kill it just there.

`CRASH_AT` names the moment, and `CRASH_MARK` a file: who dies makes it first, and while it is there nobody dies any
more. So of all processes that come by just one is killed, and once, and the test can see that it was. Without
`CRASH_AT` nothing happens; there is no other reason to set it. The moments:

- `front.writing`: the bytes are where the job's input is looked for, in blob or `inline`, and the job isn't written.
- `front.written`: the job is written, and its client doesn't know.
- `front.submitted`: job has the run, and the job is still `STORED`.
- `blob.written`: all bytes are in the staging file, which is neither on disk yet nor named.
- `blob.synced`: they are on disk, and still have no name.
- `blob.named`: the blob has its name, which may not be on disk yet.
- `job.claimed`: a run is claimed, and the processor doesn't know.
- `processor.working`: the input is there, and the work begins.
- `processor.uploaded`: the outputs are in blob, and job doesn't know.
- `processor.completed`: job has taken the outputs, and the processor hasn't acted upon its response.
"""

import os
import signal
from pathlib import Path

_AT = os.environ.get("CRASH_AT")


def crash_at(moment: str) -> None:
    """Kill this process by SIGKILL if it is the one that `CRASH_AT` is meant for."""
    if moment != _AT:
        return
    try:
        Path(os.environ["CRASH_MARK"]).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
