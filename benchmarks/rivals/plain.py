"""The same question answered as most would write it: a FastAPI route, PyJWT on each request, one `find_one`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from benchmarks.rivals.serving import serve
from common.mongo.client import connect
from deploy.local import tokens

FIELDS = ("status", "name", "mimetype", "size", "processor", "attempt", "outputs")


def application(mongodb_uri: str, secret: str) -> FastAPI:
    jobs = connect(mongodb_uri)["front"]["jobs"]
    app = FastAPI()
    bearer = HTTPBearer()

    # `async`, or FastAPI would run it in a thread, which is slower still.
    async def asker(sent: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> tuple[str, str]:
        try:
            claims = jwt.decode(
                sent.credentials,
                secret,
                algorithms=[tokens.ALGORITHM],
                audience=tokens.AUDIENCE,
                issuer=tokens.ISSUER,
            )
        except jwt.PyJWTError:
            raise HTTPException(401) from None
        return claims["tid"], claims["sub"]

    @app.get("/api/v1/job/{job_id}/status")
    async def status(job_id: str, owner: Annotated[tuple[str, str], Depends(asker)]) -> dict[str, Any]:
        job = await jobs.find_one({"_id": job_id})
        if job is None or (job["tenant"], job["subject"]) != owner:
            raise HTTPException(404)
        return {"id": job_id, **{name: job[name] for name in FIELDS}}

    return app


if __name__ == "__main__":
    port, uri, secret_file = sys.argv[1:]
    serve(application(uri, Path(secret_file).read_text()), int(port))
