"""`python -m common.probe TARGET`: ends with 0 if a process is well, for the health checks of containers.

TARGET is the URL of a health route, or the file that a process without a port touches (`common.alive`). Only the
standard library is imported, and little of it: a probe runs every few seconds, beside the work.
"""

import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

ANSWER_SECONDS = 4
LATEST_BEAT_SECONDS = 30


def fault_of(target: str) -> str:
    """What is wrong, in one sentence; nothing if all is well."""
    return _fault_of_route(target) if target.startswith("http://") else _fault_of_file(Path(target))


def _fault_of_route(url: str) -> str:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", parts.path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"{url} doesn't answer: {error!r}."
    finally:
        connection.close()
    return "" if status == 200 else f"{url} answers {status}."


def _fault_of_file(file: Path) -> str:
    try:
        age = time.time() - file.stat().st_mtime
    except OSError as error:
        return f"The process hasn't touched {file}: {error.strerror}."
    return "" if age <= LATEST_BEAT_SECONDS else f"The process touched {file} {age:.0f} s ago."


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"{__doc__}")
    sys.exit(fault_of(sys.argv[1]) or None)
