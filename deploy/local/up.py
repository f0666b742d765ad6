"""`make up`: check, start everything, wait until it is ready, show that it works, and stay until told to stop."""

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import httpx

from deploy.local import demo, keys, mongod, processes, seaweed, tokens
from deploy.local.checks import LOCK, CheckError, check_mongodb, check_ports, check_room, is_free, only_one
from deploy.local.demo import DemoError, Picture
from deploy.local.keys import Keys
from deploy.local.sample import draw
from deploy.local.seaweed import SeaweedError
from deploy.local.settings import LocalSettings, TokenSettings
from deploy.local.supervisor import Supervisor
from deploy.local.traces import Traces, new_trace, receiving

READY_SECONDS = 60
TRACE_SECONDS = 10
TRACE_PAUSE_SECONDS = 0.5
OUTPUT = Path("demo-output")
_POLL_SECONDS = 0.05
_PARENT_SECONDS = 0.25


def say(line: str) -> None:
    print(line, flush=True)


async def up(settings: LocalSettings) -> None:
    """Run until SIGINT, SIGTERM, SIGHUP, or the end of the process that started this one.

    Raises `CheckError`, `MongodError`, `SupervisionError` with one sentence; nothing is left running then.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    parent = os.getppid()
    if settings.photo and not settings.photo.is_file():
        raise CheckError(f"PHOTO={settings.photo} is not a file.")
    check_room(settings.data)
    with only_one(settings.data):
        check_ports(_ports(settings))
        with contextlib.ExitStack() as stack:
            async with Supervisor(settings.data / "logs", say) as supervisor:
                await _first(_serve(settings, supervisor, stack), supervisor.failed(), stopping.wait(), _gone(parent))
                say("Stopping ...")
    say("Stopped.")


def _ports(settings: LocalSettings) -> dict[str, tuple[str, int]]:
    loopback = "127.0.0.1"
    return {
        "FRONT_PORT": (settings.front_host, settings.front_port),
        "BLOB_PORT": (loopback, settings.blob_port),
        **({"BLOB_DATA_PORT": (loopback, settings.blob_data_port)} if settings.blob_store == "filesystem" else {}),
        **({"S3_PORT": (loopback, settings.s3_port)} if settings.embeds_s3 else {}),
        "JOB_PORT": (loopback, settings.job_port),
        "FRONT_INTERNAL_PORT": (settings.front_host, settings.front_internal_port),
    }


async def _first(*awaitables: Awaitable[object]) -> None:
    """Wait for the first of these to end; the others are cancelled, and its exception is raised."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


async def _gone(parent: int) -> None:
    """Wait until the process that started this one has ended: `make` may be killed, and can't tell us."""
    while os.getppid() == parent:  # noqa: ASYNC110 - the kernel has no event for it that is the same everywhere
        await asyncio.sleep(_PARENT_SECONDS)


async def _serve(settings: LocalSettings, supervisor: Supervisor, stack: contextlib.ExitStack) -> None:
    started = time.monotonic()
    say(f"Starting Gristmill. Data: {settings.gristmill_data}. Logs: {settings.gristmill_data}/logs.")
    secrets = keys.ensure(settings.data)
    user = TokenSettings()
    token = tokens.make(secrets.users_secret, user.tenant, user.sub, user.ttl)
    if settings.mongodb_uri:
        await asyncio.to_thread(check_mongodb, settings.mongodb_uri)
    mongodb_uri = settings.mongodb_uri or await _start_mongod(settings, supervisor, started)
    if settings.blob_store == "s3":
        await _prepare_s3(settings, secrets, supervisor, started)
    traces = stack.enter_context(receiving()) if settings.trace else None
    environment = {**os.environ, **(traces.environment if traces else {})}
    for process in processes.services(settings, secrets, mongodb_uri, environment):
        await supervisor.start(process)
    async with httpx.AsyncClient(
        base_url=settings.front_url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
        trust_env=False,
    ) as http:
        await _all_ready(settings, http, started)
        await _show(settings, http, token, traces)
    await asyncio.Event().wait()


async def _start_mongod(settings: LocalSettings, supervisor: Supervisor, started: float) -> str:
    port = settings.mongodb_port if is_free("127.0.0.1", settings.mongodb_port) else mongod.free_port()
    (settings.data / LOCK).write_text(str(port))
    await supervisor.start(processes.embedded_mongod(settings, port, os.environ))
    await mongod.initiate(port)
    _ready("mongod", started)
    return mongod.uri(port)


