"""The pages that the `type` of a problem document leads to."""

from html import escape

from fastapi import APIRouter, Depends
from starlette.responses import HTMLResponse

from common.errors import TYPE_PREFIX, NotFound, all_problems
from common.failures import FAILURES
from common.web.access import public

router = APIRouter(prefix=TYPE_PREFIX.rstrip("/"), include_in_schema=False, dependencies=[Depends(public)])


def _entries() -> dict[str, tuple[str, str]]:
    entries = {kind.slug: (f"{kind.title()} ({kind.status})", kind.default_detail()) for kind in all_problems()}
    for failure in FAILURES.values():
        cause = "Your input is the cause." if failure.users_fault else "The platform is the cause, not your input."
        entries[failure.slug] = entries.get(
            failure.slug, (f"A job's error: {failure.slug}", f"{failure.title}. {cause}")
        )
    return entries


def _page(entries: dict[str, tuple[str, str]]) -> HTMLResponse:
    items = "".join(
        f'<h2 id="{escape(slug)}"><code>{TYPE_PREFIX}{escape(slug)}</code></h2>'
        f"<p><b>{escape(title)}.</b> {escape(text)}</p>"
        for slug, (title, text) in entries.items()
    )
    return HTMLResponse(f"<!doctype html><html lang=en><title>Gristmill: problems</title><h1>Problems</h1>{items}")


@router.get("")
async def list_problems() -> HTMLResponse:
    return _page(_entries())


@router.get("/{slug}")
async def explain_problem(slug: str) -> HTMLResponse:
    entries = _entries()
    if slug not in entries:
        raise NotFound
    return _page({slug: entries[slug]})
