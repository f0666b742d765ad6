"""The containers of docs/diagrams.md are the processes, and their arrows those whom the routes let in."""

import re
from collections.abc import Iterator

from common.web.access import Callers
from services.blob.api.access import SignedUrl
from services.front.api.access import token_owner
from tests.architecture.test_access import routes_of
from tests.support.applications import Application
from tests.support.pages import ROOT, code_blocks, page, section

(CONTAINERS,) = code_blocks(section(page("docs/diagrams.md"), "## Containers"), "mermaid")
RELATION = re.compile(r"^\s*Rel\((\w+), (\w+),", re.MULTILINE)
PROCESS = re.compile(r"^\s*Container\((\w+),", re.MULTILINE)
# What has no routes of ours.
STATE = {"mongodb", "store"}


def let_in(applications: list[Application]) -> Iterator[tuple[str, str]]:
    for application in applications:
        name = application.service
        for route in routes_of(application.routes):
            for policy in route.policies:
                if isinstance(policy, Callers):
                    yield from ((caller, name) for caller in policy.names)
                elif isinstance(policy, SignedUrl) or policy is token_owner:
                    yield "client", name


def test_the_containers_are_the_processes() -> None:
    processes = re.findall(r"^(\w+):", (ROOT / "Procfile").read_text(), flags=re.MULTILINE)
    assert sorted(PROCESS.findall(CONTAINERS)) == sorted(processes)


async def test_the_arrows_are_those_whom_the_routes_let_in(applications: list[Application]) -> None:
    drawn = {(source, target) for source, target in RELATION.findall(CONTAINERS) if target not in STATE}
    # The tracker is front without a port: it calls with front's key.
    assert {edge for edge in drawn if edge[0] == "tracker"} == {
        ("tracker", target) for source, target in drawn if source == "front"
    }
    assert {edge for edge in drawn if edge[0] != "tracker"} == set(let_in(applications))
