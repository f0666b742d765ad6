"""Whatever a form looks like, it is refused by a problem that the docs explain, or its file becomes a job under a
harmless name.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import Invalid
from services.front.domain import names
from tests.support.manual_processor import offer_checksum
from tests.support.marks import long
from tests.support.platform import Platform, open_platform, token
from tests.support.serving import serving

# The services, which run in this process, draw numbers meanwhile, and Hypothesis takes that for a strategy's doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
BOUNDARY = b"a-boundary"
REFUSALS = {400: ("malformed",), 413: ("too-large",), 415: ("unsupported-media-type",), 422: ("invalid",)}
# What stands between quotes in a header: no control characters, which end it, and no quotes or backslashes unescaped.
QUOTED = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters='"\\'), max_size=40)
FIELDS = st.sampled_from(["processor", "algorithm", "name", "owner", "file", "", "a/b~c", "$where"])
CONTENT = st.binary(max_size=200) | st.sampled_from([b"checksum", b"sha256", b"hello"])
PARTS = st.lists(st.tuples(FIELDS | QUOTED, st.none() | QUOTED, CONTENT), max_size=5)


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("forms"))
    async with open_platform(mongodb_uri, folder.name, folder, processor=False) as platform:
        await offer_checksum(platform)
        yield platform


@pytest.fixture(scope="module")
async def address(platform: Platform) -> AsyncIterator[str]:
    async with serving(platform.front) as url:
        yield url


def form(parts: Sequence[tuple[str, str | None, bytes]]) -> bytes:
    """A form; what has a file name is a plain text."""
    body = b""
    for name, filename, content in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        if filename is not None:
            head += f'; filename="{filename}"\r\nContent-Type: text/plain'
        body += b"--" + BOUNDARY + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--" + BOUNDARY + b"--\r\n"


def post(http: httpx.Client, body: bytes) -> httpx.Response:
    """The response, once it is known to be one that a form may get."""
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    answer = http.post("/api/v1/job", content=body, headers=headers)
    if answer.status_code != 201:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        slug = answer.json()["type"].removeprefix("/problems/")
        assert slug in REFUSALS.get(answer.status_code, ()), answer.text
    return answer


def label(filename: str) -> str | None:
    """What a file of this name is called; None when it is refused."""
    try:
        return names.clean(filename)
    except Invalid:
        return None


def ask_all(address: str, examples: int) -> set[int]:
    """The statuses that were seen for so many examples of each kind. Blocks, so it has a thread of its own."""
    seen: set[int] = set()
    with httpx.Client(
        base_url=address, headers={"Authorization": f"Bearer {token()}"}, timeout=30, trust_env=False
    ) as http:

        @settings(max_examples=examples)
        @given(PARTS)
        def any_form(parts: list[tuple[str, str | None, bytes]]) -> None:
            seen.add(post(http, form(parts)).status_code)

        @settings(max_examples=examples)
        @given(QUOTED)
        def any_name(filename: str) -> None:
            answer = post(http, form([("processor", None, b"checksum"), ("file", filename, b"hello")]))
            seen.add(answer.status_code)
            if answer.is_success:
                assert answer.headers["location"] == f"/api/v1/job/{answer.json()['id']}"
                assert http.get(answer.headers["location"]).json()["name"] == label(filename)
            else:
                assert (answer.status_code, label(filename)) == (422, None)

        @settings(max_examples=examples)
        @given(st.data())
        def any_damage(data: st.DataObject) -> None:
            body = bytearray(form([("processor", None, b"checksum"), ("file", "a.txt", b"hello")]))
            start = data.draw(st.integers(0, len(body)))
            body[start : start + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
            seen.add(post(http, bytes(body)).status_code)

        any_form()
        any_name()
        any_damage()
    return seen


@pytest.mark.parametrize("examples", [25, *long(100)])
async def test_whatever_the_form_its_response_is_one_that_the_docs_explain(address: str, examples: int) -> None:
    assert await asyncio.to_thread(ask_all, address, examples) >= {201, 400, 422}
