"""Start-time fair queuing, without a store."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.job.domain.fairness import Flow, charges, deal, flow_key, parts_of
from services.job.domain.tenants import Tenant, Tenants

ALIKE = Tenants()


def order(flows: list[Flow], slots: int, clock: float = 0, tenants: Tenants = ALIKE) -> str:
    """The tenants in the order that their runs start in."""
    return "".join(flow.tenant for flow in deal(flows, clock, slots, tenants, {}))


def test_the_least_tag_goes_first_and_each_run_costs_the_inverse_of_the_weight() -> None:
    flows = [Flow("p", "a", tag=3, queued=9), Flow("p", "b", tag=2.5, queued=9)]
    assert order(flows, 5) == "babab"
    assert order(flows, 8, tenants=Tenants(named={"b": Tenant(weight=2)})) == "bbabbabb"


def test_a_tag_behind_the_clock_counts_as_the_clock() -> None:
    flows = [Flow("p", "a", tag=10, queued=9), Flow("p", "b", tag=1, queued=9)]
    assert order(flows, 6, clock=10) == "bababa"


def test_what_nobody_is_known_to_have_goes_last() -> None:
    """The estimate may be wrong, so slots that are left are spent on it all the same."""
    flows = [Flow("p", "a", queued=1), Flow("p", "b", queued=3)]
    assert order(flows, 7) == "abbb" + "aaa"
    assert order([Flow("p", "a", queued=-5)], 3) == "aaa"


def test_a_tenant_with_little_room_starts_no_more_than_that() -> None:
    flows = [Flow("p", "a", queued=9), Flow("p", "b", queued=9), Flow("q", "a", queued=9)]
    room = {"a": 2, "b": None, "c": 0}
    dealt = deal([*flows, Flow("p", "c", queued=9)], 0, 6, ALIKE, room)
    assert Counter(flow.tenant for flow in dealt) == {"a": 2, "b": 4}
    assert room == {"a": 0, "b": None, "c": 0}


def test_no_flows_and_no_slots() -> None:
    assert order([], 5) == ""
    assert order([Flow("p", "a")], 0) == ""


def test_flows_of_one_tenant_share_its_tag_and_take_turns() -> None:
    flows = [
        Flow("p", "a", tag=4, queued=9, last_start=3),
        Flow("q", "a", tag=1, queued=9),
        Flow("p", "b", tag=4, queued=9),
    ]
    dealt = deal(flows, 0, 6, ALIKE, {})
    assert Counter(flow.tenant for flow in dealt) == {"a": 3, "b": 3}
    assert [flow.processor for flow in dealt if flow.tenant == "a"] == ["q", "p", "q"]


@given(
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=2, max_size=5),
    batches=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    tags=st.lists(st.floats(0, 50), min_size=5, max_size=5),
)
def test_busy_tenants_are_never_further_apart_than_one_run_of_each(
    weights: list[float], batches: list[int], tags: list[float]
) -> None:
    """The paper's bound, whatever tags they come with and in whatever batches runs are taken."""
    tenants = Tenants(named={str(n): Tenant(weight=weight) for n, weight in enumerate(weights)})
    flows = [Flow("p", str(n), tag=tags[n], queued=1000) for n in range(len(weights))]
    clock = max(flow.tag for flow in flows)
    served: Counter[str] = Counter()
    for slots in batches:
        taken = Counter(flow.key for flow in deal(flows, clock, slots, tenants, {}))
        for tenant, charge in charges(flows, clock, taken, tenants).items():
            (flow,) = (flow for flow in flows if flow.tenant == tenant)
            flow.tag = max(flow.tag, charge.start) + charge.cost
            clock = max(clock, charge.clock)
        served.update(taken)
    shares = {n: served[flow_key("p", str(n))] / weight for n, weight in enumerate(weights)}
    for n, share in shares.items():
        for m, other in shares.items():
            assert abs(share - other) <= 1 / weights[n] + 1 / weights[m] + 1e-9


def test_a_flows_id_names_both_its_parts() -> None:
    assert parts_of(flow_key("checksum@1.2", "a b  c")) == ("checksum@1.2", "a b  c")
