"""`make sbom`: a CycloneDX list of the packages in the services' images, and one of those in the processor's.

From the locks, so each part has the digests that an image was allowed to install; the same bytes for the same locks.
What the base image brings isn't in it: that is for a scanner of images.
"""

import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from importlib.metadata import metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from deploy.supply import licences, locks

FOLDER = locks.ROOT / "build"
LISTS = {"services": locks.SERVICES, "processor": locks.PROCESSOR}
VERSION = "0.2.0"


class SbomError(Exception):
    """The list is no valid CycloneDX; the message says why."""


def made(name: str, lock: Path, at: datetime) -> str:
    """The list as JSON. `at` is when what it lists was made. Raises `SbomError`."""
    stated, _ = licences.rules()
    licence_factory = LicenseFactory()
    bom = Bom()
    bom.metadata.timestamp = at
    bom.metadata.component = Component(name=f"gristmill-{name}", version=VERSION, type=ComponentType.CONTAINER)
    for package in locks.read(lock):
        purl = PackageURL("pypi", name=package.name, version=package.version)
        licence = licence_factory.make_from_string(licences.expression_of(metadata(package.name), stated))
        bom.components.add(
            Component(
                name=package.name,
                version=package.version,
                type=ComponentType.LIBRARY,
                bom_ref=str(purl),
                purl=purl,
                licenses=[licence],
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in package.hashes],
            )
        )
    bom.metadata.component.bom_ref.value = bom.metadata.component.name
    bom.register_dependency(bom.metadata.component, bom.components)
    # From what is listed, not by chance.
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{at.isoformat()} {lock.read_text()}")
    written = JsonV1Dot6(bom).output_as_string(indent=2)
    if (fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(written)) is not None:
        raise SbomError(f"The list of {name} is no valid CycloneDX: {fault}")
    return written + "\n"


def moment() -> datetime:
    """That of `SOURCE_DATE_EPOCH` (reproducible-builds.org), else that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "log", "-1", "--format=%ct"]
        given = subprocess.run(command, cwd=locks.ROOT, capture_output=True, text=True, check=True).stdout
    return datetime.fromtimestamp(int(given), UTC)


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for name, lock in LISTS.items():
        path = FOLDER / f"sbom-{name}.cdx.json"
        try:
            path.write_text(made(name, lock, moment()))
        except SbomError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{path.relative_to(locks.ROOT)}: {sum(1 for _ in locks.read(lock))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
