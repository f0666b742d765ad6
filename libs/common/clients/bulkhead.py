"""A bound on the calls to one service that are under way, so that a slow one doesn't hold everything its caller has."""

from types import TracebackType

from common.errors import Unavailable

# Of these as many as there are connections are at work; the others wait for one, and not for long.
MOST_CALLS = 1_000


class Bulkhead:
    """Wraps each call to `service`. Entering raises `Unavailable` at once when `most` are under way."""

    def __init__(self, service: str, most: int = MOST_CALLS) -> None:
        self._service = service
        self._free = most

    def __enter__(self) -> None:
        if self._free < 1:
            raise Unavailable(f"Too many calls to {self._service} are under way.")
        self._free -= 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._free += 1
