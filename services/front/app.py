"""Front's composition root: what it is made of, opened and closed in order. Tests hand in other parts by argument."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from common.auth import ServiceTokenSigner, ServiceTokenVerifier
from common.clients.blob import MOST_READERS, MOST_WRITERS, open_blob_client
from common.clients.http import ServiceHttp, open_http
from common.clients.job import JobClient
from common.clients.jwks import JwksClient
from common.loops import repeat, until_done
from common.mongo.client import Client, opened
from common.retries import RetryBudget
from common.shares import Shares
from common.web import health, metrics, paths, problems
from common.web.fast import FastRoutes
from common.web.serve import Listener, Readiness, background
from gristmill.wire.public import MAX_BATCH_FILES, ServerLimits
from services.front.adapters.mongodb.batches import MongoBatchStore
from services.front.adapters.mongodb.budgets import MongoBudgets
from services.front.adapters.mongodb.changes import MongoChanges
from services.front.adapters.mongodb.idempotency import MongoIdempotencyStore
from services.front.adapters.mongodb.inline import MongoInlineStore
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.adapters.mongodb.listing import MongoListingStore
from services.front.adapters.mongodb.offers import MongoOfferStore
from services.front.adapters.mongodb.retention import MongoRetentionStore
from services.front.adapters.mongodb.usage import MongoUsageStore
from services.front.adapters.user_tokens import JwksKeys, StaticKeys, UserTokens
from services.front.api import batches, events, internal, jobs, listing, processors
from services.front.api.bodies import Bodies
from services.front.api.cursors import Cursors
from services.front.api.deps import Dependencies
from services.front.api.headers import MAX_WAIT_SECONDS
from services.front.api.openapi import document as docs
from services.front.api.openapi import problem_pages
from services.front.api.status import Status
from services.front.domain.job import Owner
from services.front.domain.limits import Limits
from services.front.domain.params import MAX_BYTES as MAX_PARAMS_BYTES
from services.front.domain.quota import QuotaPolicy
from services.front.domain.rate import RatePolicy
from services.front.domain.terms import Terms
from services.front.ports import Blobs, Runs
from services.front.settings import CoreSettings, Settings
from services.front.use_cases.advance import Advance
from services.front.use_cases.batch import Batches
from services.front.use_cases.cancel import CancelJob
from services.front.use_cases.catalogue import Catalogue
from services.front.use_cases.create import Background, CreateJob
from services.front.use_cases.delete import DeleteJob
from services.front.use_cases.idempotency import Idempotency
from services.front.use_cases.listing import ListJobs
from services.front.use_cases.quota import Quota
from services.front.use_cases.rate import LimitedTokens
from services.front.use_cases.read import ReadJob
from services.front.use_cases.reports import TakeReports
from services.front.use_cases.submitted import MOMENT_SECONDS, LateSubmitted
from services.front.use_cases.upload import Uploads
from services.front.use_cases.watch import Watching

MIN_SECRET_BYTES = 32
DESCRIPTION = """
Hand in a file with a token, get a job id at once, ask for its status, fetch the output. Nobody else can see it.

