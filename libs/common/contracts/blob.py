"""The bodies of blob's API."""

from typing import Self
from urllib.parse import parse_qsl, urlencode

from pydantic import Field

from gristmill.wire.base import Timestamp, Wire

LABELS_HEADER = "Blob-Labels"


class BlobLabels(Wire):
    """Who handed in a blob, and what it was declared to be. A store keeps it where it has a place for it; nothing else
    uses it. It goes along in a header of its own.
    """

    tenant: str = Field(max_length=256)
    subject: str = Field(max_length=256)
    name: str = Field(max_length=1024)
    media_type: str = Field(max_length=255)

    def to_header(self) -> str:
        return urlencode(self.model_dump(), errors="replace")

    @classmethod
    def from_header(cls, value: str) -> Self:
        """Raises `ValueError`."""
        return cls.model_validate(dict(parse_qsl(value, keep_blank_values=True, max_num_fields=4)), by_name=True)


class BlobInfo(Wire):
    """A blob that is whole: its size in bytes and its SHA-256 in hex."""

    id: str
    size: int
    sha256: str


class BlobListItem(Wire):
    """A blob in a list; `stored_at` is when it became visible."""

    id: str
    stored_at: Timestamp


class BlobList(Wire):
    """A page of blobs in the store's own order. `next` goes into `after`; None on the last page."""

    items: list[BlobListItem]
    next: str | None = None
