"""Tokens between services: short-lived JWTs (RFC 7519) signed with Ed25519 (RFC 8037).

Each caller has its own key; a service knows the public halves of those it lets in. A token names its caller
(`iss`) and is meant for one service (`aud`), so a stolen one opens nothing else and soon nothing at all.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from common.bounded import BoundedDict
from common.errors import Unauthorized

ALGORITHM = "EdDSA"
LIFETIME_SECONDS = 120
_CACHED_VERDICTS = 4096


class ServiceTokenSigner:
    """Makes this process's tokens; one is used again until half of its life is over."""

    def __init__(self, caller: str, key: Ed25519PrivateKey) -> None:
        self._caller = caller
        self._key = key
        self._tokens: dict[str, tuple[str, float]] = {}

    @classmethod
    def from_file(cls, caller: str, path: Path) -> "ServiceTokenSigner":
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError(f"{path} doesn't hold an Ed25519 private key.")
        return cls(caller, key)

    def token(self, audience: str) -> str:
        now = time.time()
        token, renew_at = self._tokens.get(audience, ("", 0.0))
        if now < renew_at:
            return token
        claims = {"iss": self._caller, "aud": audience, "iat": int(now), "exp": int(now) + LIFETIME_SECONDS}
        token = jwt.encode(claims, self._key, algorithm=ALGORITHM)
        self._tokens[audience] = (token, now + LIFETIME_SECONDS / 2)
        return token


class ServiceTokenVerifier:
    """Verifies tokens, and names their callers; verdicts are cached until the token expires."""

    def __init__(self, audience: str, keys: Mapping[str, list[Ed25519PublicKey]]) -> None:
        self._audience = audience
        self._keys = keys
        self._verdicts: BoundedDict[str, tuple[str, float]] = BoundedDict(_CACHED_VERDICTS)

    @classmethod
    def from_folder(cls, audience: str, folder: Path) -> "ServiceTokenVerifier":
        keys: dict[str, list[Ed25519PublicKey]] = {}
        for path in sorted(folder.glob("*.pem")):
            key = load_pem_public_key(path.read_bytes())
            if not isinstance(key, Ed25519PublicKey):
                raise TypeError(f"{path} doesn't hold an Ed25519 public key.")
            keys.setdefault(path.name.split(".", 1)[0], []).append(key)
        return cls(audience, keys)

    def caller(self, authorization: str | None) -> str:
        """The caller named by an `Authorization` header. Raises `Unauthorized`."""
        token = (authorization or "").removeprefix("Bearer ")
        caller, expires_at = self._verdicts.get(token, ("", 0.0))
        if time.time() < expires_at:
            return caller
        caller, expires_at = self._verify(token)
        self._verdicts[token] = (caller, expires_at)
        return caller

    def _verify(self, token: str) -> tuple[str, float]:
        try:
            issuer: object = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except jwt.InvalidTokenError:
            raise Unauthorized from None
        if not isinstance(issuer, str):
            raise Unauthorized
        for key in self._keys.get(issuer, []):
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[ALGORITHM],
                    audience=self._audience,
                    issuer=issuer,
                    options={"require": ["exp", "iss", "aud"]},
                )
            except jwt.InvalidTokenError:
                continue
            return issuer, float(claims["exp"])
        raise Unauthorized
