"""The status of a job, answered before FastAPI is reached: clients poll it, so it is the hottest path there is.

It is the route `GET /api/v1/job/{job_id}/status` of the OpenAPI page, and calls the very same authentication
(`Tokens.owner`) and ownership test (`ReadJob.status`) as that one, which keeps the requests that wait.
"""

from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

from common.ids import is_job_id
from common.web.middleware.observing import ROUTE
from common.web.problems import MEDIA_TYPE, problem_of
from services.front.api.views import PREFIX, status_view
from services.front.domain.job import Job
from services.front.ports import Tokens
from services.front.use_cases.read import ReadJob, Seen

_BEFORE = f"{PREFIX}/job/"
_AFTER = "/status"
_ROUTE = f"{_BEFORE}{{job_id}}{_AFTER}"
KEPT_ANSWERS = 2048
KEPT_BYTES = 16 * 1024


class FastStatus:
    """ASGI middleware that answers status reads without `Prefer`, and hands on everything else."""

    def __init__(self, app: ASGIApp, tokens: Tokens, read: ReadJob) -> None:
        self._app = app
        self._tokens = tokens
        self._read = read
        self._kept: dict[str, tuple[Job, bytes]] = {}

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
        scope[ROUTE] = _ROUTE
        status, headers, body = await self._answer(job_id, authorization)
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return None

    def _rendered(self, seen: Seen) -> bytes:
        """The answer's body, kept for a final job as long as the store gives the very same one."""
        job, body = self._kept.get(seen.job.id, (None, b""))
        if job is seen.job:
            return body
        body = status_view(seen).to_wire()
        if seen.job.status.is_final and len(body) <= KEPT_BYTES:
            while len(self._kept) >= KEPT_ANSWERS:
                del self._kept[next(iter(self._kept))]
            self._kept[seen.job.id] = (seen.job, body)
        return body

    async def _answer(self, job_id: str, authorization: str | None) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        try:
            owner = await self._tokens.owner(authorization)
            body = self._rendered(await self._read.status(owner, job_id))
        except Exception as error:  # noqa: BLE001 - the outermost handler of this path
            problem = problem_of(error)
            headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
            return problem.status, [*headers, (b"content-type", MEDIA_TYPE.encode())], to_json(problem.document())
        return 200, [(b"content-type", b"application/json")], body
