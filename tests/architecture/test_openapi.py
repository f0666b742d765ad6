"""The committed OpenAPI document is the one that the code gives, and the one that front serves."""

import json

import httpx

from deploy import openapi
from tests.support.applications import Application


def test_the_committed_document_is_the_generated_one() -> None:
    assert openapi.PATH.read_text(encoding="utf-8") == openapi.generated(), "run `make openapi`, and commit the change"


async def test_front_serves_the_committed_document(applications: list[Application]) -> None:
    transport = httpx.ASGITransport(applications[0].served)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        served = (await client.get("/openapi.json")).raise_for_status().json()
    assert served == json.loads(openapi.PATH.read_text(encoding="utf-8"))
