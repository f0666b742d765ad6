"""Builds every combination of deploy/k8s, and checks it against schemas, and by what checkov knows of safety."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deploy.checks.custom import CUSTOM

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-tools" / "bin"
KUBECTL = Path(sys.prefix) / "bin" / "kubectl"
K8S = ROOT / "deploy" / "k8s"
VERSION = "1.33"
OVERLAYS = ("dev", "prod")
# In this order: s3 takes back what ingress and network-policies do for a blob without it; mongodb narrows the latter.
COMPONENTS = ("ingress", "network-policies", "mongodb", "s3", "autoscaling", "monitoring")

Object = dict[str, Any]


class CheckError(Exception):
    """The manifests aren't well; the message says which, and what is wrong."""


def build(folder: Path) -> list[Object]:
    """What kustomize makes of a folder. Raises `CheckError`."""
    built = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    if built.returncode:
        raise CheckError(f"{folder}: {built.stderr.strip()}")
    return list(yaml.load_all(built.stdout, Loader=yaml.CSafeLoader))


def build_with(components: Iterable[str]) -> list[Object]:
    """The base with these components."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        paths = {name: os.path.relpath(K8S / "components" / name, place) for name in components}
        kustomization = {
            "namespace": "gristmill",
            "resources": [os.path.relpath(K8S / "base", place)],
            "components": list(paths.values()),
        }
        (place / "kustomization.yaml").write_text(json.dumps(kustomization))
        return build(place)


def every_combination() -> list[tuple[str, ...]]:
    return [names for count in range(len(COMPONENTS) + 1) for names in combinations(COMPONENTS, count)]


def build_all() -> dict[str, list[Object]]:
    """Both overlays, and the base with every combination of components."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wanted = every_combination()
        overlays = pool.map(build, [K8S / "overlays" / name for name in OVERLAYS])
        combined = pool.map(build_with, wanted)
        return {
            **dict(zip(OVERLAYS, overlays, strict=True)),
            **{f"base {' '.join(names)}": objects for names, objects in zip(wanted, combined, strict=True)},
        }


def distinct(builds: dict[str, list[Object]]) -> list[Object]:
    """Each object once: most are the same in every combination."""
    found = {json.dumps(each, sort_keys=True): each for objects in builds.values() for each in objects}
    return list(found.values())


def validate(objects: list[Object]) -> None:
    """Against the schemas of Kubernetes, where no unknown field is let through. Raises `CheckError`."""
    standard = [each for each in objects if each["kind"] not in CUSTOM]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(yaml.dump_all(standard, Dumper=yaml.CSafeDumper))
        file.flush()
        done = subprocess.run(
            [TOOLS / "kubernetes-validate", "-k", VERSION, "--strict", file.name],
            capture_output=True,
            text=True,
            check=False,
        )
    said = [line for line in (done.stdout + done.stderr).splitlines() if " passed for resource " not in line]
    if done.returncode or said:  # a kind without a schema is only warned of
        raise CheckError("\n".join(said))
    for each in objects:
        if each["kind"] in CUSTOM:
            try:
                CUSTOM[each["kind"]].model_validate(each)
            except ValidationError as error:
                raise CheckError(str(error)) from None


def scan(objects: list[Object]) -> None:
    """By checkov; what is skipped, and why, is in checkov.yaml beside this. Raises `CheckError`."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "all.yaml").write_text(yaml.dump_all(objects, Dumper=yaml.CSafeDumper))
        done = subprocess.run(
            [
                TOOLS / "checkov",
                *("-d", folder, "--framework", "kubernetes", "--compact", "--quiet", "--skip-download"),
                *("--config-file", Path(__file__).with_name("checkov.yaml"), "-o", "json"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        report = json.loads(done.stdout)
        passed, failed = report["summary"]["passed"], report["results"]["failed_checks"]
    except (ValueError, KeyError, TypeError):
        raise CheckError(f"checkov gave no report: {done.stderr.strip() or done.stdout[:500]}") from None
    if failed or not passed:
        lines = {f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in failed}
        raise CheckError("\n".join(sorted(lines) or ["checkov has looked at nothing."]))
