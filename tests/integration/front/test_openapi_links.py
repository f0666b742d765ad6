"""schemathesis follows the links of front's OpenAPI page from answer to request: each leads on to what it promises, in
whatever order, and no response is one that the page does not tell of.
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

from tests.integration.front.test_openapi_fuzz import CHECKS, PAGE, pytestmark
from tests.support.platform import Platform, open_platform, token
from tests.support.serving import serving

__all__ = ["pytestmark"]  # which pytest looks for here as well
JOB = PAGE["paths"]["/api/v1/job"]["post"]["requestBody"]["content"]["application/json"]["example"]
BATCH = {"processor": "checksum", "files": [{"name": "a", "size": 5, "mimetype": "text/plain"}]}
# So that there is something to lead on from; all else is made up.
MADE: dict[str, Any] = {"create_job": JOB, "create_batch": BATCH}
WALKS, STEPS = 15, 8


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


async def test_no_walk_along_the_links_meets_what_the_page_does_not_tell_of(platform: Platform) -> None:
    async with serving(platform.front) as address:
        succeeded = await asyncio.to_thread(walk, address)
    assert succeeded["create_job"] > 0
    assert succeeded["get_job"] + succeeded["get_job_status"] > 0, "ids that are there are known by links alone"


def resolved(expression: str, path: dict[str, str], body: Any) -> str:
    """What a runtime expression (OpenAPI 3.1, section 4.8.20.4) stands for in a response and its request."""
    where, _, pointer = expression.partition("#/")
    if where == "$response.body":
        for step in pointer.split("/"):
            body = body[int(step) if step.isdigit() else step]
        return str(body)
    return path[expression.removeprefix("$request.path.")]


@pytest.fixture
async def begun(platform: Platform) -> dict[str, dict[str, str]]:
    """The path parameters of what each operation is asked about first: a job that is done, and a batch that isn't."""
    alice = platform.client()
    done = await alice.post("/api/v1/job", json=JOB, headers={"Prefer": "wait=20"})
    batch = (await alice.post("/api/v1/batch", json=BATCH)).json()
    job, upload = {"job_id": done.json()["id"]}, {"job_id": batch["items"][0]["id"]}
    of_jobs = dict.fromkeys(("get_job", "get_job_status", "cancel_job"), job)
    return {**of_jobs, "get_batch": {"batch_id": batch["id"]}, "get_upload": upload}


OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, of_path in PAGE["paths"].items()
    for method, operation in of_path.items()
}
FOLLOWED = [
    pytest.param(name, link, id=f"{name} to {target}")
    for name, (_, _, operation) in OPERATIONS.items()
    for status, answer in operation["responses"].items()
    for target, link in answer.get("links", {}).items()
    # 202 has the links of 200; an upload can't be completed without its file, and a stream is for a test of its own.
    if status != "202" and name != "complete_upload" and not target.startswith("watch_")
]


@pytest.mark.parametrize(("name", "link"), FOLLOWED)
async def test_a_link_leads_to_what_it_promises(
    platform: Platform, begun: dict[str, dict[str, str]], name: str, link: dict[str, Any]
) -> None:
    alice = platform.client()
    method, path, _ = OPERATIONS[name]
    parameters = begun.get(name, {})
    query = {"limit": "1"} if name == "list_jobs" else {}
    answer = await alice.request(method, path.format(**parameters), json=MADE.get(name), params=query)
    assert answer.is_success, answer.text
    values = {key: resolved(value, parameters, answer.json()) for key, value in link["parameters"].items()}
    method, path, _ = OPERATIONS[link["operationId"]]
    followed = await alice.request(method, path.format(**values), params=dict(values) if "cursor" in values else {})
    # A job that was made just now has no output yet, and a file that was announced hasn't come.
    early = {"get_output": "result-not-ready", "complete_upload": "conflict"}.get(link["operationId"])
    assert followed.is_success or followed.json()["type"] == f"/problems/{early}", followed.text
