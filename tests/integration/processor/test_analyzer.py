"""The processor `analyzer` in real child processes, with containers that do what they shouldn't."""

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from deploy.local.mongod import free_port
from services.processor.processors.analyzer import Analyzer, AnalyzerConfiguration
from tests.fakes.container import Answer, Call, answer, container, drip, endless, hang, raw, refuse_early, zeros
from tests.support.one_processor import OneProcessor, one_processor

MIB = 2**20
OK = "HTTP/1.1 200 OK\r\n"
LATE = "The analyzer took longer than it may."
CUT = "The analyzer didn't respond, or not to its end."
TOO_LONG = "The analyzer's response is longer than an output may be."


def analyzing(url: str, folder: Path, **changes: Any) -> AbstractAsyncContextManager[OneProcessor]:
    settings = {name: changes.pop(name) for name in ("memory_bytes", "output_bytes") if name in changes}
    configuration = AnalyzerConfiguration(**{"url": url, "timeout_seconds": 20, **changes})
    return one_processor(Analyzer(configuration), folder, **settings)


async def test_a_container_gets_the_file_and_its_answer_is_the_output(tmp_path: Path) -> None:
    async with (
        container(answer("200 OK", '{"pages": 3}', "Content-Type: application/json; charset=utf-8")) as it,
        analyzing(it.url, tmp_path) as processor,
    ):
        (output,) = await processor.run(b"hello", name="Zoë's “photo”.txt", languages=["en", "日本語"], deep=True)
    (call,) = it.calls
    assert call.line == "POST / HTTP/1.1"
    assert call.body == b"hello"
    assert call.headers["content-type"] == "text/plain"
    assert call.headers["content-length"] == "5"
    assert call.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''Zo%C3%AB%27s%20%E2%80%9Cphoto%E2%80%9D.txt"
    )
    assert json.loads(call.headers["gristmill-params"]) == {"languages": ["en", "日本語"], "deep": True}
    # Nothing else of ours, and above all no token, goes to somebody else's code.
    told = {"content-type", "content-length", "content-disposition", "gristmill-params", "user-agent"}
    assert call.headers.keys() - told == {"host", "accept", "accept-encoding", "connection"}
    assert (output.name, output.mimetype, output.content) == ("result.json", "application/json", b'{"pages": 3}')


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('Content-Disposition: attachment; filename="a b.csv"', "a b.csv"),
        ("Content-Disposition: attachment; filename*=UTF-8''%E2%82%AC.csv; filename=e.csv", "€.csv"),
        ("Content-Disposition: attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd%00%0A", "passwd"),
        ('Content-Disposition: attachment; filename=".."', "result.csv"),
        ("Content-Disposition: attachment; filename*=nonsense''a%FF", "result.csv"),
        ("Content-Disposition: inline", "result.csv"),
    ],
)
async def test_an_output_is_called_as_the_container_says(tmp_path: Path, header: str, name: str) -> None:
    async with (
        container(answer("200 OK", "1,2", "Content-Type: text/csv", header)) as it,
        analyzing(it.url, tmp_path) as processor,
    ):
        (output,) = await processor.run()
    assert (output.name, output.mimetype) == (name, "text/csv")


async def test_bytes_without_a_media_type_and_no_bytes_at_all_are_answers_too(tmp_path: Path) -> None:
    async with (
        container(answer("201 Created", "x"), raw("HTTP/1.1 204 No Content\r\n\r\n")) as it,
        analyzing(it.url, tmp_path) as processor,
    ):
        (output,) = await processor.run()
        assert (output.name, output.mimetype) == ("result.bin", "application/octet-stream")
        assert await processor.run() == []


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (
            answer(
                "422 Bad", '{"title": "No", "detail": "Page 3 is\\u0000 blank.\\nTry"}', "Content-Type: a/problem+json"
            ),
            "Page 3 is blank.",
        ),
        (answer("400 Bad", '{"detail": [{"loc": []}]}', "Content-Type: application/json"), None),
        (answer("400 Bad", "\nNot a\x07 scan. \n at line 3", "Content-Type: text/plain"), "Not a scan."),
        (answer("400 Bad", "x" * 1000, "Content-Type: text/plain"), "x" * 299 + "…"),
        (answer("400 Bad", "[" * 60_000, "Content-Type: application/json"), None),
        (answer("400 Bad", "<h1>Oh</h1>", "Content-Type: text/html"), None),
        (answer("400 Bad", "x" * 100_000, "Content-Type: text/plain"), None),
        (refuse_early, "At most five pages."),
    ],
    ids=["problem", "list", "text", "long", "nested", "html", "endless", "early"],
)
async def test_4xx_is_the_users_error_and_says_why(tmp_path: Path, given: Answer, detail: str | None) -> None:
    content = bytes(16 * MIB) if given is refuse_early else b"some input"
    async with container(given) as it, analyzing(it.url, tmp_path) as processor:
        failure, told = await processor.failure(content)
    assert failure == "invalid-input"
    assert told == (detail or "The analyzer refused the file (HTTP 400).")


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (answer("408 Timeout"), "The analyzer answered with HTTP 408."),
        (answer("425 Early"), "The analyzer answered with HTTP 425."),
        (answer("429 Many"), "The analyzer answered with HTTP 429."),
        (answer("500 Oh", "a secret", "Content-Type: text/plain"), "The analyzer answered with HTTP 500."),
        (answer("503 Full"), "The analyzer answered with HTTP 503."),
        (answer("304 Same"), "The analyzer answered with HTTP 304."),
        (raw(""), CUT),
        (raw("SSH-2.0-OpenSSH_9.6\r\n"), CUT),
        (raw("HTTP/1.1 200 OK\r\nX: " + "x" * 200_000), CUT),
        (raw(OK, "Content-Length: 100\r\n\r\n", "only a part"), CUT),
        (raw(OK, "Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n"), CUT),
        (raw("HTTP/1.0 200 OK\r\n\r\nhello"), "The analyzer's response has neither `Content-Length` nor chunks."),
        (
            answer("200 OK", "x", "Content-Encoding: gzip"),
            "The analyzer's response is encoded, though it was asked not to be.",
        ),
    ],
)
async def test_what_is_no_answer_is_tried_again(tmp_path: Path, given: Answer, detail: str) -> None:
    async with container(given) as it, analyzing(it.url, tmp_path) as processor:
        assert await processor.failure() == ("unavailable", detail)


