"""`python -m benchmarks`: measure, print medians and ratios, and write them into RESULTS.md."""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import at_rest, claims, images, public_api, report, round_trip, small_files, status, upload
from benchmarks.measure import Effort, Section, say
from common.web.serve import new_loop

BENCHES: dict[str, Callable[[Effort, Path], Awaitable[Section]]] = {
    "status": status.run,
    "round-trip": round_trip.run,
    "public": public_api.run,
    "images": images.run,
    "claims": claims.run,
    "upload": upload.run,
    "at-rest": at_rest.run,
    "small-files": small_files.run,
}
# Not among those that are run when none is named.
SCALE: dict[str, Callable[[Effort, Path], Awaitable[Section]]] = {"claims-scale": claims.run_scale}


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", choices=[*BENCHES, *SCALE], action="append", help="run this bench only; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, and RESULTS.md stays as it is")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default 3)")
    arguments = parser.parse_args()
    effort = Effort(max(1, arguments.rounds), 0.2 if arguments.quick else 1.0)
    for name in arguments.only or BENCHES:
        say(f"{name} ...")
        with tempfile.TemporaryDirectory(prefix="gristmill-bench-") as folder:
            section = await {**BENCHES, **SCALE}[name](effort, Path(folder))
        say("")
        for line in section.lines():
            say(line)
        say("")
        if not arguments.quick:
            report.write(section, effort)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
