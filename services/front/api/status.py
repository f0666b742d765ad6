"""The status of a job: the hottest path there is, since clients poll it, so it is answered ahead of the framework.

`get_job_status` in `jobs.py` is the same route on the OpenAPI page, and answers the requests that wait. Both call the
same authentication (`Tokens.owner`) and the same read with its test of ownership (`ReadJob.status`).
"""

from starlette.types import Receive, Scope
from structlog.contextvars import bind_contextvars

from common.bounded import BoundedDict
from common.ids import is_job_id
from common.shares import Shares
from common.web.fast import JSON, FastResponse, FastRoute
from services.front.api.access import token_owner
from services.front.api.views import PREFIX, status_view
from services.front.domain.job import Job
from services.front.ports import Tokens
from services.front.use_cases.read import JobSnapshot, ReadJob

CACHED_BODIES = 2048
CACHED_BYTES = 16 * 1024
"""The longest body that is cached."""


class Status:
    """Renders statuses. The body of a final job is kept for as long as the store gives the very same job."""

    def __init__(self, tokens: Tokens, requests: Shares, read: ReadJob) -> None:
        self._tokens = tokens
        self._requests = requests
        self._read = read
        self._bodies: BoundedDict[str, tuple[Job, bytes]] = BoundedDict(CACHED_BODIES)

    def route(self) -> FastRoute:
        return FastRoute("GET", f"{PREFIX}/job/{{job_id}}/status", token_owner, self.respond)

    async def respond(self, scope: Scope, _: Receive, job_id: str) -> FastResponse | None:
        """None for a request with `Prefer` or a malformed id. Raises `Unauthorized`, `RateLimited`, `NotFound`,
        and as `Shares.take`.
        """
        if not is_job_id(job_id):
            return None
        authorization = None
        for name, value in scope["headers"]:
            if name == b"authorization" and authorization is None:
                authorization = value.decode("latin-1")
            elif name == b"prefer":
                return None
        owner = await self._tokens.owner(authorization)
        bind_contextvars(tenant=owner.tenant)
        with self._requests.take(owner):
            return 200, [JSON], self._body(await self._read.status(owner, job_id))

    def _body(self, snapshot: JobSnapshot) -> bytes:
        job, body = self._bodies.get(snapshot.job.id, (None, b""))
        if job is snapshot.job:
            return body
        body = status_view(snapshot).to_wire()
        if snapshot.job.status.is_final and len(body) <= CACHED_BYTES:
            self._bodies[snapshot.job.id] = (snapshot.job, body)
        return body
