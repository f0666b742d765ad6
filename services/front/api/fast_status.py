"""The status of a job, answered before FastAPI is reached: clients poll it, so it is the hottest path there is.

It is the route `GET /api/v1/job/{job_id}/status` of the OpenAPI page, and calls the very same authentication
(`Tokens.owner`) and ownership test (`ReadJob.status`) as that one, which keeps the requests that wait.
"""

from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

from common.ids import is_job_id
from common.web.problems import MEDIA_TYPE, problem_of
from services.front.api.views import PREFIX, status_view
from services.front.ports import Tokens
from services.front.use_cases.read import ReadJob

_BEFORE = f"{PREFIX}/job/"
_AFTER = "/status"


class FastStatus:
    """ASGI middleware that answers status reads without `Prefer`, and hands on everything else."""

    def __init__(self, app: ASGIApp, tokens: Tokens, read: ReadJob) -> None:
        self._app = app
        self._tokens = tokens
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            return await self._app(scope, receive, send)
        path: str = scope["path"]
        if not (path.startswith(_BEFORE) and path.endswith(_AFTER)):
            return await self._app(scope, receive, send)
        job_id = path[len(_BEFORE) : -len(_AFTER)]
        if not is_job_id(job_id):
            return await self._app(scope, receive, send)
        authorization = None
        for name, value in scope["headers"]:
            if name == b"authorization" and authorization is None:
                authorization = value.decode("latin-1")
            elif name == b"prefer":
                return await self._app(scope, receive, send)
        status, headers, body = await self._answer(job_id, authorization)
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return None

    async def _answer(self, job_id: str, authorization: str | None) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        try:
            owner = await self._tokens.owner(authorization)
            body = status_view(await self._read.status(owner, job_id)).to_wire()
        except Exception as error:  # noqa: BLE001 - the outermost handler of this path
            problem = problem_of(error)
            headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
            return problem.status, [*headers, (b"content-type", MEDIA_TYPE.encode())], to_json(problem.document())
        return 200, [(b"content-type", b"application/json")], body
