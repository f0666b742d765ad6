"""The curls of the README and the guides, pasted into a shell beside a running Gristmill."""

import asyncio
import json
import re
from pathlib import Path

from deploy.local import keys, tokens
from deploy.local.sample import draw
from services.processor import registry
from tests.support.local import Local
from tests.support.pages import code_blocks, page, section


def token_of(gristmill: Local) -> str:
    return tokens.make(keys.ensure(gristmill.data).users_secret, "acme", "alice", ttl=600)


async def pasted(block: str, folder: Path) -> str:
    """What a shell prints that the block was pasted into; it has no complaints."""
    shell = await asyncio.create_subprocess_exec(
        "/bin/bash", "-e", "-o", "pipefail", stdin=-1, stdout=-1, stderr=-1, cwd=folder
    )
    printed, complaints = await shell.communicate(block.replace("curl ", "curl --fail-with-body ").encode())
    assert (shell.returncode, complaints) == (0, b""), printed
    return printed.decode()


async def test_the_five_curls_do_what_they_say(gristmill: Local, tmp_path: Path) -> None:
    (block,) = code_blocks(section(page("README.md"), "## The API in five curls"), "sh")
    token = token_of(gristmill)
    for written, here in (("http://127.0.0.1:8000", gristmill.url), ("$(make -s token)", token)):
        assert block.count(written) == 1
        block = block.replace(written, here)
    (tmp_path / "demo-output").mkdir()
    (tmp_path / "demo-output" / "sample.jpg").write_bytes(draw())
    printed = await pasted(block, tmp_path)
    status, created, processors = map(json.loads, re.split(r"\n", printed.strip()))
    assert status["status"] == "EXECUTION_COMPLETED"
    assert [output["name"] for output in status["outputs"]][1] == "sample-800.webp"
    assert created["status"] == "CREATED"
    assert registry.installed().keys() == {item["name"] for item in processors["items"]}
    for name, output in zip(("first.webp", "wide.webp"), status["outputs"], strict=False):
        assert (tmp_path / "demo-output" / name).stat().st_size == output["size"]


async def test_a_job_is_cancelled_as_the_guide_says(gristmill: Local, tmp_path: Path) -> None:
    (block,) = code_blocks(section(page("docs/guide/limits.md"), "## Cancelling"), "sh")
    setting = f"API={gristmill.url}/api/v1\nAUTH='Authorization: Bearer {token_of(gristmill)}'\n"
    status = json.loads(await pasted(setting + block, tmp_path))
    assert (status["processor"], status["deadline"]) == ("checksum@1", 900)
    assert status["status"] in {"CANCELLED", "EXECUTION_COMPLETED"}, "it is quick"


async def test_a_file_of_a_batch_is_uploaded_as_the_guide_says(on_each_store: Local, tmp_path: Path) -> None:
    (block,) = code_blocks(section(page("docs/guide/uploads.md"), "## Many files, and large ones"), "sh")
    setting = f"API={on_each_store.url}/api/v1\nAUTH='Authorization: Bearer {token_of(on_each_store)}'\n"
    printed = await pasted(setting + block + '\necho "$PLAN"\n', tmp_path)
    job = json.loads(printed[printed.index('{"id"') :])["items"][0]
    async with on_each_store.client() as http, asyncio.timeout(30):
        status = job
        while not status["outputs"]:
            status = (await http.get(f"/api/v1/job/{job['id']}/status", headers={"Prefer": "wait=10"})).json()
    assert status["status"] == "EXECUTION_COMPLETED"
