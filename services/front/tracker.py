"""`python -m services.front.tracker`: brings what a crash left to its end, and deletes what is over.

Any number may run. It has no port; it reports liveness by touching `FRONT_ALIVE_FILE`.
"""

import asyncio
import signal

from common import telemetry
from common.alive import showing_life
from common.logging import configure, get_logger
from common.loops import repeat, stop
from common.settings import load
from common.web.serve import new_loop
from services.front.app import Core, open_core
from services.front.settings import CoreSettings, TrackerSettings
from services.front.use_cases.tracking.recover import Recover
from services.front.use_cases.tracking.retire import Retire
from services.front.use_cases.tracking.sweep import Sweep
from services.front.use_cases.tracking.uploads import TrackUploads

log = get_logger()


async def recover_for_ever(core: Core, settings: CoreSettings) -> None:
    recover = Recover(
        core.jobs,
        core.runs,
        core.advance,
        lease_seconds=settings.lease_seconds,
        ask_seconds=settings.ask_seconds,
    )
    await repeat("tracker.recover", recover, settings.recovery_seconds)


async def track_uploads_for_ever(core: Core, settings: CoreSettings) -> None:
    track = TrackUploads(
        core.jobs,
        core.batches,
        core.blobs,
        core.advance,
        core.uploads,
        grace_seconds=settings.upload_grace_seconds,
    )
    await repeat("tracker.uploads", track, settings.recovery_seconds)


async def retire_for_ever(core: Core, settings: CoreSettings) -> None:
    retire = Retire(
        core.jobs,
        core.retention,
        core.inline,
        core.blobs,
        core.runs,
        keep_inputs=settings.keep_inputs,
        record_seconds=settings.record_seconds,
        hidden_seconds=settings.idempotency_seconds,
        lease_seconds=settings.lease_seconds,
    )
    await repeat("tracker.retire", retire, settings.recovery_seconds)


async def sweep_for_ever(core: Core, settings: CoreSettings) -> None:
    sweep = Sweep(core.jobs, core.inline, core.blobs, orphan_seconds=settings.orphan_seconds)

    async def once() -> None:
        if await core.jobs.claim_task("sweep", settings.sweep_seconds):
            log.info("tracker.swept", inline=await sweep.inline(), blobs=await sweep.blobs())

    await repeat("tracker.sweep", once, settings.sweep_seconds / 4)


async def main(settings: TrackerSettings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with open_core(settings) as core, showing_life(settings.alive_file):
        loops = [
            asyncio.create_task(recover_for_ever(core, settings)),
            asyncio.create_task(track_uploads_for_ever(core, settings)),
            asyncio.create_task(retire_for_ever(core, settings)),
            asyncio.create_task(sweep_for_ever(core, settings)),
        ]
        log.info("tracker.started")
        await stopping.wait()
        await stop(*loops)


if __name__ == "__main__":
    tracker_settings = load(TrackerSettings)
    configure("tracker", tracker_settings.log_level)
    telemetry.start("tracker")
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(tracker_settings))
