"""Fetches the keys that an issuer of users' tokens publishes (RFC 7517)."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from common.errors import Unavailable

MAX_BYTES = 256 * 1024
FETCH_SECONDS = 10.0


class JwksClient:
    """One address, set by the operator; nothing that a token says is ever fetched."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    async def fetch(self) -> Mapping[str, Any]:
        """The key set. Raises `Unavailable` when it can't be had."""
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                response = await self._http.get(self._url, headers={"Accept": "application/json"})
            response.raise_for_status()
            document = response.json() if len(response.content) <= MAX_BYTES else None
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise Unavailable("The issuer's keys can't be fetched.") from error
        if not isinstance(document, dict):
            raise Unavailable("The issuer's keys can't be read.")
        return document
