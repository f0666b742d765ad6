"""What job is made of: the only place where its parts are put together."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from common.auth import ServiceTokenSigner, ServiceTokenVerifier
from common.clients.front import FrontClient
from common.clients.http import ServiceHttp, open_http
from common.loops import repeat, until_done
from common.mongo.client import Client, opened
from common.web import health, paths, problems
from common.web.fast import FastRoutes, add_calls
from common.web.serve import Listener, Readiness, background
from services.job.adapters.mongodb.database import JobDatabase
from services.job.api import metrics, routes
from services.job.ports import FrontReports
from services.job.settings import Settings
from services.job.use_cases.offers import Offering
from services.job.use_cases.queue import Leases, Queue
from services.job.use_cases.reports import Reporter

SECONDS_PER_DAY = 86_400
REPORT_SECONDS = 5.0
SETTLE_SECONDS = 0.5


@asynccontextmanager
async def open_app(
    settings: Settings,
    readiness: Readiness,
    *,
    mongodb: Client | None = None,
    front: FrontReports | None = None,
    verifier: ServiceTokenVerifier | None = None,
) -> AsyncIterator[FastRoutes]:
    """The application, with its loops running; tests hand in what they want to see from outside."""
    async with AsyncExitStack() as stack:
        if mongodb is None:
            mongodb = await stack.enter_async_context(opened(settings.mongodb_uri))
        if front is None:
            signer = ServiceTokenSigner.from_file("job", settings.key_file)
            http = await stack.enter_async_context(open_http(settings.front_url))
            front = FrontClient(ServiceHttp(http, signer, "front"))
        tenants = settings.every_tenant()
        database = JobDatabase(mongodb, settings.database, tenants)
        reporter = Reporter(database.runs, front, metrics.count_ended)
        queue = Queue(
            database.runs,
            Leases(settings.start_seconds, settings.lease_seconds),
            settings.retry_policy(),
            on_end=reporter.ended,
            tenants=tenants,
            stopping=lambda: readiness.draining,
        )
        offering = Offering(
            database.offers,
            live_seconds=settings.offer_live_seconds,
            kept_seconds=settings.offer_kept_days * SECONDS_PER_DAY,
        )

        async def sweep() -> None:
            if await queue.sweep():  # what ended by it is due at once
                await reporter.report_due()

        app = FastAPI(title="Gristmill job", openapi_url=None)
        app.state.verifier = verifier or ServiceTokenVerifier.from_folder("job", settings.callers_dir)
        problems.install(app)
        health.install(app, readiness, database.check)
        app.include_router(routes.router(queue, offering))
        app.include_router(metrics.router(database.depths, offering.live))
        with_calls = add_calls(app, routes.calls(queue, offering))

        await stack.enter_async_context(
            background(
                partial(until_done, "indexes", database.create_indexes),
                partial(repeat, "sweep", sweep, settings.sweep_seconds),
                partial(repeat, "report", reporter.report_ended, 0),
                partial(repeat, "report", reporter.report_due, REPORT_SECONDS),
                partial(repeat, "settle", reporter.write_settled, SETTLE_SECONDS),
                partial(repeat, "hints", partial(queue.waiters.heed, database.runs), 0),
            )
        )
        yield with_calls


@asynccontextmanager
async def open_listeners(settings: Settings, readiness: Readiness) -> AsyncIterator[list[Listener]]:
    async with open_app(settings, readiness) as app:
        yield [Listener(app, settings.host, settings.port, settings.max_requests, paths.CLAIMS, settings.access_log)]
