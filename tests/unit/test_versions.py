"""Names of processors, and the versions that runs pin."""

import pytest

from gristmill.wire import versions


def test_a_processor_is_offered_as_every_prefix_of_its_version() -> None:
    assert versions.offered_as("image-variants", "1.20.3") == [
        "image-variants",
        "image-variants@1",
        "image-variants@1.20",
        "image-variants@1.20.3",
    ]


@pytest.mark.parametrize("wanted", ["checksum", "checksum@0", "checksum@1.2", "a-1@10.20.30"])
def test_what_a_run_may_ask_for(wanted: str) -> None:
    assert versions.is_wanted(wanted)
    assert versions.name_of(wanted) == wanted.split("@")[0]


@pytest.mark.parametrize(
    "wanted",
    ["", "@1", "Checksum", "checksum@", "checksum@01", "checksum@1.", "checksum@1.2.3.4", "checksum@v1", "x\n"],
)
def test_what_no_run_may_ask_for(wanted: str) -> None:
    assert not versions.is_wanted(wanted)
