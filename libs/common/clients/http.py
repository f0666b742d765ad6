"""JSON calls between services, over httpx."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
from pydantic import ValidationError

from common.auth import ServiceTokenSigner
from common.contracts import Wire
from common.errors import BadGateway, Unavailable, problem_from

Answer = TypeVar("Answer", bound=Wire)


class ServiceHttp:
    """Calls one service (`audience`) at one address, and turns its problem documents back into exceptions."""

    def __init__(self, http: httpx.AsyncClient, signer: ServiceTokenSigner, audience: str) -> None:
        self._http = http
        self._signer = signer
        self._audience = audience

    async def get(self, path: str, answer: type[Answer]) -> Answer:
        return _read(await self._send("GET", path, None, None), answer)

    async def post(self, path: str, body: Wire | None, answer: type[Answer], timeout: float | None = None) -> Answer:
        return _read(await self._send("POST", path, body, timeout), answer)

    async def tell(self, path: str, body: Wire) -> None:
        """POST where the answer has no body."""
        await self._send("POST", path, body, None)

    async def delete(self, path: str) -> None:
        await self._send("DELETE", path, None, None)

    async def _send(self, method: str, path: str, body: Wire | None, timeout: float | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._signer.token(self._audience)}"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = body.to_wire()
        try:
            response = await self._http.request(
                method,
                path,
                content=content,
                headers=headers,
                timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout,
            )
        except httpx.TransportError as error:
            raise Unavailable(f"{self._audience} can't be reached: {type(error).__name__}.") from error
        if response.is_success:
            return response
        raise problem_from(response.status_code, _document(response), response.headers.get("retry-after"))


def _document(response: httpx.Response) -> dict[str, object]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _read(response: httpx.Response, answer: type[Answer]) -> Answer:
    try:
        return answer.model_validate_json(response.content)
    except ValidationError as error:
        raise BadGateway from error


@asynccontextmanager
async def open_http(
    base_url: str, *, timeout: float = 5.0, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A connection pool for one service; tests hand in a transport that stays in the process."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
    async with httpx.AsyncClient(
        base_url=base_url, timeout=timeout, limits=limits, transport=transport, trust_env=False
    ) as client:
        yield client
