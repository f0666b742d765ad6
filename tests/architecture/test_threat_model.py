"""docs/threat-model.md tells who may call what as the routes do."""

from collections import defaultdict

from common.web.access import Callers
from services.blob.api.access import SignedUrl
from services.front.api.access import maker, token_owner
from tests.architecture.test_access import routes_of
from tests.support.applications import Application
from tests.support.pages import page, rows, section

Table = dict[tuple[str, str], set[str]]


def may_call(applications: list[Application]) -> Table:
    """The routes by who may call and where; what is open to anybody tells nothing of anybody's."""
    table: Table = defaultdict(set)
    for application in applications:
        name = application.service
        for route in routes_of(application.routes):
            call = f"{route.method} {route.path}"
            for policy in route.policies:
                if isinstance(policy, Callers):
                    for caller in policy.names:
                        table[caller, name].add(call)
                elif policy in (maker, token_owner):
                    table["a user", name].add(call)
                elif isinstance(policy, SignedUrl):
                    table["who has a signed URL", name].add(call)
    return table


async def test_the_table_of_calls_is_that_of_the_routes(applications: list[Application]) -> None:
    told = {
        (caller, service): {call.strip("` ") for call in calls.split(",")}
        for caller, service, calls in rows(section(page("docs/threat-model.md"), "## What each service may call"))
    }
    assert told == dict(may_call(applications))
