"""Who sent an object, when, and what it was declared to be: S3's metadata of it."""

from datetime import datetime
from urllib.parse import quote

from common.contracts.blob import BlobLabels
from common.contracts.upload import UploadFacts

# S3 takes 2 KB of metadata for each object, its names included.
MAX_LABEL_BYTES = 450


Labelled = UploadFacts | BlobLabels


def labels(of: Labelled) -> dict[str, str]:
    """Percent-encoded, and cut where it is too long."""
    values = {"tenant": of.tenant, "subject": of.subject, "name": of.name, "media-type": of.media_type}
    return {key: _label(value) for key, value in values.items()}


def stored(of: Labelled, at: datetime) -> dict[str, str]:
    """The labels of what was sent at that moment."""
    return {**labels(of), "uploaded": at.isoformat(timespec="seconds")}


def _label(text: str) -> str:
    label = ""
    for character in text:
        encoded = quote(character, safe="", errors="replace")
        if len(label) + len(encoded) > MAX_LABEL_BYTES:
            break
        label += encoded
    return label
