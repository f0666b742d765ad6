"""The figures of a soak, in docs/reliability.md."""

import os
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import percentile
from tests.soak.plan import LINKS
from tests.soak.soak import CLIENTS, Soak

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- soak:begin -->", "<!-- soak:end -->"


def lines(soak: Soak) -> list[str]:
    """A table, by itself readable in a terminal too."""
    done, seen, verdict = soak.done, soak.seen, soak.verdict
    unexpected = soak.unexpected.total()
    ends = ", ".join(f"{count:,} {end}" for end, count in sorted(verdict.ends.items()))
    waits = soak.reclaim_seconds
    reclaimed = f"{percentile(waits, 50):.1f} s, {percentile(waits, 99):.1f} s; {len(waits)} runs" if waits else "none"
    rows = {
        "seed": f"{soak.seed}",
        "faults for": f"{soak.seconds / 60:g} min, {CLIENTS} clients",
        "processes killed": f"{done.of('kill')}, {done.counts['mongod', 'kill']} of them mongod",
        "processes stopped for a while": f"{done.of('stop')}",
        "faults of the network": f"{sum(count for (victim, _), count in done.counts.items() if victim in LINKS)}",
        "jobs acknowledged": f"{len(seen.jobs):,}, some in {seen.batches} batches",
        "jobs that ended rightly": ends,
        "jobs lost": f"{len(verdict.lost)}",
        "jobs doubled": f"{len(verdict.doubled) + len(seen.again)}",
        "requests repeated with their key": f"{seen.repeated:,}",
        "jobs that ended otherwise, or with a wrong or second output": f"{len(verdict.wrong)}",
        "jobs that somebody could see who must not": f"{len(verdict.leaked)}",
        "ends that front was not told": f"{len(verdict.unreported)}",
        "requests refused or broken during a fault": f"{len(seen.refusals) - unexpected:,}",
        "requests refused otherwise": f"{unexpected}",
        "from a processor's kill or stop until its run was claimed again, p50, p99": reclaimed,
        "all final and looked at, after the last fault": f"{soak.settled_seconds:.1f} s",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def write(soak: Soak) -> None:
    """Put the figures between the page's marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    when = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores."
    PAGE.write_text(before + "\n".join([BEGIN, when, "", *lines(soak), END]) + after)
