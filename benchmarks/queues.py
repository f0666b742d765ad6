"""taskiq and Celery, each with one worker process, over a Redis of Debian's."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import Sample, measured_by, say
from benchmarks.report import printed
from deploy.local import mongod
from deploy.local.supervisor import Process, Supervisor

TASKIQ, CELERY = "taskiq + Redis", "Celery + Redis"
_WORKERS = {
    TASKIQ: ("taskiq_load", ["-m", "taskiq", "worker", "taskiq_load:broker", "-w", "1", "--log-level", "WARNING"]),
    CELERY: ("celery_load", ["-m", "celery", "-A", "celery_load", "worker", "-c", "1", "-l", "WARNING"]),
}


@dataclass(frozen=True, slots=True)
class RivalQueue:
    """One of them, running; its load is a process of its own, in the peers' virtualenv."""

    module: str
    python: str
    environment: dict[str, str]

    async def round(self, count: int, submitters: int, idle: int) -> Sample:
        """As `Submitter.round`."""
        numbers = map(str, (count, submitters, idle))
        return await measured_by(self.python, "-m", self.module, *numbers, **self.environment)


@asynccontextmanager
async def rival_queues(folder: Path) -> AsyncIterator[dict[str, RivalQueue]]:
    """Both, each with two databases of one Redis. Raises `MissingPeerError`."""
    redis = await asyncio.to_thread(peers.debian, "redis-server", "redis-server")
    python = await asyncio.to_thread(peers.python)
    port = mongod.free_port()
    async with Supervisor(folder / "logs", say) as supervisor:
        server = [redis, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        await supervisor.start(Process("redis", server, dict(os.environ), 1))
        queues = {}
        for n, (name, (module, command)) in enumerate(_WORKERS.items()):
            environment = {
                **os.environ,
                "PYTHONPATH": str(peers.RIVALS),
                "BENCH_BROKER_URL": f"redis://127.0.0.1:{port}/{2 * n}",
                "BENCH_RESULT_URL": f"redis://127.0.0.1:{port}/{2 * n + 1}",
            }
            await supervisor.start(Process(module, [python, *command], environment))
            queues[name] = RivalQueue(module, python, environment)
        yield queues


async def versions() -> dict[str, str]:
    """What was installed. Call it inside `rival_queues`."""
    python = await asyncio.to_thread(peers.python)
    found = {
        name: await asyncio.to_thread(printed, python, "-m", "pip", "show", name)
        for name in ("taskiq", "taskiq-redis", "celery", "redis")
    }
    server = await asyncio.to_thread(printed, peers.debian("redis-server", "redis-server"), "--version")
    return {**found, "redis-server": server}
