"""A processor played by a test: it offers, claims, and takes runs as far as the test wants."""

from common.contracts.job import ClaimedRun, ClaimRequest, Heartbeat
from common.ids import new_id
from gristmill.wire.processors import ProcessorOffer
from tests.support.platform import Platform


async def offer_checksum(platform: Platform) -> None:
    offer = ProcessorOffer(name="checksum", version="1.0.0", summary="", media_types=["*/*"], params={"type": "object"})
    await platform.as_processor.offer([offer])


async def claim(platform: Platform, run_id: str) -> ClaimedRun:
    """The run, claimed and started."""
    wanted = ClaimRequest(claim_id=new_id(), processors=["checksum"], max=256, wait_seconds=5)
    (run,) = [run for run in await platform.as_processor.claim(wanted) if run.id == run_id]
    await platform.as_processor.heartbeat(run.id, Heartbeat(fence=run.fence))
    return run
