"""A real picture, through real processes: handed in each of three ways, fetched, opened and measured."""

import base64
import hashlib
import io
from collections.abc import Awaitable, Callable

import httpx
import pytest
from PIL import Image

from deploy.local.sample import draw
from tests.support.local import Local

WIDTH, HEIGHT = 2000, 1200
WIDTHS = (320, 800, WIDTH)  # two that are asked for, and the original's
PICTURE = draw(WIDTH, HEIGHT)
WAIT = {"Prefer": "wait=60"}
Post = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


async def post_json(http: httpx.AsyncClient) -> httpx.Response:
    body = {
        "encoding": "base64",
        "MD5": hashlib.md5(PICTURE, usedforsecurity=False).hexdigest(),
        "content": base64.b64encode(PICTURE).decode(),
        "mimetype": "image/jpeg",
        "processor": "image-variants",
        "params": {"widths": [320, 800]},
    }
    return await http.post("/api/v1/job", json=body)


async def post_raw(http: httpx.AsyncClient) -> httpx.Response:
    query = {"processor": "image-variants", "widths": "320,800"}
    return await http.post("/api/v1/job", params=query, content=PICTURE, headers={"Content-Type": "image/jpeg"})


async def post_form(http: httpx.AsyncClient) -> httpx.Response:
    fields = {"processor": "image-variants", "widths": ["320", "800"]}
    return await http.post("/api/v1/job", data=fields, files={"file": ("photo.jpg", PICTURE, "image/jpeg")})


@pytest.mark.parametrize(
    ("post", "first"),
    [(post_json, "CREATED"), (post_raw, "STORED"), (post_form, "STORED")],
    ids=["json", "raw", "form"],
)
async def test_typical_journey(gristmill: Local, post: Post, first: str) -> None:
    async with gristmill.client() as http:
        created = await post(http)
        assert (created.status_code, created.json()["status"]) == (201, first)
        location = created.headers["Location"]
        assert location == f"/api/v1/job/{created.json()['id']}"
        done = (await http.get(f"{location}/status", headers=WAIT)).json()
        assert done["status"] == "EXECUTION_COMPLETED"
        assert len(done["outputs"]) == len(WIDTHS)
        for output, width in zip(done["outputs"], WIDTHS, strict=True):
            fetched = await http.get(output["href"])
            assert hashlib.sha256(fetched.content).hexdigest() == output["sha256"]
            assert fetched.headers["Content-Type"] == output["mimetype"] == "image/webp"
            picture = Image.open(io.BytesIO(fetched.content))
            assert picture.format == "WEBP"
            assert (picture.width, picture.height) == (width, width * HEIGHT // WIDTH)
            assert picture.convert("RGB").resize((1, 1)).getpixel((0, 0)) == pytest.approx(mean_colour(), abs=4)
        assert (await http.get(f"{location}/output")).status_code == 200


def mean_colour() -> tuple[int, ...]:
    """What the picture shows, in brief: an output of another picture, or of none, looks otherwise."""
    colour = Image.open(io.BytesIO(PICTURE)).resize((1, 1)).getpixel((0, 0))
    assert isinstance(colour, tuple)
    return tuple(map(int, colour))


async def test_nobody_elses_job_can_be_told_from_none(gristmill: Local) -> None:
    async with gristmill.client() as alice, gristmill.client(subject="bob") as bob, gristmill.client("other") as other:
        location = (await post_raw(alice)).headers["Location"]
        unknown = await alice.get("/api/v1/job/01890000-0000-7000-8000-000000000000")
        for stranger in (bob, other):
            for path in (location, f"{location}/status", f"{location}/output"):
                refused = await stranger.get(path)
                assert (refused.status_code, refused.content) == (404, unknown.content)


async def test_the_page_of_the_api_needs_no_other_host(gristmill: Local) -> None:
    async with gristmill.client() as http:
        page = await http.get("/docs")
        assert page.status_code == 200
        assert "https://" not in page.text.replace(gristmill.url, "")
