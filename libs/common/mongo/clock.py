"""Moments by the database's clock, for pipelines and filters: no process's clock decides about a lease.

`$$NOW` works in pipelines and in `$expr` only. All lengths are in seconds, and are rounded to milliseconds.
"""

from collections.abc import Mapping
from typing import Any

from common.mongo.client import Document

NOW = "$$NOW"


def from_now(seconds: float) -> Document:
    """The moment so many seconds from now."""
    return {"$add": [NOW, round(seconds * 1000)]}


def ago(seconds: float) -> Document:
    """The moment so many seconds before now."""
    return {"$subtract": [NOW, round(seconds * 1000)]}


def is_due(field: str) -> Mapping[str, Any]:
    """A filter: the moment in `field` has come."""
    return {field: {"$exists": True}, "$expr": {"$lte": [f"${field}", NOW]}}
