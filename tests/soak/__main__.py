"""`python -m tests.soak`: faults for some minutes, then the proof that nothing was lost; into docs/reliability.md."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import say
from tests.soak import report
from tests.soak.soak import soak


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults are made (default 10)")
    parser.add_argument("--seed", type=int, help="the seed of a plan to be had again (default: a new one)")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    say(f"Seed {seed}; {arguments.minutes:g} minutes of faults, then up to a minute for what is left.")
    with tempfile.TemporaryDirectory(prefix="gristmill-soak-") as folder:
        done = await soak(Path(folder), seed, arguments.minutes * 60, say)
    say("\n".join(report.lines(done)))
    report.write(done)
    for fault in done.faults:
        say(fault)
    return 1 if done.faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
