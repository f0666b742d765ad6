"""schemathesis takes front's OpenAPI page at its word: whatever the page allows or forbids, no response is a 5xx, and
none is one that it does not have. Each refusal is in words for users.
"""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import schemathesis.specs.openapi.schemas  # which it would import in a thread, and Python 3.11 parses in one at a time
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.marks import long
from tests.support.platform import Platform, open_platform, token
from tests.support.serving import serving

# The services, which run in this process, draw numbers meanwhile, and Hypothesis takes that for a strategy's doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
Operation = APIOperation[Any, Any, Any, Any]
# Of the libraries behind the page, whose words mean nothing to its users.
FOREIGN_WORDS = re.compile(
    r"Input should|String should|should match pattern|Extra inputs|Field required|is a required property|"
    r"is not valid under|does not match|Value error|ValidationError|Traceback"
)


def in_words_for_users(_context: Any, response: Any, _case: Any) -> None:
    """A refusal has no phrase of pydantic or of a checker of JSON Schema in it."""
    if response.status_code >= 400 and (found := FOREIGN_WORDS.search(response.text)):
        raise AssertionError(f"A problem says {found[0]!r}.")


CHECKS: list[Any] = [
    not_a_server_error,
    in_words_for_users,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# The same requests in each run: a fault that is found is found again.
FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
FEW, MANY = 3, 30
# The committed page, which tests/architecture holds to the code.
PAGE: dict[str, Any] = json.loads((Path(__file__).parents[3] / "docs/openapi/front.json").read_text())
ROUTES = [
    pytest.param(method, path, mode, id=f"{mode.value} {method.upper()} {path}")
    # What deletes comes last, since all routes share one job.
    for path, method, operation in sorted(
        ((path, method, operation) for path, of_path in PAGE["paths"].items() for method, operation in of_path.items()),
        key=lambda route: route[1] == "delete",
    )
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    # Where there is nothing to say, nothing wrong can be said.
    if mode is GenerationMode.POSITIVE or "parameters" in operation or "requestBody" in operation
]


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("fuzz"))
    async with open_platform(mongodb_uri, folder.name, folder) as platform:
        yield platform


@pytest.fixture(scope="module")
async def address(platform: Platform) -> AsyncIterator[str]:
    async with serving(platform.front) as url:
        yield url


@pytest.fixture(scope="module")
def schema() -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_dict(PAGE)


@pytest.fixture(scope="module")
async def job(platform: Platform) -> dict[str, str]:
    """The path parameters of a job that is there, and done. It has a picture for its output, since schemathesis reads
    a JSON file for a JSON answer, which is to be a string.
    """
    alice, picture = platform.client(), io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    created = await alice.post(
        "/api/v1/job?processor=image-variants", content=picture.getvalue(), headers={"Content-Type": "image/png"}
    )
    final = await platform.final(alice, created.json()["id"])
    return {"job_id": final["id"], "output_name": final["outputs"][0]["name"]}


def fuzz(operation: Operation, mode: GenerationMode, address: str, known: dict[str, str], examples: int) -> set[int]:
    """The statuses that were seen. Blocks, so it has a thread of its own."""
    seen = set()
    with requests.Session() as session:

        @settings(FUZZ, max_examples=examples)
        @given(operation.as_strategy(mode, path_parameters=known or None))
        def ask(case: Case[Any]) -> None:
            answer = case.call_and_validate(
                base_url=address,
                session=session,
                headers={"Authorization": f"Bearer {token()}"},
                checks=CHECKS,
                timeout=30,
            )
            seen.add(answer.status_code)

        ask()
    return seen


@pytest.mark.parametrize("examples", [FEW, *long(MANY)])
@pytest.mark.parametrize(("method", "path", "mode"), ROUTES)
async def test_every_response_is_one_that_the_page_has(
    schema: schemathesis.BaseSchema,
    address: str,
    job: dict[str, str],
    method: str,
    path: str,
    mode: GenerationMode,
    examples: int,
) -> None:
    operation = schema[path][method.upper()]
    seen = await asyncio.to_thread(fuzz, operation, mode, address, {}, examples)
    names = [name for name in job if f"{{{name}}}" in path]
    if names and mode is GenerationMode.POSITIVE:
        seen |= await asyncio.to_thread(fuzz, operation, mode, address, {name: job[name] for name in names}, examples)
        assert seen - {404}
    assert seen
