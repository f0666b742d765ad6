"""What may pass is tried again, and what is definite comes out."""

import pytest

from common.errors import BadGateway, Invalid, Problem, StaleFence, StorageFull, Unavailable
from services.processor.retry import until_responded


class Other:
    """The other side, which raises what it is given, one after the other."""

    def __init__(self, *errors: Problem) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def call(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.mark.parametrize("error", [Problem(), Unavailable(), BadGateway(), StorageFull()])
async def test_whatever_fails_on_the_other_side_is_repeated(error: Problem) -> None:
    other = Other(error)
    assert await until_responded(other.call, "complete") == "done"
    assert other.calls == 2


@pytest.mark.parametrize("error", [StaleFence(), Invalid()])
async def test_a_refusal_is_not(error: Problem) -> None:
    other = Other(error)
    with pytest.raises(type(error)):
        await until_responded(other.call, "complete")
    assert other.calls == 1
