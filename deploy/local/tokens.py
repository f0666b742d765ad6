"""Tokens for users of a Gristmill on one machine: HS256, signed with the secret that `make up` made."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt

ALGORITHM = "HS256"
AUDIENCE = "gristmill"
ISSUER = "gristmill-local"
_RESERVED = frozenset({"tid", "sub", "iss", "aud", "iat", "exp"})


class TokenError(Exception):
    """The token can't be made as it was asked for; the message says why."""


def parse_claims(text: str) -> dict[str, Any]:
    """More claims, from a JSON object. Raises `TokenError`."""
    try:
        claims = json.loads(text)
    except ValueError as error:
        raise TokenError(f"CLAIMS is not JSON: {error}.") from None
    if not isinstance(claims, dict):
        raise TokenError('CLAIMS has to be a JSON object, such as {"email":"alice@example.org"}.')
    if taken := sorted(_RESERVED & claims.keys()):
        raise TokenError(f"CLAIMS can't set {', '.join(taken)}: use TENANT, SUB and TTL.")
    return claims


def make(secret: Path, tenant: str, subject: str, ttl: int, claims: Mapping[str, Any] | None = None) -> str:
    """A token that front takes for `ttl` seconds."""
    now = int(time.time())
    reserved = {"tid": tenant, "sub": subject, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + ttl}
    return jwt.encode({**(claims or {}), **reserved}, secret.read_text(), algorithm=ALGORITHM)
