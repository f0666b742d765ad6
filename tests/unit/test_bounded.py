"""What is remembered has a limit."""

from common.bounded import BoundedDict


def test_what_was_set_longest_ago_is_forgotten() -> None:
    known: BoundedDict[str, int] = BoundedDict(2)
    known["a"], known["b"] = 1, 2
    known["a"] = 3
    known["c"] = 4
    assert known == {"a": 3, "c": 4}


def test_what_is_only_read_does_not_stay_longer() -> None:
    known: BoundedDict[str, int] = BoundedDict(2)
    known["a"], known["b"] = 1, 2
    assert known.get("a") == 1
    known["c"] = 3
    assert known == {"b": 2, "c": 3}
