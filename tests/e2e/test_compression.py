"""Files compressed by the formats' own tools and sent by curl: nothing of ours on the client's side."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.test_readme import pasted, token_of
from tests.support.local import Local

TEXT = b"Grist is corn that is brought to a mill.\n" * 20_000


@pytest.mark.parametrize("tool", ["gzip", "bzip2", "xz", "zstd"])
async def test_what_a_tool_compressed_is_worked_on_decoded(gristmill: Local, tmp_path: Path, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"There is no {tool} here.")
    (tmp_path / "grist.txt").write_bytes(TEXT)
    api, token = f"{gristmill.url}/api/v1", token_of(gristmill)
    # With a file behind another one, and chunked, since curl can't know the size of what it is piped.
    printed = await pasted(
        f"""
        curl() {{ command curl -sS -H 'Authorization: Bearer {token}' "$@"; }}
        ID=$(({tool} -c grist.txt; {tool} -c grist.txt) |
            curl -H 'Content-Type: text/plain' -H 'Content-Encoding: {tool}' -H 'Prefer: wait=30' \\
                 -X POST -T - '{api}/job?processor=checksum' | sed 's/{{"id":"\\([^"]*\\)".*/\\1/')
        curl "{api}/job/$ID/output"
        """,
        tmp_path,
    )
    found = json.loads(printed)
    assert (found["digest"], found["size"]) == (hashlib.sha256(TEXT * 2).hexdigest(), len(TEXT) * 2)
