"""The OpenAPI page in a browser, as a stranger uses it."""

import re

from playwright.async_api import Locator, Page, expect

# Nothing but the page that is asked for: no sandbox since CI is root, and no calls home.
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
CREATE = "#operations-job-create_job"
STATUS = "#operations-job-get_job_status"


async def authorize(page: Page, token: str) -> None:
    await page.locator(".btn.authorize").first.click()
    await page.get_by_label("auth-bearer-value").fill(token)
    await page.get_by_label("Apply credentials").click()
    await page.locator(".auth-btn-wrapper .btn-done").click()


async def opened(page: Page, operation: str) -> Locator:
    """An operation, ready to be tried."""
    await page.locator(operation).locator(".opblock-summary-control").click()
    await page.locator(operation).get_by_role("button", name="Try it out").click()
    return page.locator(operation)


async def executed(operation: Locator) -> str:
    """The body that the page shows once it has the response, which is a good one."""
    if await (clear := operation.get_by_role("button", name="Clear")).count():
        await clear.click()
    await operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    await expect(answer.locator("tbody .response-col_status")).to_have_text(re.compile(r"20[01]"), timeout=30_000)
    return await answer.locator(".highlight-code code, .microlight").first.inner_text()
