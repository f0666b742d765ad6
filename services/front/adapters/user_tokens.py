"""Users' tokens: JWTs (RFC 7519, with the advice of RFC 8725) whose algorithms and keys are configured, never chosen
by the token.

A verdict is cached for 5 minutes at most, never past `exp`, and dies with its key.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import jwt

from common.bounded import BoundedDict
from common.errors import Unauthorized, Unavailable
from common.logging import get_logger
from services.front.domain.job import Owner

MAX_TOKEN_BYTES = 8 * 1024
MAX_NAME_CHARACTERS = 256
CACHE_SECONDS = 300.0
CACHED_VERDICTS = 8192
REFETCH_SECONDS = 300.0
UNKNOWN_KEY_SECONDS = 60.0
NEVER_FETCHED_SECONDS = 5.0

# Headers that bring a key along, or name where one may be fetched: only an attacker needs them here.
_KEY_BEARING = frozenset({"jku", "x5u", "jwk"})
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")  # half of a surrogate pair can't be stored

Key = Any  # PyJWT takes a secret, a key object or PEM text, by algorithm
log = get_logger()


class StaticKeys:
    """One key that lasts as long as the process: an HS256 secret or a PEM public key."""

    def __init__(self, key: Key) -> None:
        self._key = key

    async def find(self, _kid: str | None) -> Key | None:
        return self._key


class JwksKeys:
    """An issuer's published keys: fetched every 5 minutes, and for an unknown `kid` at most once a minute."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Mapping[str, Any]]],
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._on_change = on_change
        self._clock = clock
        self._document: Mapping[str, Any] | None = None
        self._keys: dict[str | None, Key] = {}
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None) -> Key | None:
        """The key of that name, or the only one when the token names none. Raises `Unavailable`."""
        if self._is_due(REFETCH_SECONDS):
            await self._refetch(REFETCH_SECONDS)
        if self._document is None or (kid is not None and kid not in self._keys):
            # Waits for a fetch that is under way, so that the second to bring a new key isn't refused.
            await self._refetch(UNKNOWN_KEY_SECONDS)
        if self._document is None:
            raise Unavailable("The issuer's keys can't be fetched.")
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def follow(self) -> None:
        """Fetch every 5 minutes, so that a key which is withdrawn dies even if its tokens are cached."""
        while True:
            await self._refetch(REFETCH_SECONDS)
            await asyncio.sleep(UNKNOWN_KEY_SECONDS)

    def _is_due(self, after_seconds: float) -> bool:
        wait = NEVER_FETCHED_SECONDS if self._document is None else after_seconds
        return self._clock() - self._tried_at >= wait

    async def _refetch(self, older_than: float) -> None:
        async with self._fetching:
            if not self._is_due(older_than):
                return
            self._tried_at = self._clock()
            try:
                document = await self._fetch()
                keys = _keys_of(document)
            except (Unavailable, jwt.PyJWTError) as error:
                log.warning("jwks.unavailable", error=type(error).__name__)
                return
            if document != self._document:
                self._document, self._keys = document, keys
                self._on_change()


def _keys_of(document: Mapping[str, Any]) -> dict[str | None, Key]:
    if document.get("keys") == []:
        return {}  # All were withdrawn; PyJWT would take it for a fault, and they would go on being trusted.
    return {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(dict(document)).keys}


class UserTokens:
    """Verifies a token, and names its owner."""

    def __init__(
        self,
        *,
        algorithms: Sequence[str],
        audience: str,
        issuer: str,
        tenant_claim: str,
        subject_claim: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._algorithms = list(algorithms)
        self._audience = audience
        self._issuer = issuer
        self._tenant_claim = tenant_claim
        self._subject_claim = subject_claim
        self._clock = clock
        self._verdicts: BoundedDict[str, tuple[Owner, float, float]] = BoundedDict(CACHED_VERDICTS)
        self.keys: StaticKeys | JwksKeys = StaticKeys(None)

    def forget(self) -> None:
        """Drop every cached verdict: the keys have changed."""
        self._verdicts.clear()

    async def owner(self, authorization: str | None) -> Owner:
        """The owner named by an `Authorization` header. Raises `Unauthorized`."""
        return (await self._verdict(authorization))[0]

    async def seconds_left(self, authorization: str | None) -> float:
        return (await self._verdict(authorization))[2] - self._clock()

    async def _verdict(self, authorization: str | None) -> tuple[Owner, float, float]:
        """Who it is, until when that is cached, and when the token expires."""
        if authorization is None or not authorization[:7].lower() == "bearer ":
            raise Unauthorized
        token = authorization[7:]
        verdict = self._verdicts.get(token)
        if verdict is not None and self._clock() < verdict[1]:
            return verdict
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthorized
        owner, expires_at = await self._verify(token)
        verdict = self._verdicts[token] = (owner, min(expires_at, self._clock() + CACHE_SECONDS), expires_at)
        return verdict

    async def _verify(self, token: str) -> tuple[Owner, float]:
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            if header.get("alg") not in self._algorithms or not _KEY_BEARING.isdisjoint(header):
                raise Unauthorized
            key = await self.keys.find(kid)
            if key is None:
                raise Unauthorized
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                options={"require": ["exp", "aud", "iss"], "verify_sub": False},
            )
            if not all(_is_number(claims[claim]) for claim in ("exp", "nbf") if claim in claims):
                raise Unauthorized  # PyJWT would take "1" and true
            expires_at = float(claims["exp"])
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            # One answer for every fault: what is wrong with a token is nobody's business but its issuer's.
            raise Unauthorized from None
        return Owner(_name(claims.get(self._tenant_claim)), _name(claims.get(self._subject_claim))), expires_at


def _is_number(claim: object) -> bool:
    return isinstance(claim, int | float) and not isinstance(claim, bool)


def _name(claim: object) -> str:
    """A tenant or subject: a string of 1-256 characters, or an integer, which becomes one."""
    if isinstance(claim, int) and not isinstance(claim, bool):
        claim = str(claim)
    if not isinstance(claim, str) or not 0 < len(claim) <= MAX_NAME_CHARACTERS or _NOT_TEXT.search(claim):
        raise Unauthorized
    return claim
