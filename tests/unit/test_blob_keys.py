"""BLOB_KEYS: what it refuses, in which words, before a byte is served or kept."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.blob.adapters.filesystem.folder import Disk, Folder
from services.blob.adapters.filesystem.known_keys import note_newest
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.blob.settings import StoreSettings
from tests.fakes.keys import key_folder, master_key, master_keys


def refused(**settings: Any) -> str:
    with pytest.raises(ValidationError) as refusal:
        StoreSettings(**settings)
    (fault,) = refusal.value.errors()
    assert fault["loc"] == ("keys",)
    return fault["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "It should be a folder with a key in it"),
        ({"2026": b""}, "2026 should hold 32 bytes in base64"),
        ({"2026": base64.b64encode(bytes(31))}, "2026 should hold 32 bytes in base64"),
        ({"2026": base64.b64encode(bytes(33))}, "2026 should hold 32 bytes in base64"),
        ({"2026": bytes(32)}, "2026 should hold 32 bytes in base64"),
        ({"2026": b"not base64, although as long as it"}, "2026 should hold 32 bytes in base64"),
        ({"2026": bytes(range(128, 160)).hex().encode()}, "2026 should hold 32 bytes in base64"),
        ({"a key": base64.b64encode(bytes(32))}, "'a key' isn't one"),
        ({"x" * 33: base64.b64encode(bytes(32))}, f"'{'x' * 33}' isn't one"),
    ],
)
def test_a_key_that_is_none_is_named(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for name, content in files.items():
        (keys / name).write_bytes(content)
    message = refused(data_dir=tmp_path / "data", keys=keys)
    assert said in message
    for content in files.values():
        assert not content or content.decode("latin-1") not in message


def test_a_folder_that_is_not_there_or_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file"):
        assert "It should be a folder of keys that can be read" in refused(data_dir=tmp_path / "data", keys=path)


def test_it_is_refused_where_it_would_do_nothing(tmp_path: Path) -> None:
    assert "BLOB_S3_SSE" in refused(store="s3", s3_bucket="files", keys=key_folder(tmp_path / "keys", "2026"))


def test_a_folder_as_kubernetes_mounts_it_is_read(tmp_path: Path) -> None:
    hidden = key_folder(tmp_path / "..2026_12_01", "2025", "2026")
    (tmp_path / "..data").symlink_to(hidden)
    for name in ("2025", "2026"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    assert MasterKeys.read(tmp_path).newest == "2026"


def test_a_key_that_is_missing_or_another_is_named_before_anything_is_served(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", tmp_path / "keys"
    for names in (("2025",), ("2025", "2026")):
        folder = Folder(data, Disk(), master_keys(*names))
        folder.prepare()
        note_newest(folder)
    StoreSettings(data_dir=data, keys=key_folder(keys, "2025", "2026", "2027"))
    assert "The key 2025 is missing" in refused(data_dir=data, keys=key_folder(keys, "2026", "2027"))
    assert "The key 2025 is missing" in refused(data_dir=data)
    key_folder(keys, "2025", "2026")
    (keys / "2025").write_bytes(base64.b64encode(hashlib.sha256(b"another").digest()))
    message = refused(data_dir=data, keys=keys)
    assert "2025 is another key than the one that files are encrypted under" in message
    assert base64.b64encode(master_key("2025")).decode() not in message
    # As the sentence says, for who has lost a key.
    (data / "known-keys/2025").unlink()
    StoreSettings(data_dir=data, keys=key_folder(keys, "2026"))


def test_keys_that_lie_in_the_data_folder_are_left_alone(tmp_path: Path) -> None:
    keys = key_folder(tmp_path / "keys", "2026")
    folder = Folder(tmp_path, Disk(), MasterKeys.read(keys))
    folder.prepare()
    note_newest(folder)
    StoreSettings(data_dir=tmp_path, keys=keys)
    assert [path.name for path in keys.iterdir()] == ["2026"]
