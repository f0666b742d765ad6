"""The examples, as their pages say, in a running Gristmill: a plug-in from out of the tree, a container, a program."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local import keys
from tests.e2e.test_readme import pasted, token_of
from tests.fakes.container import Container, answer, container
from tests.support.local import Local, environment, running
from tests.support.pages import ROOT, code_blocks, page
from tests.support.processes import alive, children_of, descendants_of, until

pytestmark = pytest.mark.long

PLUGIN, CONTAINER, PROGRAM = (
    ROOT / "examples" / name for name in ("plugin-wordcount", "analyzer-container", "command-redact")
)


def blocks(example: Path) -> list[str]:
    return code_blocks(page(f"{example.relative_to(ROOT)}/README.md"), "sh")


def told(example: Path, variable: str) -> list[dict[str, Any]]:
    """The setting that an example's page exports."""
    (block,) = [block for block in blocks(example) if f"export {variable}=" in block]
    configured: list[dict[str, Any]] = json.loads(block.split("'")[1])
    return configured


@asynccontextmanager
async def example_container() -> AsyncIterator[str]:
    """The address of the example's own server."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CONTAINER / "server.py"), env={"PORT": "0"}, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    try:
        yield (await process.stderr.readline()).decode().split()[-1]
    finally:
        process.kill()
        await process.communicate()


@pytest.fixture(scope="module")
async def flaky() -> AsyncIterator[Container]:
    """A container that starts when it is first called."""
    async with container(answer("503 Starting"), answer("200 OK", "done", "Content-Type: text/plain")) as it:
        yield it


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**environment(tmp_path_factory.mktemp("gristmill")), "JOB_BACKOFF_SECONDS": "0.1"}


@pytest.fixture(scope="module")
async def gristmill(settings: dict[str, str], flaky: Container) -> AsyncIterator[Local]:
    """Started with what the examples' pages export."""
    async with example_container() as url:
        analyzers = [{**each, "url": url} for each in told(CONTAINER, "PROCESSOR_ANALYZERS")]
        commands = told(PROGRAM, "PROCESSOR_COMMANDS")
        configured = {
            "PROCESSOR_ANALYZERS": json.dumps([*analyzers, {"name": "flaky", "url": flaky.url}]),
            "PROCESSOR_COMMANDS": json.dumps([*commands, {"name": "sleeper", "argv": ["sleep", "3600"]}]),
        }
        async with running({**settings, **configured}) as local:
            yield local


def run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


@pytest.fixture(scope="module")
def with_plugin(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has Gristmill and the plug-in, which was installed from its folder with all that it depends on."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = str(folder / "bin" / "python")
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site, ours = (run(each, "-c", show) for each in (python, sys.executable))
    # All that is installed here is installed there too; `addsitedir`, because what is editable has files of this kind.
    Path(site, "gristmill.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-index", "--no-build-isolation", str(PLUGIN))
    return python


@pytest.fixture(scope="module")
async def plugin(settings: dict[str, str], gristmill: Local, with_plugin: str) -> AsyncIterator[None]:
    """A processor of its own, of the same Gristmill, that has the plug-in."""
    process = await asyncio.create_subprocess_exec(
        with_plugin,
        "-m",
        "services.processor",
        env={
            "PATH": os.environ["PATH"],
            "PROCESSOR_JOB_URL": f"http://127.0.0.1:{settings['JOB_PORT']}",
            "PROCESSOR_BLOB_URL": f"http://127.0.0.1:{settings['BLOB_PORT']}",
            "PROCESSOR_KEY_FILE": str(keys.ensure(gristmill.data).private("processor")),
            "PROCESSOR_DRAIN_SECONDS": "2",
        },
    )
    async with gristmill.client() as http, asyncio.timeout(30):
        while not (await offers(http)).get("wordcount", {}).get("live"):
            assert process.returncode is None
            await asyncio.sleep(0.1)
    yield
    process.terminate()
    assert await process.wait() == 0


async def offers(http: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in (await http.get("/api/v1/processor")).json()["items"]}


async def ended(http: httpx.AsyncClient, content: bytes, mimetype: str, **query: Any) -> dict[str, Any]:
    headers = {"Content-Type": mimetype, "Prefer": "wait=60"}
    answer = await http.post("/api/v1/job", params=query, content=content, headers=headers)
    answer.raise_for_status()
    status: dict[str, Any] = (await http.get(f"/api/v1/job/{answer.json()['id']}")).json()
    return status


async def outputs(http: httpx.AsyncClient, job: dict[str, Any]) -> dict[str, str]:
    assert job["status"] == "EXECUTION_COMPLETED", job
    return {output["name"]: (await http.get(output["href"])).text for output in job["outputs"]}


async def as_its_page_says(example: Path, local: Local) -> None:
    """Paste the page's curl into a shell beside this Gristmill."""
    block = blocks(example)[-1]
    assert block.count("$(make -s token)") == block.count("http://127.0.0.1:8000") == 1
    block = block.replace("$(make -s token)", token_of(local)).replace("http://127.0.0.1:8000", local.url)
    assert json.loads(await pasted(block, ROOT))["status"] == "EXECUTION_COMPLETED"


@pytest.mark.usefixtures("plugin")
async def test_a_plugin_from_out_of_the_tree_is_offered_and_run(gristmill: Local) -> None:
    async with gristmill.client() as http:
        offer = (await offers(http))["wordcount"]
        assert (offer["version"], offer["live"]) == ("1.0.0", True)
        assert offer["mediaTypes"] == ["text/plain", "text/markdown"]
        assert offer["params"]["properties"]["top"] == {
            "default": 10,
            "description": "How many of the most frequent words are listed.",
            "maximum": 1000,
            "minimum": 0,
            "title": "Top",
            "type": "integer",
        }
        text = b"The mill grinds the grist, and the mill ... " * 50_000
        job = await ended(http, text, "text/plain", processor="wordcount", top=2, ignore="mill,and", name="a.txt")
        found = json.loads((await outputs(http, job))["words.json"])
        assert found == {"words": 300_000, "different": 4, "top": [["the", 150_000], ["grinds", 50_000]]}
        job = await ended(http, b"\xff\xfe", "text/plain", processor="wordcount")
        assert (job["error"]["type"], job["error"]["fault"]) == ("/problems/invalid-input", "user")
        assert job["error"]["detail"] == "The text isn't UTF-8."
    await as_its_page_says(PLUGIN, gristmill)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("processor", "query", "pointer"),
    [
        ("wordcount", {"top": "1001"}, "/params/top"),
        ("wordcount", {"topp": "1"}, "/params/topp"),
        ("entropy", {"threshold": "9"}, "/params/threshold"),
        ("entropy", {"unknown": "9"}, "/params/unknown"),
        ("redact", {"mask": "a b"}, "/params/mask"),
        ("flaky", {"any": "1"}, "/params/any"),
    ],
)
async def test_parameters_are_held_against_the_schema_before_anything_is_stored(
    gristmill: Local, processor: str, query: dict[str, str], pointer: str
) -> None:
    def stored() -> set[Path]:
        return {path for path in (gristmill.data / "blobs").rglob("*") if path.is_file()}

    before = stored()
    async with gristmill.client() as http:
        refused = await http.post(
            "/api/v1/job",
            params={"processor": processor, **query},
            content=b"hello",
            headers={"Content-Type": "text/plain"},
        )
    assert (refused.status_code, [error["pointer"] for error in refused.json()["errors"]]) == (422, [pointer])
    assert stored() <= before  # inputs of jobs that have ended go at any time


