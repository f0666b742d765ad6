"""Idempotency keys: of all equal requests one creates something, and the others get what it created.

The semantics are those of draft-ietf-httpapi-idempotency-key-header. A request reserves its key before its body is
read, under a lease that it renews; it seals the key with its fingerprint when all is checked and nothing is written
yet; it is done when what it makes is written. One that fails gives up its lease. A lease that lapses is taken over with
the same id, so what a dead front had written already is found by it.

A request that repeats one that is done makes nothing, so it is held to no limit.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from common.errors import AlreadyExists, Conflict, IdempotencyKeyReused, RateLimited, TooManyRequests, Unavailable
from common.ids import new_id
from common.loops import attempt, stop
from common.shares import Shares
from services.front.domain.idempotency import Fingerprint, Reservation, checked_key, scope_of
from services.front.domain.job import Owner
from services.front.ports import IdempotencyStore

RENEWALS_A_LEASE = 3
POLL_SECONDS = 0.5
RELEASE_PATIENCE_SECONDS = 1.0
RELEASE_AGAIN_SECONDS = 1.0


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
            raise _under_way(self._lease_seconds)


class Idempotency:
    """Distinguishes the first request with a key from those that repeat it. `admit` raises `RateLimited` or
    `TooManyRequests` for an owner who may make nothing now. A request that waits for another counts in `waits`.
    """

    def __init__(
        self,
        store: IdempotencyStore,
        admit: Callable[[Owner], Awaitable[None]],
        waits: Shares,
        *,
        keep_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._store = store
        self._admit = admit
        self._waits = waits
        self._keep_seconds = keep_seconds
        self._lease_seconds = lease_seconds
        self._releasing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def request(
        self,
        owner: Owner,
        route: str,
        fields: Sequence[str],
        is_made: Callable[[str], Awaitable[bool]],
        wait_seconds: float = 0,
    ) -> AsyncIterator[IdempotentRequest]:
        """A request with these `Idempotency-Key` fields; without any, every request makes something. `is_made` checks
        whether what has an id is written. Raises `Malformed`, what `admit` does, and `Conflict` when another request
        with the key still runs after `wait_seconds`, or there is no place to wait.

        One that ends well is remembered as done, one that fails before `seal` is forgotten.
        """
        try:
            await self._admit(owner)
        except (RateLimited, TooManyRequests):
            key = checked_key(fields)
            if key is None or not await self._store.is_done(scope_of(owner, route, key)):
                raise
        key = checked_key(fields)
        if key is None:
            yield IdempotentRequest(new_id())
            return
        scope, token = scope_of(owner, route, key), new_id()
        known = await self._reserved(owner, scope, token, wait_seconds)
        if known.done:
            yield self._keyed(scope, token, known, repeats=True)
            return
        if not known.mine:
            raise _under_way(known.lease_seconds)
        try:
            async with self._lease_kept(scope, token):
                repeats = known.taken_over and await is_made(known.id)
                yield self._keyed(scope, token, known, repeats=repeats)
                await self._store.finish(scope, token, self._keep_seconds)
        except AlreadyExists:  # the front that died had stored other bytes under this id
            await self._give_up(scope, token)
            raise IdempotencyKeyReused from None
        except BaseException:
            await self._give_up(scope, token)
            raise

    async def _reserved(self, owner: Owner, scope: str, token: str, wait_seconds: float) -> Reservation:
        """What is known of the key as soon as no other request runs with it, or when the seconds have passed."""
        try:
            known = await self._reserve(scope, token)
            if known.mine or known.done or wait_seconds <= 0:
                return known
            try:
                share = self._waits.take(owner)
            except (TooManyRequests, Unavailable):  # a preference that can't be kept is no failure
                return known
            with share:
                return await self._waited(scope, token, wait_seconds)
        except BaseException:
            await self._give_up(scope, token)  # the store may have reserved it all the same
            raise

    async def _waited(self, scope: str, token: str, wait_seconds: float) -> Reservation:
        clock = asyncio.get_running_loop()
        deadline = clock.time() + wait_seconds
        while True:
            await asyncio.sleep(min(max(0, deadline - clock.time()), POLL_SECONDS))
            known = await self._reserve(scope, token)
            if known.mine or known.done or clock.time() >= deadline:
                return known

    async def _reserve(self, scope: str, token: str) -> Reservation:
        return await self._store.reserve(scope, new_id(), token, self._lease_seconds, self._keep_seconds)

    @asynccontextmanager
    async def _lease_kept(self, scope: str, token: str) -> AsyncIterator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(self._lease_seconds / RENEWALS_A_LEASE)
                await attempt("idempotency.renew", lambda: self._store.renew(scope, token, self._lease_seconds))

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            await stop(renewing)

    async def _give_up(self, scope: str, token: str) -> None:
        """Release the key before the response, or as soon as the store can be reached again."""
        releasing = asyncio.create_task(self._release(scope, token))
        self._releasing.add(releasing)
        releasing.add_done_callback(self._releasing.discard)
        await asyncio.wait({releasing}, timeout=RELEASE_PATIENCE_SECONDS)

    async def _release(self, scope: str, token: str) -> None:
        clock = asyncio.get_running_loop()
        lapses_at = clock.time() + self._lease_seconds
        # A call to the store is never cancelled here: that can spoil its client for all.
        while not await attempt("idempotency.release", lambda: self._store.release(scope, token)):
            if clock.time() >= lapses_at:
                return
            await asyncio.sleep(RELEASE_AGAIN_SECONDS)

    def _keyed(self, scope: str, token: str, known: Reservation, *, repeats: bool) -> IdempotentRequest:
        return KeyedRequest(self._store, scope, token, known, repeats=repeats, lease_seconds=self._lease_seconds)


def _under_way(lease_seconds: float) -> Conflict:
    """The lease is over then, unless whoever has it still works."""
    seconds = max(1, math.ceil(lease_seconds))
    return Conflict("A request with this Idempotency-Key is under way.", headers={"Retry-After": str(seconds)})
