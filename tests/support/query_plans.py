"""The queries that a client sends, recorded as they are sent and then explained, so that what is tested can't drift
from the code."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from common.mongo.client import Document

QUERIES = ("find", "aggregate", "update", "delete", "findAndModify")
# Of the session, and of how sure a response has to be: `explain` takes neither.
NOT_EXPLAINED = ("lsid", "$db", "$clusterTime", "readConcern", "writeConcern", "txnNumber")


class Recorder(CommandListener):
    """Keeps the queries that a client sends."""

    def __init__(self) -> None:
        self.commands: list[Document] = []
        self.journaled: list[Document] = []
        """Those among them whose responses wait for the journal."""

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in QUERIES:
            command = {key: event.command[key] for key in event.command if key not in NOT_EXPLAINED}
            self.commands.append(command)
            if event.command.get("writeConcern", {}).get("j"):
                self.journaled.append(command)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only what is sent matters."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Only what is sent matters."""


@asynccontextmanager
async def recorded(mongodb_uri: str) -> AsyncIterator[tuple[AsyncMongoClient[Document], Recorder]]:
    """A client whose queries are recorded."""
    recorder = Recorder()
    async with AsyncMongoClient[Document](
        mongodb_uri, event_listeners=[recorder], tz_aware=True, w="majority", journal=True
    ) as client:
        yield client, recorder


async def explained(client: AsyncMongoClient[Document], database: str, command: Document) -> Document:
    """How a command is carried out, and what it reads; it is carried out for that, but changes nothing."""
    return dict(await client[database].command("explain", command, verbosity="executionStats"))


def one_by_one(commands: Sequence[Document]) -> Iterator[Document]:
    """A command of many statements as commands of one each, which is what can be explained."""
    for command in commands:
        many = next((name for name in ("updates", "deletes") if name in command), None)
        for statement in command[many] if many else [None]:
            yield {**command, many: [statement]} if many else command


def found(name: str, part: object) -> Iterator[Any]:
    """Every value of this name, however deep."""
    if isinstance(part, dict):
        if name in part:
            yield part[name]
        for value in part.values():
            yield from found(name, value)
    elif isinstance(part, list):
        for value in part:
            yield from found(name, value)


def stages(plan: Document) -> set[str]:
    """Those of the plans that are used, of the branches of a union as well."""
    return set(found("stage", [*found("winningPlan", plan)]))