Every refusal is a problem document (RFC 9457), and its `type` leads to a page that explains it:
[all of them](/problems).
"""


@dataclass(frozen=True, slots=True)
class Core:
    """What front and its tracker share."""

    mongodb: Client
    jobs: MongoJobStore
    batches: MongoBatchStore
    retention: MongoRetentionStore
    inline: MongoInlineStore
    blobs: Blobs
    runs: Runs
    advance: Advance
    uploads: Uploads


@asynccontextmanager
async def open_core(
    settings: CoreSettings, *, mongodb: Client | None = None, blobs: Blobs | None = None, runs: Runs | None = None
) -> AsyncIterator[Core]:
    """Open the database and the clients of blob and job, unless these are handed in."""
    async with AsyncExitStack() as stack:
        if mongodb is None:
            mongodb = await stack.enter_async_context(opened(settings.mongodb_uri))
        store = MongoJobStore(mongodb, settings.database)
        inline = MongoInlineStore(mongodb, settings.database)
        signer = ServiceTokenSigner.from_file("front", settings.key_file)
        if blobs is None:
            blobs = await stack.enter_async_context(
                open_blob_client(settings.blob_url, signer, seconds=settings.blob_seconds)
            )
        if runs is None:
            http = await stack.enter_async_context(open_http(settings.job_url))
            runs = JobClient(ServiceHttp(http, signer, "job", retries=RetryBudget()))
        advance = Advance(
            store, inline, blobs, runs, lease_seconds=settings.lease_seconds, ask_seconds=settings.ask_seconds
        )
        batches = MongoBatchStore(mongodb, settings.database)
        uploads = Uploads(
            store,
            batches,
            blobs,
            advance,
            most_seconds=settings.upload_most_seconds,
            lease_seconds=settings.lease_seconds,
        )
        retention = MongoRetentionStore(mongodb, settings.database)
        yield Core(mongodb, store, batches, retention, inline, blobs, runs, advance, uploads)


@asynccontextmanager
async def open_user_tokens(settings: Settings) -> AsyncIterator[UserTokens]:
    """The verifier of users' tokens, with its keys from where the settings say."""
    tokens = UserTokens(
        algorithms=settings.token_algorithms,
        audience=settings.token_audience,
        issuer=settings.token_issuer,
        tenant_claim=settings.token_tenant_claim,
        subject_claim=settings.token_subject_claim,
    )
    if settings.token_jwks_url is not None:
        async with open_http("") as http:
            keys = JwksKeys(JwksClient(http, settings.token_jwks_url).fetch, tokens.forget)
            tokens.keys = keys
            async with background(keys.follow):
                yield tokens
        return
    if settings.token_secret_file is not None:
        secret = settings.token_secret_file.read_bytes().strip()
        if len(secret) < MIN_SECRET_BYTES:
            raise SystemExit(f"FRONT_TOKEN_SECRET_FILE: the secret has fewer than {MIN_SECRET_BYTES} bytes.")
        tokens.keys = StaticKeys(secret)
    elif settings.token_public_key_file is not None:
        tokens.keys = StaticKeys(load_pem_public_key(settings.token_public_key_file.read_bytes()))
    yield tokens


def server_limits(settings: Settings) -> ServerLimits:
    """What the server publishes of its limits."""
    return ServerLimits(
        max_input_bytes=settings.max_input_bytes,
        max_json_bytes=settings.max_json_bytes,
        max_batch_files=MAX_BATCH_FILES,
        max_params_bytes=MAX_PARAMS_BYTES,
        max_wait_seconds=MAX_WAIT_SECONDS,
        deadline_seconds=settings.deadline_seconds,
        max_deadline_seconds=settings.max_deadline_seconds,
        retention_seconds=settings.retention_seconds,
        record_seconds=settings.record_seconds,
        quota_bytes=settings.quota_bytes,
        tenant_quota_bytes=settings.tenant_quota_bytes,
    )


