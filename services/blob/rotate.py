"""`python -m services.blob.rotate`: wraps the keys of all files anew under the newest of BLOB_KEYS, and no file itself.

It may run while blob serves, be killed, and be run again at any time. Once it has succeeded, no older key is needed.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from common.errors import NotFound, Unavailable
from common.settings import load
from services.blob.adapters.filesystem.folder import Disk, Folder, as_problem
from services.blob.adapters.filesystem.known_keys import forget_others, note_newest
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.blob.adapters.filesystem.upload_folder import UploadFolder
from services.blob.ports import CorruptBlob
from services.blob.settings import StoreSettings

PAGE_BLOBS = 10_000


class RotateSettings(StoreSettings):
    """The settings of a rotation. There is nothing to rotate in the other store."""

    store: Literal["filesystem"] = "filesystem"
    data_dir: Path = Field(description="The folder that blobs are kept in.")
    keys: Path = Field(description="The folder with the keys, of which the newest is the one whose name sorts last.")

    @field_validator("data_dir")
    @classmethod
    def _is_there(cls, value: Path) -> Path:
        if not value.is_dir():
            raise ValueError("It should be a folder that is there")
        return value


def rotate(folder: Folder) -> bool:
    """Whether all that is encrypted in a folder is so under the newest key now; says what was done."""
    uploads = UploadFolder(folder)
    folder.prepare()
    uploads.prepare()
    note_newest(folder)
    # Uploads first: one that is completed meanwhile is a blob that blob itself has wrapped.
    files = chain(
        ((upload_id, uploads.wrap_anew) for upload_id in uploads.names()),
        ((blob_id, folder.wrap_anew) for blob_id in _blobs(folder)),
    )
    wrapped = failed = 0
    for name, wrap_anew in files:
        try:
            wrapped += as_problem(partial(wrap_anew, name))
        except NotFound:
            continue  # deleted since
        except (CorruptBlob, Unavailable) as error:
            _say(f"{name}: {error}")
            failed += 1
    _say(f"{wrapped} files were wrapped anew under {folder.keys.newest}, and {failed} could not be.")
    if failed:
        return False
    if forgotten := forget_others(folder):
        _say(f"Nothing needs these keys any more: {', '.join(forgotten)}.")
    return True


def _blobs(folder: Folder) -> Iterator[str]:
    after = ""
    while page := folder.page("", after, PAGE_BLOBS):
        yield from (blob.id for blob in page)
        after = page[-1].id


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - this is a command


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m services.blob.rotate",
        description=__doc__,
        epilog="Its settings are those of blob, from the environment: BLOB_DATA_DIR and BLOB_KEYS.",
    ).parse_args()
    settings = load(RotateSettings)
    return 0 if rotate(Folder(settings.data_dir, Disk(), MasterKeys.read(settings.keys))) else 1


if __name__ == "__main__":
    sys.exit(main())
