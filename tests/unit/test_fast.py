"""A call between services answers with a problem document whatever goes wrong."""

import json
from typing import Any

import httpx
from fastapi import FastAPI

from common.web.access import callers
from common.web.fast import CallContext, add_calls, call
from gristmill.wire.base import Wire
from tests.fakes.keys import signer, verifier


class Word(Wire):
    word: str


async def asked(handle: Any, content: bytes = b'{"word":"a"}') -> httpx.Response:
    app = FastAPI()
    app.state.verifier = verifier("job")
    served = add_calls(app, [call("/api/v1/word", callers("front"), Word, handle)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://job") as http:
        headers = {"Authorization": f"Bearer {signer('front').token('job')}"}
        return await http.post("/api/v1/word", content=content, headers=headers)


async def test_the_answer_is_what_the_handler_gives() -> None:
    async def echo(context: CallContext[Word]) -> tuple[int, Wire]:
        return 201, context.body

    answer = await asked(echo)
    assert (answer.status_code, answer.json(), answer.headers["content-type"]) == (
        201,
        {"word": "a"},
        "application/json",
    )


async def test_an_answer_without_a_body_has_neither_a_type_nor_a_length() -> None:
    async def nothing(_: CallContext[Word]) -> tuple[int, None]:
        return 204, None

    answer = await asked(nothing)
    assert (answer.status_code, answer.content, dict(answer.headers)) == (204, b"", {})


async def test_an_answer_that_cannot_be_written_is_our_fault_and_a_problem() -> None:
    async def broken(_: CallContext[Word]) -> tuple[int, Wire]:
        return 200, Word.model_construct(word="\ud800")

    answer = await asked(broken)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert json.loads(answer.content)["type"] == "/problems/internal"
