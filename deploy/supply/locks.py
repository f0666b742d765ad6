"""The lock files, read as what they lock."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SERVICES, PROCESSOR = (ROOT / f"deploy/docker/{name}.lock" for name in ("services", "processor"))
EVERYTHING = ROOT / "requirements.lock"
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package: its name as the index has it, its version, and the SHA-256 of each of its files."""

    name: str
    version: str
    hashes: tuple[str, ...]


def read(lock: Path) -> Iterator[Locked]:
    """The packages of a lock that this machine installs; those for other systems are left out."""
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        if not entry or entry.startswith((" ", "#", "-")):
            continue
        requirement = Requirement(entry.partition(" --hash")[0].partition(" #")[0])
        if requirement.marker is None or requirement.marker.evaluate():
            (version,) = (specifier.version for specifier in requirement.specifier)
            yield Locked(canonicalize_name(requirement.name), version, tuple(_HASH.findall(entry)))
