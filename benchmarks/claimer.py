"""A processor that does nothing: claims runs in batches, completes each, and takes the next claim with a response.

It is the loop of `services.processor.worker` without the work, in a process of its own. Its HTTP client is aiohttp,
so that what is measured is job and not the client.
"""

import argparse
import asyncio
from pathlib import Path

import aiohttp

from common.auth import ServiceTokenSigner
from common.contracts.job import ClaimedRun, ClaimRequest, ClaimResponse, Complete, Heartbeat
from common.ids import new_id
from common.web.serve import new_loop
from gristmill.wire.base import Wire

WAIT_SECONDS = 20


class Claimer:
    """Each of its loops holds one claim of up to `batch` runs. `beats` says whether a run is `started` first."""

    def __init__(
        self, http: aiohttp.ClientSession, signer: ServiceTokenSigner, processor: str, batch: int, beats: bool
    ) -> None:
        self._http = http
        self._signer = signer
        self._processor = processor
        self._batch = batch
        self._beats = beats

    async def loop(self) -> None:
        runs: list[ClaimedRun] = []
        while True:
            if not runs:
                runs = await self._post("/api/v1/claim", self._claim(WAIT_SECONDS))
                continue
            *others, last = runs
            answers = await asyncio.gather(*(self._see_through(run, None) for run in others))
            runs = [run for answer in answers for run in answer]
            runs += await self._see_through(last, self._claim(0))

    async def _see_through(self, run: ClaimedRun, claim: ClaimRequest | None) -> list[ClaimedRun]:
        if self._beats:
            await self._post(f"/api/v1/run/{run.id}/heartbeat", Heartbeat(fence=run.fence))
        completion = Complete(fence=run.fence, outputs=[], claim=claim)
        return await self._post(f"/api/v1/run/{run.id}/complete", completion)

    def _claim(self, wait_seconds: float) -> ClaimRequest:
        return ClaimRequest(
            claim_id=new_id(), processors=[self._processor], max=self._batch, wait_seconds=wait_seconds, first=True
        )

    async def _post(self, path: str, body: Wire) -> list[ClaimedRun]:
        headers = {"Authorization": f"Bearer {self._signer.token('job')}", "Content-Type": "application/json"}
        async with self._http.post(path, data=body.to_wire(), headers=headers) as response:
            response.raise_for_status()
            content = await response.read()
        return ClaimResponse.model_validate_json(content).runs if content else []


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job_url")
    parser.add_argument("key_file", type=Path)
    parser.add_argument("processor")
    parser.add_argument("--loops", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--beats", action="store_true")
    arguments = parser.parse_args()
    signer = ServiceTokenSigner.from_file("processor", arguments.key_file)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(arguments.job_url, connector=connector) as http, asyncio.TaskGroup() as group:
        claimer = Claimer(http, signer, arguments.processor, arguments.batch, arguments.beats)
        for _ in range(arguments.loops):
            group.create_task(claimer.loop())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
