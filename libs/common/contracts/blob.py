"""What blob says and hears."""

from common.contracts import Timestamp, Wire


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
    """A page of blobs in the store's own order. `next` goes into `after`; None says that this was the last page."""

    items: list[BlobListItem]
    next: str | None = None
