"""What is looked at before anything is started, so that a fault is one sentence and not a log."""

import fcntl
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

NEEDED_BYTES = 1024**3


class CheckError(Exception):
    """Nothing can be started; the message says what to do."""


def check_ports(ports: Mapping[str, tuple[str, int]]) -> None:
    """`ports` gives each setting's address. Raises `CheckError` when one is taken, or named twice."""
    seen: dict[int, str] = {}
    for setting, (host, port) in ports.items():
        if port in seen:
            raise CheckError(f"{seen[port]} and {setting} are both {port}: give one of them another port.")
        seen[port] = setting
        if not is_free(host, port):
            raise CheckError(f"Port {port} ({setting}) is taken: stop what listens there, or set {setting} to another.")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen at this address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the servers do: a port that only has old connections in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def check_room(data: Path, needed_bytes: int = NEEDED_BYTES) -> None:
    """Make the folder of the data. Raises `CheckError` when it can't be made or its volume is nearly full."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(data).free
    except OSError as error:
        raise CheckError(f"{data} can't hold the data ({error}): set GRISTMILL_DATA to another folder.") from None
    if free < needed_bytes:
        raise CheckError(
            f"There is no room: {free / 1e9:.1f} GB are free at {data}, and {needed_bytes / 1e9:.1f} GB are needed; "
            "free some, or set GRISTMILL_DATA to a folder elsewhere."
        )


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the data for this runner. Raises `CheckError` while another does; a dead one holds nothing."""
    with (data / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckError(
                f"Gristmill runs already with the data in {data}: stop it, or set GRISTMILL_DATA to another folder."
            ) from None
        yield
