"""What a process says to MongoDB, written down as it is answered."""

from dataclasses import dataclass
from typing import Any

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent


@dataclass(frozen=True, slots=True)
class Command:
    """One command, and what came of it."""

    name: str
    collection: str
    """What it is about; empty for one that names no collection."""
    journaled: bool
    """Whether its response waits for the journal."""
    in_vain: bool
    """Whether it found nothing: as a poll does while there is nothing to do."""


class Commands(CommandListener):
    """All that a client has said, in the order of the responses."""

    def __init__(self) -> None:
        self.said: list[Command] = []
        self._under_way: dict[int, tuple[str, bool]] = {}

    def started(self, event: CommandStartedEvent) -> None:
        collection = event.command.get("collection", event.command[event.command_name])
        journaled = bool(event.command.get("writeConcern", {}).get("j"))
        self._under_way[event.request_id] = (collection if isinstance(collection, str) else "", journaled)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self._ended(event, in_vain=_found_nothing(event.reply))

    def failed(self, event: CommandFailedEvent) -> None:
        self._ended(event, in_vain=False)

    def _ended(self, event: CommandSucceededEvent | CommandFailedEvent, *, in_vain: bool) -> None:
        collection, journaled = self._under_way.pop(event.request_id)
        self.said.append(Command(event.command_name, collection, journaled, in_vain))


def _found_nothing(reply: Any) -> bool:
    if "cursor" in reply:
        return not (reply["cursor"].get("firstBatch") or reply["cursor"].get("nextBatch"))
    if "value" in reply:  # of a findAndModify
        return reply["value"] is None
    return bool(reply.get("n") == 0)
