"""What Gristmill is made of: licences, the list of parts, and what is known against them."""

import json
import stat
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path

import pytest

from deploy.supply import audit, licences, locks, sbom

AT = datetime(2026, 11, 27, tzinfo=UTC)


def package(**fields: str) -> Message:
    told = Message()
    told["Name"] = "some-package"
    for field, value in fields.items():
        told[field.replace("_", "-")] = value
    return told


@pytest.mark.parametrize(
    ("fields", "expression"),
    [
        ({"License_Expression": "MIT OR GPL-3.0-only"}, "MIT OR GPL-3.0-only"),
        ({"License": "Apache-2.0"}, "Apache-2.0"),
        ({"License": "Apache License 2.0"}, "Apache-2.0"),
        ({"License": "see LICENSE", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        ({"License": "see LICENSE"}, ""),
        ({}, ""),
    ],
)
def test_a_licence_is_read_from_what_a_package_says_of_itself(fields: dict[str, str], expression: str) -> None:
    assert licences.expression_of(package(**fields), {}) == expression  # type: ignore[arg-type]  # a Message is one


def test_what_is_stated_goes_before_what_a_package_says() -> None:
    said = package(License="dependency licenses")
    assert licences.expression_of(said, {"some-package": "ISC"}) == "ISC"  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT AND ISC) OR GPL-3.0-only", True),
        ("", False),
    ],
)
def test_a_choice_is_allowed_when_all_of_one_alternative_is(expression: str, allowed: bool) -> None:
    assert licences.is_allowed(expression, {"MIT": "", "ISC": ""}) is allowed


def test_a_package_whose_licence_is_not_allowed_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text("httpx==0.28.1 \\\n    --hash=sha256:" + "0" * 64 + "\nno-such-package==1 ; python_version < '3'\n")
    (fault,) = licences.faults(lock, {}, {"MIT": "permissive"})
    assert fault == "httpx is under BSD-3-Clause, which licences.toml doesn't allow: do without it."
    assert licences.faults(lock, {}, {"BSD-3-Clause": "permissive"}) == []


def test_the_list_of_parts_is_valid_and_the_same_each_time() -> None:
    written = sbom.made("processor", locks.PROCESSOR, AT)
    assert written == sbom.made("processor", locks.PROCESSOR, AT)
    listed = {part["name"]: part for part in json.loads(written)["components"]}
    assert listed.keys() == {locked.name for locked in locks.read(locks.PROCESSOR)}
    assert listed["pyvips-binary"]["licenses"] == [{"license": {"id": "LGPL-3.0-or-later"}}]
    assert all(part["hashes"] and part["licenses"] and part["purl"].startswith("pkg:pypi/") for part in listed.values())


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}, 0, "Nothing is known against the 1 packages"),
        (
            {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]},
            1,
            "a 1: CVE-1; mended in 2",
        ),
        ({"dependencies": [{"name": "a", "skip_reason": "not found"}]}, 3, "not audited: no source"),
        (None, 3, "not audited: no source of advisories could be asked (no way out)"),
    ],
    ids=["clean", "found", "unknown to the source", "no source"],
)
def test_an_audit_says_what_is_known_and_when_nobody_could_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: object, status: int, words: str
) -> None:
    pip_audit = tmp_path / "pip-audit"
    told = f"cat <<'END'\n{json.dumps(said)}\nEND" if said else "echo no way out >&2; exit 1"
    pip_audit.write_text(f"#!/bin/sh\n{told}\n")
    pip_audit.chmod(pip_audit.stat().st_mode | stat.S_IXUSR)
    assert audit.audit(pip_audit, locks.PROCESSOR) == status
    captured = capsys.readouterr()
    assert words in captured.out + captured.err
