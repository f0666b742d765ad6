"""JSON calls between services, over httpx."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
from pydantic import ValidationError

from common import telemetry
from common.auth import ServiceTokenSigner
from common.clients.bulkhead import MOST_CALLS, Bulkhead
from common.errors import BadGateway, Unavailable, problem_from
from common.retries import RetryBudget, pauses
from gristmill.wire.base import Wire

CALL_SECONDS = 5.0
MOST_TRIES = 3

Model = TypeVar("Model", bound=Wire)


class ServiceHttp:
    """Calls one service (`audience`) at one address, and turns its problem documents back into exceptions.

    A call ends within its `timeout`, all its tries together. With `retries` one whose connection broke is made again:
    every call of ours is safe to repeat. One that is only slow is not, for its service has enough to do.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        signer: ServiceTokenSigner,
        audience: str,
        *,
        retries: RetryBudget | None = None,
        most_calls: int = MOST_CALLS,
    ) -> None:
        self._http = http
        self._signer = signer
        self._audience = audience
        self._retries = retries
        self._bulkhead = Bulkhead(audience, most_calls)

    async def get(self, path: str, model: type[Model]) -> Model:
        return _read(await self._send("GET", path, None), model)

    async def post(self, path: str, body: Wire | None, model: type[Model], timeout: float = CALL_SECONDS) -> Model:
        return _read(await self._send("POST", path, body, timeout), model)

    async def send(self, path: str, body: Wire) -> None:
        """POST where the response has no body."""
        await self._send("POST", path, body)

    async def delete(self, path: str) -> None:
        await self._send("DELETE", path, None)

    async def _send(self, method: str, path: str, body: Wire | None, timeout: float = CALL_SECONDS) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._signer.token(self._audience)}", **telemetry.headers()}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = body.to_wire()
        request = self._http.build_request(method, path, content=content, headers=headers, timeout=timeout)
        with self._bulkhead:
            try:
                # httpx's own timeouts are each for a piece of the call, and have no sum.
                async with asyncio.timeout(timeout):
                    response = await self._tried(request)
            except (httpx.TransportError, TimeoutError) as error:
                raise Unavailable(f"{self._audience} can't be reached: {type(error).__name__}.") from error
        if response.is_success:
            return response
        raise problem_from(response.status_code, _document(response), response.headers.get("retry-after"))

    async def _tried(self, request: httpx.Request) -> httpx.Response:
        pause = pauses()
        for _ in range(MOST_TRIES - 1):
            try:
                response = await self._http.send(request)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if self._retries is None or not self._retries.take():
                    raise
                await asyncio.sleep(next(pause))
            else:
                if self._retries is not None:
                    self._retries.earn()
                return response
        return await self._http.send(request)


def _document(response: httpx.Response) -> dict[str, object]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _read(response: httpx.Response, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise BadGateway from error


@asynccontextmanager
async def open_http(
    base_url: str, *, timeout: float = CALL_SECONDS, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A connection pool for one service; tests hand in a transport that stays in the process."""
    # Kept for less long than servers keep them, or a request could go into a connection that is being closed.
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=4)
    async with httpx.AsyncClient(
        base_url=base_url, timeout=timeout, limits=limits, transport=transport, trust_env=False
    ) as client:
        yield client