async def test_a_container_is_a_processor(gristmill: Local) -> None:
    async with gristmill.client() as http:
        assert (await offers(http))["entropy"]["live"]
        job = await ended(http, b"ab" * 100, "text/csv", processor="entropy", threshold="0.5", name="ä b.csv")
        assert json.loads((await outputs(http, job))["result.json"]) == {
            "name": "ä b.csv",
            "mimetype": "text/csv",
            "size": 200,
            "bitsPerByte": 1.0,
            "dense": True,
        }
    await as_its_page_says(CONTAINER, gristmill)


async def test_a_container_that_wasnt_ready_is_called_again(gristmill: Local, flaky: Container) -> None:
    async with gristmill.client() as http:
        job = await ended(http, b"hello", "text/plain", processor="flaky")
        assert await outputs(http, job) == {"result.txt": "done"}
    assert [call.body for call in flaky.calls] == [b"hello", b"hello"]


async def test_a_program_is_a_processor(gristmill: Local) -> None:
    async with gristmill.client() as http:
        text = b"From a@example.org to b@example.org, and to a@example.org again.\n"
        job = await ended(http, text, "text/plain", processor="redact", mask="X")
        found = await outputs(http, job)
    assert list(found) == ["found.txt", "redacted.txt"]
    assert found["redacted.txt"] == "From [X] to [X], and to [X] again.\n"
    assert found["found.txt"].split() == ["2", "a@example.org", "1", "b@example.org"]
    await as_its_page_says(PROGRAM, gristmill)


@pytest.mark.parametrize(
    ("processor", "detail"),
    [("entropy", "A file of fewer than 16 bytes says nothing."), ("redact", "The text isn't UTF-8.")],
)
async def test_a_file_at_fault_is_told_in_the_words_of_the_example(
    gristmill: Local, processor: str, detail: str
) -> None:
    async with gristmill.client() as http:
        job = await ended(http, b"\xff", "text/plain", processor=processor)
    assert job["status"] == "EXECUTION_ERROR"
    assert (job["error"]["type"], job["error"]["fault"]) == ("/problems/invalid-input", "user")
    assert job["error"]["detail"] == detail


async def test_a_program_ends_when_its_processor_is_killed(gristmill: Local) -> None:
    async with gristmill.client() as http:
        headers = {"Content-Type": "text/plain"}
        (await http.post("/api/v1/job?processor=sleeper", content=b"x", headers=headers)).raise_for_status()
        processor = gristmill.pid_of("services.processor")
        assert processor is not None
        async with asyncio.timeout(30):
            await until(lambda: bool(sleeping(processor)))
            programs = sleeping(processor)
            os.kill(processor, signal.SIGKILL)
            await until(lambda: not alive(programs))


def sleeping(processor: int) -> set[int]:
    children = {processor, *descendants_of(processor)}
    return {pid for parent in children for pid, args in children_of(parent).items() if args.endswith("sleep 3600")}
