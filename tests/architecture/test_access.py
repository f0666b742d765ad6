"""Who may call what: every route of every application has exactly one policy, and the served application keeps it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from common.web.access import Callers, callers, public
from common.web.fast import FastRoute
from services.blob.api.access import SignedUrl
from services.front.api.access import maker, token_owner
from tests.fakes.keys import CALLERS, signer
from tests.support.applications import Application

# The page about the API, which tells nothing of anybody's. Only front has one.
DOCUMENTATION = {"/docs", "/docs/oauth2-redirect", "/openapi.json", "/static/docs"}
AUDIENCES = {"front-internal": "front", "blob": "blob", "job": "job"}


@dataclass(frozen=True)
class Route:
    """One method at one path, and the policies that stand before it."""

    method: str
    path: str
    policies: tuple[Any, ...]

    @property
    def address(self) -> str:
        """A path that the route matches."""
        return self.path.replace("{", "").replace("}", "")


def routes_of(app: FastAPI) -> Iterator[Route]:
    for route in iter_route_contexts(app.routes):
        endpoint = getattr(route, "endpoint", None)
        found = [endpoint.policy] if isinstance(endpoint, FastRoute) else policies_of(getattr(route, "dependant", None))
        policies = tuple(found)
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            yield Route(method, route.path or "", policies)


def policies_of(dependant: Dependant | None) -> Iterator[Any]:
    for dependency in dependant.dependencies if dependant else ():
        if dependency.call in (public, token_owner, maker) or isinstance(dependency.call, Callers | SignedUrl):
            yield dependency.call
        yield from policies_of(dependency)


def without_policy(app: FastAPI) -> set[str]:
    return {route.path for route in routes_of(app) if len(set(route.policies)) != 1}


async def test_every_route_has_exactly_one_policy(applications: list[Application]) -> None:
    found = {application.name: without_policy(application.routes) for application in applications}
    assert found == {"front": DOCUMENTATION, "front-internal": set(), "blob": set(), "blob-data": set(), "job": set()}


async def test_the_walk_sees_the_routes_that_there_are(applications: list[Application]) -> None:
    seen = {application.name: {route.path for route in routes_of(application.routes)} for application in applications}
    assert {"/api/v1/job", "/api/v1/job/{job_id}/output/{output_name}", "/api/v1/processor", "/livez"} <= seen["front"]
    assert seen["front-internal"] == {"/internal/run", "/metrics"}
    assert {"/api/v1/blob/{blob_id}", "/api/v1/upload", "/readyz"} <= seen["blob"]
    assert seen["blob-data"] == {"/data/{token}", "/data/{token}/{part}", "/livez", "/readyz"}
    assert {"/api/v1/claim", "/api/v1/run/{id}/complete", "/readyz", "/metrics"} <= seen["job"]


def test_a_route_without_a_policy_is_found_however_deep_it_is() -> None:
    bare, inner, app = APIRouter(), APIRouter(prefix="/inner"), FastAPI(openapi_url=None)

    @bare.get("/bare")
    async def forgotten() -> None: ...

    @bare.get("/twice", dependencies=[Depends(public), Depends(callers("front"))])
    async def contradictory() -> None: ...

    @bare.get("/fine", dependencies=[Depends(public)])
    async def fine() -> None: ...

    inner.include_router(bare)
    app.include_router(inner)
    assert without_policy(app) == {"/inner/bare", "/inner/twice"}


async def test_only_front_lists_and_deletes_blobs_and_only_job_reports(applications: list[Application]) -> None:
    policies = {
        (application.name, route.method, route.path): route.policies[0].names
        for application in applications
        for route in routes_of(application.routes)
        if route.policies and isinstance(route.policies[0], Callers)
    }
    assert policies["blob", "GET", "/api/v1/blob"] == {"front"}
    assert policies["blob", "DELETE", "/api/v1/blob/{blob_id}"] == {"front"}
    assert {names for (_, _, path), names in policies.items() if path.startswith("/api/v1/upload")} == {
        frozenset({"front"})
    }
    assert policies["front-internal", "POST", "/internal/run"] == {"job"}
    assert {names for (_, _, path), names in policies.items() if path.startswith("/api/v1/run/")} == {
        frozenset({"processor"})
    }


async def answer(application: Application, route: Route, token: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(application.served, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        return (await client.request(route.method, route.address)).status_code


async def test_without_a_token_only_the_public_routes_answer(applications: list[Application]) -> None:
    for application in applications:
        for route in routes_of(application.routes):
            if route.path not in DOCUMENTATION:
                status = await answer(application, route)
                # Nothing but a signature lets anybody in there, and this address has none.
                signed = isinstance(route.policies[0], SignedUrl)
                assert (status == 403) == signed, (application.name, route, status)
                assert (status == 401) == (public not in route.policies and not signed), (
                    application.name,
                    route,
                    status,
                )


async def test_a_callers_token_is_no_signature(applications: list[Application]) -> None:
    (blob,) = (application for application in applications if application.name == "blob-data")
    signed = [route for route in routes_of(blob.routes) if isinstance(route.policies[0], SignedUrl)]
    assert {route.path for route in signed} == {"/data/{token}", "/data/{token}/{part}"}
    for route in signed:
        assert await answer(blob, route, signer("front").token("blob")) == 403


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_service_is_refused_where_it_is_not_named(applications: list[Application], caller: str) -> None:
    for application in applications:
        for route in routes_of(application.routes):
            if route.policies and isinstance(route.policies[0], Callers) and caller not in route.policies[0].names:
                token = signer(caller).token(AUDIENCES[application.name])
                assert await answer(application, route, token) == 403, (application.name, route)
