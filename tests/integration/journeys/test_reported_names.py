"""Front keeps the rule of output names by itself: a report that breaks it gives no links that lead elsewhere."""

from pathlib import Path

import pytest

from common.contracts.job import OutputInfo, RunState, RunStatus
from tests.support.manual_processor import offer_checksum
from tests.support.platform import open_platform
from tests.support.submitting import job_id_of, post_raw


@pytest.mark.parametrize("name", ["a/b", "../x", ".", "a\nb"])
async def test_an_output_with_a_name_that_is_no_part_of_a_path_is_never_told(
    mongodb_uri: str, database_name: str, tmp_path: Path, name: str
) -> None:
    async with open_platform(mongodb_uri, database_name, tmp_path, processor=False) as platform:
        await offer_checksum(platform)
        alice = platform.client()
        job_id = job_id_of(await post_raw(alice))
        good = job_id_of(await post_raw(alice))
        outputs = [OutputInfo(name=each, mimetype="text/plain", size=1, sha256="ab" * 32) for each in ("fine", name)]
        runs = [
            RunStatus(id=job_id, status=RunState.SUCCESS, fence=1, attempt=1, outputs=outputs),
            RunStatus(id=good, status=RunState.SUCCESS, fence=1, attempt=1, outputs=outputs[:1]),
        ]
        assert await platform.reports.report(runs) == [job_id, good]
        final = (await alice.get(f"/api/v1/job/{job_id}/status")).json()
        assert (final["status"], final["error"]["type"]) == ("EXECUTION_ERROR", "/problems/internal")
        assert (await alice.get(f"/api/v1/job/{good}/status")).json()["status"] == "EXECUTION_COMPLETED"
