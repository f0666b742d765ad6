"""The `Idempotency-Key` of a request."""

from typing import Annotated

from fastapi import Depends, Request

from services.front.use_cases.idempotency import Idempotency


async def _keys(request: Request) -> Idempotency:
    keys: Idempotency = request.app.state.idempotency
    return keys


Keys = Annotated[Idempotency, Depends(_keys)]


def key_fields(request: Request) -> list[str]:
    return request.headers.getlist("idempotency-key")
