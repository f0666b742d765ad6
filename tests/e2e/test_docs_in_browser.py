"""A stranger with a token and a browser finds the docs page enough to have work done."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from deploy.local import keys, tokens
from tests.support.docs_page import CREATE, FLAGS, STATUS, authorize, executed, opened
from tests.support.local import Local

TEXT = "Hello from a browser."


@pytest.fixture
async def page(gristmill: Local, tmp_path: Path) -> AsyncIterator[Page]:
    """An empty Chromium. Where there is none: apt-get install chromium."""
    chromium = shutil.which("chromium")
    if chromium is None and "CI" not in os.environ:
        pytest.skip("There is no Chromium here: install it (Debian's `chromium`) to try the docs page in a browser.")
    assert chromium, "Install Debian's `chromium`: CI has to try the docs page in a browser."
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            tmp_path, executable_path=chromium, args=FLAGS, base_url=gristmill.url, chromium_sandbox=False
        )
        yield await context.new_page()
        await context.close()


async def test_a_stranger_authorizes_uploads_a_file_and_sees_the_answer(
    gristmill: Local, page: Page, tmp_path: Path
) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    file = tmp_path / "hello.txt"
    await asyncio.to_thread(file.write_text, TEXT)
    await page.goto("/docs")

    await authorize(page, tokens.make(keys.ensure(gristmill.data).users_secret, "acme", "stranger", ttl=600))
    create = await opened(page, CREATE)
    # As the page fills it in.
    assert "EXECUTION_COMPLETED" in await executed(create)
    await create.get_by_label("Request content type").select_option("text/plain")
    assert "EXECUTION_COMPLETED" in await executed(create)
    await create.get_by_label("Request content type").select_option("multipart/form-data")
    await create.locator("input[type=file]").set_input_files(file)
    made = json.loads(await executed(create))
    assert (made["status"], made["name"], made["size"]) == ("EXECUTION_COMPLETED", "hello.txt", len(TEXT))

    status = await opened(page, STATUS)
    await status.get_by_placeholder("job_id").fill(made["id"])
    assert json.loads(await executed(status))["id"] == made["id"]

    assert {url for url in asked if not url.startswith((gristmill.url, "data:"))} == set()
    assert complaints == []


async def test_the_type_of_a_problem_leads_to_its_page(page: Page) -> None:
    refused = await page.request.get("/api/v1/job")
    assert refused.status == 401
    await page.goto((await refused.json())["type"])
    await expect(page.locator("h2")).to_have_text("/problems/unauthorized")
    await expect(page.locator("p")).to_contain_text("token")
