"""`known-keys/` in the data folder: under which keys something in it may be encrypted, so that a missing one is noticed
at the start. `known-keys/<name>` is no byte, wrapped under that key: so another key of that name is noticed too.
"""

from pathlib import Path

from cryptography.exceptions import InvalidTag

from services.blob.adapters.filesystem.folder import Folder
from services.blob.adapters.filesystem.master_keys import MasterKeys

_FOLDER = "known-keys"


def check_keys(root: Path, keys: MasterKeys) -> None:
    """Raises `ValueError`, with a sentence, when a key is missing that something below `root` may need."""
    for path in _known(root):
        if path.name not in keys:
            raise ValueError(
                f"The key {path.name} is missing, and files are encrypted under it. If it is lost, so are they: delete "
                f"{_FOLDER}/{path.name} in BLOB_DATA_DIR to go on without them"
            )
        try:
            keys.unwrap(path.read_bytes(), _about(path.name))
        except InvalidTag:
            raise ValueError(f"{path.name} is another key than the one that files are encrypted under") from None


def note_newest(folder: Folder) -> None:
    """Remember the newest key, before anything is encrypted under it."""
    newest = folder.keys.newest
    if newest is None or (path := folder.root / _FOLDER / newest).exists():
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    folder.sync(folder.root)
    staging = folder.create()
    try:
        folder.write(staging.fd, folder.keys.wrap(b"", _about(newest)))
        folder.disk.fsync(staging.fd)
        staging.path.rename(path)
    finally:
        folder.discard(staging)
    folder.sync(path.parent)


def forget_others(folder: Folder) -> list[str]:
    """Forget all keys but the newest, when nothing is encrypted under them any more. Returns their names."""
    others = [path for path in _known(folder.root) if path.name != folder.keys.newest]
    for path in others:
        path.unlink()
    return [path.name for path in others]


def _known(root: Path) -> list[Path]:
    folder = root / _FOLDER
    return sorted(folder.iterdir()) if folder.exists() else []


def _about(name: str) -> bytes:
    return b"key\n" + name.encode()
