"""Marks for tests."""

from typing import Any

import pytest


def long(*values: Any) -> list[Any]:
    """Parameters that only `make test-long` tries."""
    return [pytest.param(value, marks=pytest.mark.long) for value in values]
