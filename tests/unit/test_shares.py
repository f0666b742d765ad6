"""No holder takes what the others need, however many come, and whatever they do."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Problem, TooManyRequests, Unavailable
from common.shares import Share, Shares
from services.front.domain.job import Owner


def take_all(shares: Shares, owner: Owner) -> int:
    """How many this owner gets, who takes as many as they may."""
    taken = 0
    while True:
        try:
            shares.take(owner)
        except Problem:
            return taken
        taken += 1


def test_one_owner_alone_gets_a_third_and_leaves_the_rest() -> None:
    shares = Shares("things", 300)
    assert take_all(shares, Owner("acme", "alice")) == 100
    with pytest.raises(TooManyRequests, match="You have too many things already"):
        shares.take(Owner("acme", "alice"))


def test_all_subjects_of_a_tenant_leave_another_tenant_half() -> None:
    shares = Shares("things", 300)
    assert sum(take_all(shares, Owner("acme", str(n))) for n in range(300)) == 150
    assert take_all(shares, Owner("other", "bob")) == 50


def test_whoever_comes_new_finds_a_place_beside_greedy_tenants() -> None:
    shares = Shares("things", 300)
    taken = [sum(take_all(shares, Owner(f"greedy-{tenant}", str(n))) for n in range(100)) for tenant in range(5)]
    assert taken == [150, 75, 38, 19, 9]
    shares.take(Owner("victim", "carol"))


def test_what_is_used_up_is_nobodys_fault() -> None:
    shares = Shares("things", 1)
    with shares.take(Owner("acme", "alice")), pytest.raises(Unavailable, match="too many things"):
        shares.take(Owner("other", "bob"))
    shares.take(Owner("other", "bob"))


def test_a_share_that_may_not_grow_keeps_what_it_has() -> None:
    shares = Shares("bytes", 100)
    share = shares.take(Owner("acme", "alice"), 20)
    with pytest.raises(TooManyRequests):
        share.grow(50)
    assert shares.used == 20
    share.release()
    share.release()
    assert shares.used == 0


@given(
    most=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 20), st.booleans())),
)
def test_what_is_released_is_free_again_and_no_more_is_given_than_there_is(
    most: int, steps: list[tuple[int, int, int, bool]]
) -> None:
    shares, held = Shares("things", most), list[tuple[int, Share]]()
    for tenant, subject, amount, release in steps:
        with contextlib.suppress(Problem):
            held.append((amount, shares.take(Owner(str(tenant), str(subject)), amount)))
        if release and held:
            held.pop(0)[1].release()
        assert shares.used == sum(amount for amount, _ in held) <= most
    for _, share in held:
        share.release()
    assert shares.used == 0
    assert shares.take(Owner("0", "0"), most)
