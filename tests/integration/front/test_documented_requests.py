"""The examples of the OpenAPI page run as they are, and every type of problem that front answers with has one."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.errors import all_problems
from tests.integration.front.test_openapi_fuzz import PAGE
from tests.support.platform import Platform, open_platform

BODIES = PAGE["paths"]["/api/v1/job"]["post"]["requestBody"]["content"]
# Said by blob and job to front and processors alone; and said of any address, which no operation is.
ELSEWHERE = {"forbidden", "stale-fence", "already-exists", "method-not-allowed", "internal"}


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("documented"))
    async with open_platform(mongodb_uri, folder.name, folder) as platform:
        yield platform


async def post(alice: httpx.AsyncClient, kind: str, example: Any) -> httpx.Response:
    if kind == "application/json":
        return await alice.post("/api/v1/job", json=example)
    if kind == "multipart/form-data":
        fields = {name: value for name, value in example.items() if name != "file"}
        file = (example["name"], example["file"], "text/plain")
        return await alice.post("/api/v1/job", data=fields, files={"file": file})
    return await alice.post("/api/v1/job?processor=checksum", content=example, headers={"Content-Type": kind})


@pytest.mark.parametrize("kind", [kind for kind, body in BODIES.items() if "example" in body])
async def test_an_example_of_a_body_becomes_a_job_that_completes(platform: Platform, kind: str) -> None:
    alice = platform.client()
    answer = await post(alice, kind, BODIES[kind]["example"])
    assert answer.status_code == 201, answer.text
    assert (await platform.final(alice, answer.json()["id"]))["status"] == "EXECUTION_COMPLETED"


def test_all_three_kinds_of_body_have_one() -> None:
    assert {kind for kind, body in BODIES.items() if "example" in body} == {
        "application/json",
        "multipart/form-data",
        "text/plain",
    }


async def test_the_example_of_a_batch_is_announced(platform: Platform) -> None:
    content = PAGE["paths"]["/api/v1/batch"]["post"]["requestBody"]["content"]
    answer = await platform.client().post("/api/v1/batch", json=content["application/json"]["example"])
    assert answer.status_code == 201, answer.text
    assert answer.json()["items"][0]["upload"]["method"] == "PUT"


def test_every_type_of_problem_has_an_example_where_it_is_answered() -> None:
    shown = set(re.findall(r"'type': '/problems/([\w-]+)'", str(PAGE["paths"])))
    assert shown | ELSEWHERE == {kind.slug for kind in all_problems()}
    assert not shown & ELSEWHERE


def test_every_answer_with_a_json_body_has_an_example() -> None:
    for path, of_path in PAGE["paths"].items():
        for operation in of_path.values():
            for status, answer in operation["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    assert kind == "*/*" or {"example", "examples"} & content.keys(), (path, status, kind)
