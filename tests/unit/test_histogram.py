"""Our histogram tells a Prometheus what prometheus_client's own would."""

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from common.histogram import Histogram

BOUNDS = (0.005, 0.1, 1.0, 1024.0)
LABELS = ("method", "route")
values = st.one_of(st.sampled_from(BOUNDS), st.floats(0, 1e9, allow_nan=False))


@given(st.lists(st.tuples(st.sampled_from(["GET", "POST"]), st.sampled_from(["", "/a", 'b"\\\n']), values)))
def test_it_says_what_the_librarys_own_says(observed: list[tuple[str, str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("http_seconds", 'How "long".', LABELS, bounds=BOUNDS, registry=ours)
    library = prometheus_client.Histogram("http_seconds", 'How "long".', LABELS, buckets=BOUNDS, registry=theirs)
    for method, route, value in observed:
        mine.series(method, route).observe(value)
        library.labels(method, route).observe(value)
    said = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == said
    assert any("_bucket" in line for line in said) == bool(observed)


def test_labels_and_names_that_do_not_fit_are_refused() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("http_seconds", "How long.", LABELS, bounds=BOUNDS, registry=registry)
    with pytest.raises(ValueError, match="http_seconds"):
        histogram.series("GET")
    with pytest.raises(ValueError, match="http_seconds"):
        Histogram("http_seconds", "How long.", LABELS, bounds=BOUNDS, registry=registry)