@pytest.mark.parametrize("given", [hang, drip])
async def test_a_call_has_a_time_whether_nothing_comes_or_always_a_little(tmp_path: Path, given: Answer) -> None:
    async with container(given) as it, analyzing(it.url, tmp_path, timeout_seconds=0.5) as processor:
        assert await processor.failure() == ("unavailable", LATE)


async def test_nobody_there_is_tried_again(tmp_path: Path) -> None:
    async with analyzing(f"http://127.0.0.1:{free_port()}/", tmp_path) as processor:
        assert await processor.failure() == ("unavailable", CUT)


@pytest.mark.parametrize("limits", [{"output_bytes": MIB}, {"limits": {"outputBytes": MIB}}])
async def test_an_answer_without_end_stops_at_the_limit_of_outputs(tmp_path: Path, limits: dict[str, Any]) -> None:
    async with container(endless) as it, analyzing(it.url, tmp_path, **limits) as processor:
        assert await processor.failure() == ("unavailable", TOO_LONG)


async def test_an_output_may_be_as_large_as_the_limit(tmp_path: Path) -> None:
    async with (
        container(zeros(MIB), zeros(MIB + 2**16)) as it,
        analyzing(it.url, tmp_path, output_bytes=MIB) as processor,
    ):
        assert [len(output.content) for output in await processor.run()] == [MIB]
        assert await processor.failure() == ("unavailable", TOO_LONG)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Elsewhere", "308 Elsewhere"])
async def test_a_container_cannot_send_us_elsewhere(tmp_path: Path, status: str) -> None:
    async with container(answer("200 OK", "stolen")) as other:
        async with (
            container(answer(status, "", f"Location: {other.url}")) as it,
            analyzing(it.url, tmp_path) as processor,
        ):
            assert await processor.failure() == ("unavailable", f"The analyzer answered with HTTP {status[:3]}.")
        assert other.calls == []


async def test_neither_the_file_nor_the_answer_is_held(tmp_path: Path) -> None:
    size = 192 * MIB
    async with (
        container(zeros(size)) as it,
        analyzing(it.url, tmp_path, memory_bytes=256 * MIB, timeout_seconds=60) as processor,
    ):
        (output,) = await processor.run(bytes(size))
    assert it.calls[0].body_bytes == len(output.content) == size


async def test_parameters_that_no_header_can_hold_are_refused_before_the_call(tmp_path: Path) -> None:
    async with (
        container(answer("200 OK", "x")) as it,
        analyzing(it.url, tmp_path, max_params_bytes=30) as processor,
    ):
        await processor.run(text="x" * 19)
        failure, detail = await processor.failure(text="x" * 20)
    assert (failure, detail) == (
        "invalid-input",
        "This processor's parameters have at most 30 bytes as JSON.",
    )
    assert len(it.calls) == 1


async def test_a_container_that_was_down_is_called_again_by_the_next_attempt(tmp_path: Path) -> None:
    def seen(call: Call) -> bytes:
        return call.body

    async with (
        container(answer("503 Starting"), answer("200 OK", "done")) as it,
        analyzing(it.url, tmp_path) as processor,
    ):
        assert (await processor.failure(b"hello"))[0] == "unavailable"
        assert (await processor.run(b"hello"))[0].content == b"done"
    assert list(map(seen, it.calls)) == [b"hello", b"hello"]
