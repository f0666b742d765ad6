"""Ids that follow from another."""

from uuid import UUID

from common.ids import id_within, is_job_id, new_id


def test_an_id_within_another_is_the_same_each_time_and_in_order() -> None:
    parent = new_id()
    ids = [id_within(parent, position) for position in range(1_000)]
    assert ids == [id_within(parent, position) for position in range(1_000)]
    assert ids == sorted(ids)
    assert len({*ids, parent}) == 1_001
    assert all(map(is_job_id, ids))
    assert {UUID(each).int >> 80 for each in ids} == {UUID(parent).int >> 80}


def test_those_of_two_parents_differ() -> None:
    assert id_within(new_id(), 0) != id_within(new_id(), 0)
