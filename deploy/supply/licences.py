"""`make licences`: every package that is locked is under a licence that licences.toml allows."""

import re
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, get_spdx_licensing

from deploy.supply import locks

ALLOWED = Path(__file__).with_name("licences.toml")
_SPDX = get_spdx_licensing()
# How packages named their licences before metadata had a field for SPDX expressions (PEP 639).
_OLD_NAMES = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "bsd 2-clause license": "BSD-2-Clause",
    "mit license": "MIT",
    "unlicense": "Unlicense",
    "the unlicense (unlicense)": "Unlicense",
    "license :: osi approved :: apache software license": "Apache-2.0",
    "license :: osi approved :: isc license (iscl)": "ISC",
    "license :: osi approved :: mit license": "MIT",
    "license :: osi approved :: mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "license :: osi approved :: python software foundation license": "PSF-2.0",
}


def expression_of(package: PackageMetadata, stated: Mapping[str, str]) -> str:
    """A package's licence as an SPDX expression; empty where it can't be told."""
    name = re.sub(r"[-_.]+", "-", package["Name"]).lower()
    if name in stated:
        return stated[name]
    if "License-Expression" in package:
        return str(package["License-Expression"])
    told = [package["License"]] if "License" in package else []
    told += [line for line in package.get_all("Classifier", []) if line.startswith("License ::")]
    for text in told:
        if _is_known(text):
            return str(text)
        if (known := _OLD_NAMES.get(text.strip().lower())) is not None:
            return known
    return ""


def is_allowed(expression: str, allowed: Mapping[str, str]) -> bool:
    """Whether one choice that the expression leaves has allowed licences only."""
    return bool(expression) and _holds(_SPDX.parse(expression), allowed)


def faults(lock: Path, stated: Mapping[str, str], allowed: Mapping[str, str]) -> list[str]:
    """A sentence for each locked package whose licence isn't allowed, or can't be told."""
    found = []
    for package in locks.read(lock):
        try:
            expression = expression_of(metadata(package.name), stated)
        except PackageNotFoundError:
            found.append(f"{package.name} isn't installed: run `make setup`.")
            continue
        if not expression:
            found.append(f"{package.name} doesn't name its licence: read it, and state it in {ALLOWED.name}.")
        elif not is_allowed(expression, allowed):
            found.append(f"{package.name} is under {expression}, which {ALLOWED.name} doesn't allow: do without it.")
    return found


def rules() -> tuple[dict[str, str], dict[str, str]]:
    """What packages are stated to be under, and what is allowed."""
    read = tomllib.loads(ALLOWED.read_text())
    return read["stated"], read["allowed"]


def _is_known(text: str) -> bool:
    try:
        _SPDX.parse(text, validate=True, strict=True)
    except ExpressionError:
        return False
    return True


def _holds(part: Any, allowed: Mapping[str, str]) -> bool:  # the library's own types are untyped
    if isinstance(part, _SPDX.OR):
        return any(_holds(each, allowed) for each in part.args)
    if isinstance(part, _SPDX.AND):
        return all(_holds(each, allowed) for each in part.args)
    return part.key in allowed


def main() -> int:
    found = faults(locks.EVERYTHING, *rules())
    for fault in found:
        print(fault, file=sys.stderr)
    if not found:
        print("The licences of all packages are allowed.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
