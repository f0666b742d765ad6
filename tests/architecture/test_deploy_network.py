"""Networks: in Kubernetes and in Compose what can reach what is the arrows of the design, and nothing beside them."""

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.checks.kubernetes import Object
from tests.architecture import deployed
from tests.architecture.deployed import NAME, PROCESSES

# Who calls whom, at which port; the same as "Processes" in ARCHITECTURE.md.
INSIDE = {
    ("front", "blob", 8001),
    ("front", "job", 8002),
    ("tracker", "blob", 8001),
    ("tracker", "job", 8002),
    ("processor", "blob", 8001),
    ("processor", "job", 8002),
    ("job", "front", 8010),
}
TO_MONGODB = {(name, "mongodb", 27017) for name in ("front", "tracker", "job")}


def matches(selector: dict[str, Any], name: str) -> bool:
    """Whether a selector of pods takes those of this name."""
    labels = selector.get("matchLabels", {})
    listed = selector.get("matchExpressions", [])
    assert labels.keys() <= {NAME}
    assert all((each["key"], each["operator"]) == (NAME, "In") for each in listed)
    return labels.get(NAME, name) == name and all(name in each["values"] for each in listed)


def names(selector: dict[str, Any]) -> set[str]:
    return {name for name in (*PROCESSES, "mongodb") if matches(selector, name)}


def arrows(objects: tuple[Object, ...], direction: str) -> Iterator[tuple[str, str, int]]:
    """What policies of one direction let through between pods, as (from, to, port)."""
    side = "from" if direction == "ingress" else "to"
    for policy in deployed.of_kind(objects, "NetworkPolicy").values():
        for rule in policy["spec"].get(direction, []):
            for peer in rule[side]:
                if peer.keys() != {"podSelector"}:
                    continue
                for own in names(policy["spec"]["podSelector"]):
                    for other in names(peer["podSelector"]):
                        for port in rule["ports"]:
                            yield (other, own, port["port"]) if direction == "ingress" else (own, other, port["port"])


def beyond(objects: tuple[Object, ...], direction: str) -> set[tuple[str, str, tuple[int, ...]]]:
    """What policies let through to and from outside, as (pod, where, ports)."""
    side = "from" if direction == "ingress" else "to"
    found = set()
    for policy in deployed.of_kind(objects, "NetworkPolicy").values():
        for rule in policy["spec"].get(direction, []):
            for peer in rule[side]:
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    continue
                space = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name")
                where = space or peer["ipBlock"]["cidr"]
                ports = tuple(port["port"] for port in rule["ports"])
                found |= {(own, where, ports) for own in names(policy["spec"]["podSelector"])}
    return found


@pytest.mark.parametrize("direction", ["ingress", "egress"])
@pytest.mark.parametrize(("where", "more"), [("dev", TO_MONGODB), ("prod", set())])
def test_both_ends_of_each_arrow_are_let_through_and_nothing_else(
    direction: str, where: str, more: set[tuple[str, str, int]]
) -> None:
    assert set(arrows(deployed.overlay(where), direction)) == INSIDE | more


@pytest.mark.parametrize("where", ["dev", "prod"])
def test_what_isnt_let_through_is_denied(where: str) -> None:
    denial = deployed.of_kind(deployed.overlay(where), "NetworkPolicy")["default-deny"]["spec"]
    assert denial == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_prod_reaches_its_database_store_and_issuer_and_nobody_reaches_blob_from_outside() -> None:
    objects = deployed.overlay("prod")
    everywhere = "0.0.0.0/0"
    assert beyond(objects, "egress") == {
        *((name, "kube-system", (53, 53)) for name in (*PROCESSES, "mongodb")),
        *((name, everywhere, (27015,)) for name in ("front", "tracker", "job")),
        ("blob", everywhere, (443,)),
        ("front", everywhere, (443,)),
    }
    assert beyond(objects, "ingress") == {
        ("front", "ingress-nginx", (8000,)),
        *((name, "monitoring", (port,)) for name, port in (("front", 8010), ("blob", 8001), ("job", 8002))),
    }


def test_dev_reaches_nothing_outside_but_names() -> None:
    objects = deployed.overlay("dev")
    assert {where for _, where, _ in beyond(objects, "egress")} == {"kube-system"}
    assert {own for own, _, _ in beyond(objects, "ingress")} == {"front", "blob", "job"}


def test_compose_publishes_front_and_the_store_to_this_machine_only() -> None:
    published = {name: service.get("ports", []) for name, service in deployed.compose()["services"].items()}
    assert {name: ports for name, ports in published.items() if ports} == {
        "front": ["127.0.0.1:${FRONT_PORT:-8000}:8000"],
        "s3": ["127.0.0.1:${S3_PORT:-8333}:8333"],
    }


def test_compose_has_a_network_for_each_arrow() -> None:
    described = deployed.compose()
    networks = {
        network: {name for name, service in described["services"].items() if network in service["networks"]}
        for network in described["networks"]
    }
    assert networks == {
        "public": {"front"},
        "public-s3": {"s3"},
        "inside": set(PROCESSES),
        "database": {"mongodb", "front", "tracker", "job"},
        "storage": {"s3", "blob", "s3-setup"},
    }
    assert {name for name, network in described["networks"].items() if not network.get("internal")} == {
        "public",
        "public-s3",
    }


def test_compose_confines_every_container() -> None:
    for name, service in deployed.compose()["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert ("cap_add" in service) == (name == "s3"), name
