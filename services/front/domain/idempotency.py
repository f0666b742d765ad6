"""Idempotency keys: what a key is, what makes two requests the same, and what is remembered of one."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.errors import Malformed
from services.front.domain.job import Owner

MAX_KEY_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is known of a key: the id that was minted for what it makes, and who has the lease."""

    id: str
    mine: bool
    """The lease is this caller's."""
    taken_over: bool
    """Another request with this key had the lease before, and may have got anywhere."""
    fingerprint: str | None
    """Of the request that is being carried out, or was; None until its whole body has come."""
    done: bool
    lease_seconds: float
    """How much longer the lease holds."""


def checked_key(fields: Sequence[str]) -> str | None:
    """The value of the header's fields, None when there is none. It is compared as it is, quotes and all. Raises
    `Malformed` unless it is one of 1-255 visible ASCII characters.
    """
    if not fields:
        return None
    key = fields[0]
    if len(fields) > 1 or not 1 <= len(key) <= MAX_KEY_CHARACTERS or not all("!" <= letter <= "~" for letter in key):
        raise Malformed(f"An Idempotency-Key is 1-{MAX_KEY_CHARACTERS} visible ASCII characters, once.")
    return key


def scope_of(owner: Owner, route: str, key: str) -> str:
    """Under which name a key is remembered: nobody else's, no other route's."""
    return _digest([owner.tenant, owner.subject, route, key]).hexdigest()


class Fingerprint:
    """The SHA-256 of what a request has beside its body (`head` and `params`), and then of the body's bytes."""

    def __init__(self, head: Sequence[str | None], params: Iterable[tuple[str, str]]) -> None:
        # As JSON, so that no two lists are written the same.
        self._digest = _digest([head, sorted(params)])

    def update(self, content: bytes) -> None:
        self._digest.update(content)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _digest(value: object) -> "hashlib._Hash":
    return hashlib.sha256(json.dumps(value).encode())
