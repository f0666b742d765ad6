"""`python -m tests.support.picture`: takes the README's picture anew, of a job that has ended in the OpenAPI page.

It needs Debian's `chromium`.
"""

import asyncio
import json
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from deploy.local import keys, tokens
from deploy.local.sample import draw
from tests.support.docs_page import FLAGS, STATUS, authorize, executed, opened
from tests.support.local import environment, running
from tests.support.pages import ROOT

PICTURE = ROOT / "docs" / "images" / "job-in-the-api-page.png"
SIZE = {"width": 1000, "height": 1200}
# The command with its token, and the examples of other responses.
LEFT_OUT = """
    .curl-command, .request-url, .responses-table:not(.live-responses-table), .live-responses-table ~ *,
    .responses-inner > div > h4 { display: none !important; }
    .highlight-code pre { max-height: none !important; }
"""
QUERY = "processor=image-variants&widths=320,800&name=harbour.jpg"


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running(environment(Path(folder) / "data")) as local, async_playwright() as playwright:
            async with local.client() as http:
                headers = {"Content-Type": "image/jpeg", "Prefer": "wait=30"}
                made = await http.post(f"/api/v1/job?{QUERY}", content=draw(), headers=headers)
            context = await playwright.chromium.launch_persistent_context(
                Path(folder) / "browser",
                executable_path="/usr/bin/chromium",
                args=FLAGS,
                base_url=local.url,
                chromium_sandbox=False,
                viewport=SIZE,  # type: ignore[arg-type]  # a typed dict of the library's own
            )
            page = await context.new_page()
            await page.goto("/docs")
            await authorize(page, tokens.make(keys.ensure(local.data).users_secret, "acme", "alice", ttl=600))
            status = await opened(page, STATUS)
            await status.get_by_placeholder("job_id").fill(made.json()["id"])
            assert json.loads(await executed(status))["status"] == "EXECUTION_COMPLETED"
            await page.add_style_tag(content=LEFT_OUT)
            await status.screenshot(path=PICTURE)
            await context.close()


if __name__ == "__main__":
    asyncio.run(main())
