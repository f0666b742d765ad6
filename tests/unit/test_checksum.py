"""`checksum`, called as its child process calls it."""

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from gristmill import Context, InputFile
from services.processor.processors.checksum import Checksum, ChecksumParams


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake2b", "md5"])
def test_gives_the_digest_as_json(tmp_path: Path, algorithm: str) -> None:
    content = b"grist" * 100_000
    path = tmp_path / "input"
    path.write_bytes(content)
    params = ChecksumParams.model_validate({"algorithm": algorithm})
    file = InputFile(path, "grist.bin", "application/octet-stream", len(content))
    (output,) = Checksum().process(file, params, Context(tmp_path))
    assert (output.name, output.mimetype) == ("checksum.json", "application/json")
    digest = hashlib.new(algorithm, content).hexdigest()
    assert json.loads(output.path.read_text()) == {"algorithm": algorithm, "digest": digest, "size": len(content)}


def test_sha256_unless_told_otherwise() -> None:
    assert ChecksumParams().algorithm == "sha256"


@pytest.mark.parametrize("params", [{"algorithm": "crc32"}, {"algorythm": "sha256"}])
def test_refuses_what_it_does_not_know(params: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ChecksumParams.model_validate(params)