async def _prepare_s3(settings: LocalSettings, secrets: Keys, supervisor: Supervisor, started: float) -> None:
    """Start the embedded S3, unless there is another, and make the bucket. Raises `SeaweedError`."""
    if settings.embeds_s3:
        await supervisor.start(processes.embedded_seaweed(settings, secrets, os.environ))
        await seaweed.ready(processes.seaweed_of(settings, secrets).endpoint)
    command, environment = processes.blob_setup(settings, secrets, os.environ)
    child = await asyncio.create_subprocess_exec(*command, env=environment, stdout=DEVNULL, stderr=PIPE)
    try:
        _, said = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    if child.returncode:
        raise SeaweedError(f"The bucket can't be made ready: {said.decode(errors='replace').strip()}")
    _ready("seaweedfs" if settings.embeds_s3 else "s3", started)


async def _all_ready(settings: LocalSettings, http: httpx.AsyncClient, started: float) -> None:
    checks: dict[str, Callable[[], Awaitable[bool]]] = {
        "blob": lambda: _is_ready(http, f"http://127.0.0.1:{settings.blob_port}/readyz"),
        "job": lambda: _is_ready(http, f"http://127.0.0.1:{settings.job_port}/readyz"),
        "front": lambda: _is_ready(http, "/readyz"),
    }
    if settings.processors:
        checks["processor"] = lambda: _is_offered(http)

    async def wait(name: str) -> None:
        while not await checks[name]():  # noqa: ASYNC110 - another process can't set an event of ours
            await asyncio.sleep(_POLL_SECONDS)
        _ready(name, started)
        del checks[name]

    try:
        async with asyncio.timeout(READY_SECONDS):
            await asyncio.gather(*map(wait, list(checks)))
    except TimeoutError:
        raise CheckError(
            f"Not ready within {READY_SECONDS} s: {', '.join(checks)}; see {settings.gristmill_data}/logs."
        ) from None
    say(f"All ready after {time.monotonic() - started:.1f} s.")


async def _is_ready(http: httpx.AsyncClient, url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get(url, timeout=5)).is_success
    return False


async def _is_offered(http: httpx.AsyncClient) -> bool:
    """Whether a processor has said what it runs; before that, front knows of none to submit to."""
    with contextlib.suppress(httpx.TransportError):
        answer = await http.get("/api/v1/processor", timeout=5)
        return answer.is_success and any(offer["live"] for offer in answer.json()["items"])
    return False


def _ready(name: str, started: float) -> None:
    say(f"  {name:<20} {time.monotonic() - started:7.3f} s")


async def _show(settings: LocalSettings, http: httpx.AsyncClient, token: str, traces: Traces | None) -> None:
    file, mimetype, query = Path("README.md"), "text/markdown", "processor=checksum"
    if settings.demo and settings.processors:
        picture = await asyncio.to_thread(_picture, settings.photo)
        file, mimetype = picture.path, picture.mimetype
        query = f"processor={demo.PROCESSOR}&widths=320&widths=800&name={quote(file.name)}"
        await (_demonstrate(http, picture) if traces is None else _demonstrate_traced(http, picture, traces))
    say("")
    say(f"API   {settings.front_url}/api/v1")
    say(f"Docs  {settings.front_url}/docs")
    say("")
    say("Try it (`make token` prints other tokens):")
    say("")
    say(f"  {demo.curl(settings.front_url, token, file, mimetype, query)}")
    say("")
    say("Ctrl-C stops everything; the data stays.")


def _picture(photo: Path | None) -> Picture:
    if photo:
        return Picture(photo, photo.read_bytes())
    OUTPUT.mkdir(exist_ok=True)
    drawn = Picture(OUTPUT / "sample.jpg", draw())
    drawn.path.write_bytes(drawn.content)
    return drawn


async def _demonstrate(http: httpx.AsyncClient, picture: Picture) -> None:
    say("")
    say(f"Sending {picture.path} ({len(picture.content) / 1e6:.1f} MB) to {demo.PROCESSOR}:")
    try:
        job = await demo.send(http, picture, say)
        for path in await demo.save_outputs(http, job, OUTPUT):
            say(f"  {path}  {path.stat().st_size / 1e3:.0f} kB")
    except (DemoError, httpx.HTTPError, OSError) as error:
        # All is up all the same, and what is wrong may be the picture.
        say(f"  {error}")


async def _demonstrate_traced(http: httpx.AsyncClient, picture: Picture, traces: Traces) -> None:
    """The same, as one trace: what asks again and again how far the job is stays out of it."""
    trace, traceparent = new_trace()

    async def name_trace(request: httpx.Request) -> None:
        if request.method == "POST" or "/output" in request.url.path:
            request.headers["traceparent"] = traceparent

    http.event_hooks["request"].append(name_trace)
    await _demonstrate(http, picture)
    http.event_hooks["request"].remove(name_trace)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TRACE_SECONDS):
            while not any("/output" in span.name for span in traces.of(trace)):  # noqa: ASYNC110 - it comes to a thread
                await asyncio.sleep(_POLL_SECONDS)
            await asyncio.sleep(2 * TRACE_PAUSE_SECONDS)  # of what came in late, all
    say("")
    say(f"Its trace, {trace}:")
    for line in traces.tree(trace):
        say(f"  {line}")
