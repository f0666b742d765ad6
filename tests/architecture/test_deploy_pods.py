"""Pods: confined, watched, stopped gently, spread, and no more of blob than its store can bear."""

from typing import Any

import pytest
from pydantic_settings import BaseSettings

from deploy.checks import kubernetes
from services.processor.worker import GIVE_BACK_SECONDS
from tests.architecture import deployed
from tests.architecture.deployed import NAME, PROCESSES
from tests.architecture.test_deploy_settings import KINDS, with_image

OVERLAYS = ("dev", "prod")
PORTLESS = ("tracker", "processor")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
# Between the end of a drain and that of the process: loops are stopped and connections closed.
CLOSING_SECONDS = 5
# Components that change nothing of how blob keeps bytes.
OTHERS = {"monitoring", "mongodb", "network-policies"}


def every_pod() -> list[Any]:
    return [
        pytest.param(where, name, id=f"{where}-{name}")
        for where in OVERLAYS
        for name in (*PROCESSES, *(["mongodb"] if where == "dev" else []))
    ]


def default(kind: type[BaseSettings], field: str) -> float:
    return float(kind.model_fields[field].default)


@pytest.mark.parametrize("where", OVERLAYS)
def test_there_is_nothing_but_what_is_listed(where: str) -> None:
    expected = {*PROCESSES, *(["mongodb"] if where == "dev" else [])}
    assert deployed.pods(deployed.overlay(where)).keys() == expected


@pytest.mark.parametrize(("where", "name"), every_pod())
def test_a_pod_is_restricted(where: str, name: str) -> None:
    pod = deployed.pods(deployed.overlay(where))[name]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"hostNetwork", "hostPID", "hostIPC", "initContainers"}.isdisjoint(pod)


@pytest.mark.parametrize(("where", "name"), every_pod())
def test_a_pod_has_an_account_of_its_own_without_a_token(where: str, name: str) -> None:
    objects = deployed.overlay(where)
    pod = deployed.pods(objects)[name]
    assert pod["serviceAccountName"] == name
    assert pod["automountServiceAccountToken"] is False
    assert deployed.of_kind(objects, "ServiceAccount")[name]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("where", "name"), every_pod())
def test_a_pod_is_not_told_of_services_in_names_that_are_settings(where: str, name: str) -> None:
    # A Service `front` would set FRONT_PORT to `tcp://…`.
    assert deployed.pods(deployed.overlay(where))[name]["enableServiceLinks"] is False


@pytest.mark.parametrize(("where", "name"), every_pod())
def test_a_pod_asks_for_what_it_needs_and_gets_no_more(where: str, name: str) -> None:
    (container,) = deployed.pods(deployed.overlay(where))[name]["containers"]
    for bound in ("requests", "limits"):
        assert container["resources"][bound].keys() == {"cpu", "memory", "ephemeral-storage"}


@pytest.mark.parametrize("where", OVERLAYS)
@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_probed_by_its_routes_or_by_its_file(where: str, name: str) -> None:
    (container,) = deployed.pods(deployed.overlay(where))[name]["containers"]
    if name in PORTLESS:
        assert "ports" not in container
        file = deployed.image_variables(name)[f"{KINDS[name].model_config['env_prefix']}ALIVE_FILE"]
        for probe in PROBES:
            assert container[probe]["exec"]["command"] == ["python", "-m", "common.probe", file]
    else:
        assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


@pytest.mark.parametrize("where", OVERLAYS)
@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_not_killed_while_it_drains(where: str, name: str) -> None:
    told = with_image(where, name)
    prefix, fields = KINDS[name].model_config["env_prefix"], KINDS[name].model_fields

    def seconds(field: str) -> float:
        return float(told.get(f"{prefix}{field}".upper(), default(KINDS[name], field))) if field in fields else 0

    most = seconds("notice_seconds") + seconds("drain_seconds") + (GIVE_BACK_SECONDS if name == "processor" else 0)
    grace = deployed.pods(deployed.overlay(where))[name]["terminationGracePeriodSeconds"]
    assert most + CLOSING_SECONDS <= grace <= 2 * most + 30


@pytest.mark.parametrize("where", OVERLAYS)
@pytest.mark.parametrize("name", PROCESSES)
def test_a_node_that_is_emptied_takes_one_at_a_time_and_a_zone_not_all(where: str, name: str) -> None:
    objects = deployed.overlay(where)
    budget = deployed.of_kind(objects, "PodDisruptionBudget")[name]["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": {NAME: name}}}
    spread = deployed.pods(objects)[name]["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert all(each["labelSelector"] == {"matchLabels": {NAME: name}} for each in spread)


@pytest.mark.parametrize(
    "components", [names for names in kubernetes.every_combination() if not OTHERS.intersection(names)]
)
def test_there_is_one_blob_unless_it_keeps_bytes_on_s3(components: tuple[str, ...]) -> None:
    objects = deployed.base_with(*components)
    blob = deployed.of_kind(objects, "Deployment")["blob"]["spec"]
    scaled = "blob" in deployed.of_kind(objects, "HorizontalPodAutoscaler")
    volumes = {volume["name"] for volume in blob["template"]["spec"]["volumes"]}
    claims = set(deployed.of_kind(objects, "PersistentVolumeClaim"))
    store = deployed.told_by_kubernetes(objects, "blob").variables.get("BLOB_STORE")
    if "s3" in components:
        assert (scaled, store, blob["strategy"]["type"], claims) == (True, "s3", "RollingUpdate", set())
        assert "replicas" not in blob
        assert "data" not in volumes
        assert "blob" not in deployed.of_kind(objects, "Ingress")
    else:
        assert (scaled, store, blob["strategy"]["type"], claims) == (False, None, "Recreate", {"blob"})
        assert blob["replicas"] == 1
        assert "data" in volumes
        assert ("blob" in deployed.of_kind(objects, "Ingress")) == ("ingress" in components)


def test_what_is_scaled_by_load_has_no_number_of_its_own() -> None:
    objects = deployed.overlay("prod")
    scaled = deployed.of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    assert {each["spec"]["scaleTargetRef"]["name"] for each in scaled.values()} == {"front", "blob", "processor"}
    deployments = deployed.of_kind(objects, "Deployment")
    assert {name for name, each in deployments.items() if "replicas" not in each["spec"]} == {*scaled}


def test_streams_of_events_are_let_through_as_long_as_they_may_last() -> None:
    notes = deployed.of_kind(deployed.overlay("prod"), "Ingress")["front"]["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/"
    assert float(notes[f"{prefix}proxy-read-timeout"]) >= default(KINDS["front"], "stream_seconds")
    assert notes[f"{prefix}proxy-buffering"] == notes[f"{prefix}proxy-request-buffering"] == "off"
    assert notes[f"{prefix}proxy-body-size"] == "0"
