"""What containers are told and given, as docker-compose.yml and deploy/k8s say it."""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from deploy.checks import kubernetes
from deploy.checks.kubernetes import Object
from tests.support.pages import page

PROCESSES = ("front", "tracker", "blob", "job", "processor")
NAME = "app.kubernetes.io/name"


@dataclass
class Told:
    """One container: its variables, the files and folders it finds, and which keys of which Secrets it sees."""

    variables: dict[str, str]
    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    secrets: set[tuple[str, str]] = field(default_factory=set)


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(page("docker-compose.yml"))
    return loaded


def told_by_compose(service: str) -> Told:
    described = compose()["services"][service]
    secrets = described.get("secrets", [])
    mounts = [volume.split(":") for volume in described.get("volumes", [])]
    return Told(
        described["environment"],
        {f"/run/secrets/{name}" for name in secrets},
        {mount[1] for mount in mounts if len(mount) > 1},
        {("compose", name) for name in secrets},
    )


def image_variables(target: str) -> dict[str, str]:
    """What the image's own stage sets."""
    stage = re.split(r"^FROM ", page("deploy/docker/Dockerfile").split(f" AS {target}\n")[1], flags=re.MULTILINE)[0]
    lines = re.findall(r"^ENV (.+)$", stage, flags=re.MULTILINE)
    return dict(word.split("=", 1) for line in lines for word in line.split())


@cache
def overlay(name: str) -> tuple[Object, ...]:
    return tuple(kubernetes.build(kubernetes.K8S / "overlays" / name))


@cache
def base_with(*components: str) -> tuple[Object, ...]:
    return tuple(kubernetes.build_with(components))


def of_kind(objects: tuple[Object, ...], *kinds: str) -> dict[str, Object]:
    """By their names."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] in kinds}


def pods(objects: tuple[Object, ...]) -> dict[str, Any]:
    """The specifications of all pods, by the names of their Deployments and the like."""
    found = of_kind(objects, "Deployment", "StatefulSet", "Job", "CronJob", "DaemonSet")
    return {name: each["spec"]["template"]["spec"] for name, each in found.items()}


def told_by_kubernetes(objects: tuple[Object, ...], process: str) -> Told:
    pod = pods(objects)[process]
    (container,) = pod["containers"]
    maps = of_kind(objects, "ConfigMap")
    told = Told({})
    for source in container.get("envFrom", []):
        told.variables |= maps[source["configMapRef"]["name"]]["data"]
    for variable in container.get("env", []):
        if "value" in variable:
            told.variables[variable["name"]] = variable["value"]
            continue
        reference = variable["valueFrom"]["secretKeyRef"]
        told.secrets.add((reference["name"], reference["key"]))
        told.variables[variable["name"]] = "by reference"
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        volume, place = volumes.get(mount["name"], {}), PurePosixPath(mount["mountPath"])
        told.folders.add(str(place))
        for item in volume.get("secret", {}).get("items", []):
            told.secrets.add((volume["secret"]["secretName"], item["key"]))
            told.files.add(str(place / item["path"]))
    return told


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
