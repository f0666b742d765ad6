"""schemathesis follows the links of front's OpenAPI page from answer to request: each leads on to what it promises, in
whatever order, and no answer is one that the page does not tell of.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, GenerationMode, Response
from schemathesis.generation.stateful import APIStateMachine

from tests.integration.platform import Platform, open_platform, token
from tests.integration.serving import serving
from tests.integration.test_openapi_fuzz import CHECKS, PAGE

JOB = PAGE["paths"]["/api/v1/job"]["post"]["requestBody"]["content"]["application/json"]["example"]
BATCH = {"processor": "checksum", "files": [{"name": "a", "size": 5, "mimetype": "text/plain"}]}
# So that there is something to lead on from; all else is made up.
MADE: dict[str, Any] = {"create_job": JOB, "create_batch": BATCH}
WALKS, STEPS = 30, 8
# What only a link can have led to, since it takes the id of something that is there.
LED_TO = {
    *("get_job", "get_job_status", "get_output", "get_named_output", "cancel_job", "delete_job"),
    *("get_batch", "get_upload"),
}


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("links"))
    async with open_platform(mongodb_uri, folder.name, folder) as platform:
        yield platform


def walk(address: str) -> Counter[str]:
    """How often each operation succeeded. Blocks, so it has a thread of its own."""
    succeeded: Counter[str] = Counter()
    # A stream of events lasts as long as its job.
    schema = schemathesis.openapi.from_dict(PAGE).exclude(path_regex="/events$|^/livez|^/readyz")
    schema.config.generation.update(modes=[GenerationMode.POSITIVE])

    class Walk(schema.as_state_machine()):  # type: ignore[misc]  # a class that is made of the page
        def setup(self) -> None:
            self.session = requests.Session()

        def teardown(self) -> None:
            self.session.close()

        def before_call(self, case: Case[Any]) -> None:
            operation = case.operation.definition.raw["operationId"]
            if operation == "get_batch":
                case.query.pop("cursor", None)  # one that was made up is refused
            if made := MADE.get(operation):
                case.body, case.media_type, case.query = made, "application/json", {}
                for header in ("Content-Encoding", "Idempotency-Key", "Prefer"):
                    case.headers.pop(header, None)

        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {token()}"}
            return {"base_url": address, "session": self.session, "headers": headers, "timeout": 30}

        def validate_response(self, response: Response, case: Case[Any], **_: Any) -> None:
            case.validate_response(response, checks=CHECKS)
            if response.status_code < 300:
                succeeded[case.operation.definition.raw["operationId"]] += 1

    assert issubclass(Walk, APIStateMachine)
    hypothesis.stateful.run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=WALKS,
            stateful_step_count=STEPS,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return succeeded


async def test_every_link_leads_to_what_it_promises(platform: Platform) -> None:
    async with serving(platform.front) as address:
        succeeded = await asyncio.to_thread(walk, address)
    assert set(succeeded) >= LED_TO, succeeded