@asynccontextmanager
async def open_apps(settings: Settings, readiness: Readiness, core: Core) -> AsyncIterator[tuple[ASGIApp, FastAPI]]:
    """The public application and the internal one."""
    async with open_user_tokens(settings) as tokens:
        changes = MongoChanges(core.jobs.jobs)
        late = LateSubmitted(core.advance)
        changes.ended = late.ended
        later = Background(core.advance, late)
        catalogue = Catalogue(core.runs, MongoOfferStore(core.mongodb, settings.database))
        terms = Terms(
            default_processor=settings.default_processor,
            limits=Limits(settings.max_input_bytes, settings.limits),
            retention_seconds=settings.retention_seconds,
            deadline_seconds=settings.deadline_seconds,
            max_deadline_seconds=settings.max_deadline_seconds,
        )
        usage = MongoUsageStore(core.mongodb, settings.database)
        quota = Quota(usage, QuotaPolicy(settings.quota_bytes, settings.tenant_quota_bytes))
        owned = MongoListingStore(core.mongodb, settings.database)
        create = CreateJob(
            core.jobs,
            core.inline,
            core.blobs,
            catalogue,
            later,
            terms=terms,
            uploads=Shares("uploads under way", MOST_WRITERS),
            quota=quota,
            max_waiting_bytes=settings.max_waiting_bytes,
            lease_seconds=settings.lease_seconds,
        )
        keys = MongoIdempotencyStore(core.mongodb, settings.database)
        announce = Batches(
            core.batches,
            core.blobs,
            catalogue,
            terms=terms,
            link_bits_per_second=settings.link_bits_per_second,
            most_seconds=settings.upload_most_seconds,
            max_announced=settings.max_announced,
            quota=quota,
            now=core.jobs.now,
        )
        read = ReadJob(
            core.jobs,
            core.runs,
            core.advance,
            changes,
            core.retention,
            read_grace_seconds=settings.read_grace_seconds,
        )

        budgets = MongoBudgets(core.mongodb, settings.database)
        limited = LimitedTokens(tokens, budgets, RatePolicy(settings.rate_requests, settings.rate_seconds))
        watching = Watching(
            core.jobs,
            core.runs,
            read,
            announce,
            streams=Shares("streams of events open", settings.max_streams),
            watched=Shares("jobs watched", settings.max_watched),
            is_draining=lambda: readiness.draining,
        )
        changes.hint = watching.hint

        requests = Shares("requests under way", settings.max_requests)
        waits = Shares("requests waiting", settings.max_waits)

        async def admit(owner: Owner) -> None:
            await limited.admit(owner)
            core.advance.queue_backoff.check(owner.tenant)

        async def check() -> None:
            await core.mongodb.admin.command("ping")

        public = public_app(readiness, check)
        public.state.dependencies = Dependencies(
            tokens=limited,
            unlimited_tokens=tokens,
            requests=requests,
            waits=waits,
            downloads=Shares("downloads under way", MOST_READERS),
            bodies=Bodies(
                settings.stall_seconds,
                settings.max_json_bytes,
                Shares("bytes of JSON under way", settings.max_held_bytes),
            ),
            idempotency=Idempotency(
                keys,
                admit,
                waits,
                keep_seconds=settings.idempotency_seconds,
                lease_seconds=settings.idempotency_lease_seconds,
            ),
            create=create,
            read=read,
            cancel=CancelJob(core.jobs, core.advance, again_seconds=settings.lease_seconds),
            delete=DeleteJob(core.jobs, core.advance, again_seconds=settings.lease_seconds),
            list_jobs=ListJobs(owned),
            cursors=Cursors.from_file(settings.key_file),
            batches=announce,
            uploads=core.uploads,
            blobs=core.blobs,
            watching=watching,
            heartbeat_seconds=settings.heartbeat_seconds,
            stream_seconds=settings.stream_seconds,
            catalogue=catalogue,
            quota=quota,
            limits=terms.limits,
            server_limits=server_limits(settings),
        )

        internal_app = FastAPI(openapi_url=None)
        internal_app.state.verifier = ServiceTokenVerifier.from_folder("front", settings.callers_dir)
        internal_app.include_router(internal.router(TakeReports(core.jobs, core.advance, changes.wake)))
        internal_app.include_router(metrics.router())
        problems.install(internal_app)

        async with background(
            partial(repeat, "changes", changes.follow, 0),
            partial(repeat, "watch", watching.look, 0),
            partial(repeat, "submitted", late.write, MOMENT_SECONDS),
            partial(until_done, "indexes", core.jobs.create_indexes),
            partial(until_done, "indexes", core.batches.create_indexes),
            partial(until_done, "indexes", owned.create_indexes),
            partial(until_done, "indexes", core.inline.create_indexes),
            partial(until_done, "indexes", core.retention.create_indexes),
            partial(until_done, "indexes", budgets.create_indexes),
            partial(until_done, "indexes", keys.create_indexes),
            *([partial(until_done, "indexes", usage.create_indexes)] if quota.is_set else []),
        ):
            try:
                yield FastRoutes(public, [Status(limited, requests, read).route()]), internal_app
            finally:
                await later.drain()


def public_app(readiness: Readiness, check: Callable[[], Awaitable[object]]) -> FastAPI:
    """The public routes, without what they work on; `check` raises while they can't work."""
    app = FastAPIOffline(
        title="Gristmill",
        version="1",
        description=DESCRIPTION,
        redoc_url=None,
        redirect_slashes=False,
        static_url="/static/docs",
        servers=[{"url": "/", "description": "This Gristmill."}],
        openapi_tags=docs.TAGS,
        generate_unique_id_function=docs.operation_id,
    )
    app.include_router(jobs.router)
    app.include_router(listing.router)
    app.include_router(batches.router)
    app.include_router(events.router)
    app.include_router(processors.router)
    app.include_router(problem_pages.router)
    health.install(app, readiness, check)
    problems.install(app)
    docs.install(app)
    return app


@asynccontextmanager
async def open_listeners(settings: Settings, readiness: Readiness) -> AsyncIterator[list[Listener]]:
    """Both applications, at their addresses."""
    async with open_core(settings) as core, open_apps(settings, readiness, core) as (public, internal_app):
        yield [
            Listener(public, settings.host, settings.port, settings.max_requests, paths.EVENTS, settings.access_log),
            Listener(
                internal_app,
                settings.host,
                settings.internal_port,
                settings.max_requests,
                access_log=settings.access_log,
            ),
        ]
