"""Which ids a blob can have. An id becomes a file name or an object's key, so nothing else gets past here."""

from common.errors import Invalid, NotFound
from common.ids import is_blob_id

_RULE = "Blob ids are 1 to 128 of a-z, 0-9 and -, and don't begin with -."


def check_new(blob_id: str) -> None:
    """Raises `Invalid` for an id that no blob can have."""
    if not is_blob_id(blob_id):
        raise Invalid(_RULE)


def check_known(blob_id: str) -> None:
    """Raises `NotFound` for an id that no blob can have, like for one that no blob has."""
    if not is_blob_id(blob_id):
        raise NotFound


def check_cursor(prefix: str, after: str) -> None:
    """Raises `Invalid` unless both are empty or, as far as they go, ids."""
    for name, text in (("prefix", prefix), ("after", after)):
        if text and not is_blob_id(text):
            raise Invalid(errors=[{"pointer": f"/{name}", "detail": _RULE}])
