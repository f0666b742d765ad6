"""blob with BLOB_KEYS, over HTTP."""

from pathlib import Path

import httpx

from tests.fakes.keys import key_folder, signer
from tests.support.blob_service import running_blob

LONG = b"0123456789abcdef" * 100_000


def client(url: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {signer('front').token('blob')}"}
    return httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers)


async def test_a_blob_is_whole_and_in_ranges_what_was_sent(tmp_path: Path) -> None:
    async with running_blob(tmp_path, keys=key_folder(tmp_path / "master", "2026")) as blob, client(blob.url) as http:
        created = await http.put("/blob/b-1", content=LONG)
        assert created.status_code == 201
        assert (await http.get("/blob/b-1")).content == LONG
        part = await http.get("/blob/b-1", headers={"Range": "bytes=500000-1200000"})
        assert (part.status_code, part.content) == (206, LONG[500000:1200001])
        head = await http.head("/blob/b-1")
        assert head.headers["etag"] == f'"{created.json()["sha256"]}"'
        assert head.headers["content-length"] == str(len(LONG))
        assert LONG[:16] not in blob.file("b-1").read_bytes()


async def test_a_key_that_was_lost_is_503_in_words(tmp_path: Path) -> None:
    keys = tmp_path / "master"
    async with running_blob(tmp_path, keys=key_folder(keys, "2025")) as blob, client(blob.url) as http:
        await http.put("/blob/b-1", content=LONG)
    (tmp_path / "known-keys/2025").unlink()
    async with running_blob(tmp_path, keys=key_folder(keys, "2026")) as blob, client(blob.url) as http:
        for answer in (await http.get("/blob/b-1"), await http.put("/blob/b-1", content=LONG)):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
            assert answer.json()["detail"] == "The bytes are encrypted under the key 2025, which isn't in BLOB_KEYS."
        assert (await http.head("/blob/b-1")).status_code == 503
        assert (await http.put("/blob/b-2", content=LONG)).status_code == 201
        assert (await http.delete("/blob/b-1")).status_code == 204
