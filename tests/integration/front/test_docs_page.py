"""The docs page works without internet, and every problem type leads to a page."""

import re

import httpx
import pytest

from common.errors import all_problems
from common.failures import FAILURES
from common.web.serve import Readiness
from services.front.app import public_app


async def is_well() -> None:
    """Nothing is behind these pages."""


@pytest.fixture
async def client() -> httpx.AsyncClient:
    app = public_app(Readiness(), is_well)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://front")


async def test_the_docs_page_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    parts = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert len(parts) >= 2
    assert "openapi.json" in page
    assert not re.search(r"https?://", page)
    for part in parts:
        answer = await client.get(part)
        assert answer.status_code == 200, part
        assert len(answer.content) > 1000


@pytest.mark.parametrize("slug", sorted({kind.slug for kind in all_problems()} | set(FAILURES)))
async def test_every_problem_type_is_an_address_that_explains_it(client: httpx.AsyncClient, slug: str) -> None:
    answer = await client.get(f"/problems/{slug}")
    assert answer.status_code == 200
    assert f"/problems/{slug}" in answer.text
    assert f'id="{slug}"' in (await client.get("/problems")).text
