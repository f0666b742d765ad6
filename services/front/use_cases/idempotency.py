"""Idempotency keys: of all equal requests one creates something, and the others get what it created.

The semantics are those of draft-ietf-httpapi-idempotency-key-header. A request reserves its key before its body is
read, under a lease that it renews; it seals the key with its fingerprint when all is checked and nothing is written
yet; it is done when what it makes is written. A lease that lapses is taken over with the same id, so what a dead front
had written already is found by it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from common.errors import AlreadyExists, Conflict, IdempotencyKeyReused
from common.ids import new_id
from common.logging import get_logger
from common.loops import attempt, stop
from services.front.domain.idempotency import Fingerprint, Reservation, checked_key, scope_of
from services.front.domain.job import Owner
from services.front.ports import IdempotencyStore

RENEWALS_A_LEASE = 3

log = get_logger()


class IdempotentRequest:
    """A request that creates something under `id`, once; it `repeats` another when that is created already."""

    def __init__(self, job_id: str, *, repeats: bool = False) -> None:
        self.id = job_id
        self.repeats = repeats

    def describe(self, head: Sequence[str | None], params: Iterable[tuple[str, str]] = ()) -> None:
        """Begin the fingerprint with what the request has beside its body, before that is hashed."""

    async def hashed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body's bytes, as they pass."""
        async for chunk in chunks:
            yield chunk

    async def seal(self) -> None:
        """The body has come and is fit; what it makes is about to be written. Raises `Conflict` when the lease is lost,
        and `IdempotencyKeyReused`.
        """


class KeyedRequest(IdempotentRequest):
    """A request with an `Idempotency-Key`."""

    def __init__(
        self,
        store: IdempotencyStore,
        scope: str,
        token: str,
        known: Reservation,
        *,
        repeats: bool,
        lease_seconds: float,
    ) -> None:
        super().__init__(known.id, repeats=repeats)
        self._store = store
        self._scope = scope
        self._token = token
        self._known = known
        self._lease_seconds = lease_seconds
        self._fingerprint = Fingerprint((), ())

    def describe(self, head: Sequence[str | None], params: Iterable[tuple[str, str]] = ()) -> None:
        self._fingerprint = Fingerprint(head, params)

    async def hashed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._fingerprint.update(chunk)
            yield chunk

    async def seal(self) -> None:
        fingerprint = self._fingerprint.hexdigest()
        if self._known.fingerprint not in (None, fingerprint):
            raise IdempotencyKeyReused
        if self.repeats:
            return
        if not await self._store.seal(self._scope, self._token, fingerprint, self._lease_seconds):
            raise _under_way()


class Idempotency:
    """Distinguishes the first request with a key from those that repeat it."""

    def __init__(self, store: IdempotencyStore, *, keep_seconds: float, lease_seconds: float) -> None:
        self._store = store
        self._keep_seconds = keep_seconds
        self._lease_seconds = lease_seconds

    @asynccontextmanager
    async def request(
        self, owner: Owner, route: str, fields: Sequence[str], is_made: Callable[[str], Awaitable[bool]]
    ) -> AsyncIterator[IdempotentRequest]:
        """A request with these `Idempotency-Key` fields; without any, every request makes something. `is_made` checks
        whether what has an id is written. Raises `Malformed`, and `Conflict` while another request with the key runs.

        One that ends well is remembered as done, one that fails before `seal` is forgotten.
        """
        key = checked_key(fields)
        if key is None:
            yield IdempotentRequest(new_id())
            return
        scope, token = scope_of(owner, route, key), new_id()
        known = await self._store.reserve(scope, new_id(), token, self._lease_seconds, self._keep_seconds)
        if not (known.mine or known.done):
            raise _under_way()
        if known.done:
            yield self._keyed(scope, token, known, repeats=True)
            return
        renewing = asyncio.create_task(self._renew(scope, token))
        try:
            repeats = known.taken_over and await is_made(known.id)
            yield self._keyed(scope, token, known, repeats=repeats)
            await self._store.finish(scope, token, self._keep_seconds)
        except AlreadyExists:  # the front that died had stored other bytes under this id
            await self._release(scope, token)
            raise IdempotencyKeyReused from None
        except BaseException:
            await self._release(scope, token)
            raise
        finally:
            await stop(renewing)

    async def _renew(self, scope: str, token: str) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / RENEWALS_A_LEASE)
            await attempt("idempotency.renew", lambda: self._store.renew(scope, token, self._lease_seconds))

    def _keyed(self, scope: str, token: str, known: Reservation, *, repeats: bool) -> IdempotentRequest:
        return KeyedRequest(self._store, scope, token, known, repeats=repeats, lease_seconds=self._lease_seconds)

    async def _release(self, scope: str, token: str) -> None:
        try:
            await self._store.release(scope, token)
        except Exception:
            log.exception("idempotency.not_released")  # the lease lapses


def _under_way() -> Conflict:
    return Conflict("A request with this Idempotency-Key is under way.", headers={"Retry-After": "1"})
