"""The figures of a soak, in docs/reliability.md."""

import os
from datetime import UTC, datetime
from pathlib import Path

from tests.soak.soak import CLIENTS, Soak

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- soak:begin -->", "<!-- soak:end -->"


def lines(soak: Soak) -> list[str]:
    """A table, by itself readable in a terminal too."""
    unexpected = ", ".join(f"{count} of {status}" for status, count in sorted(soak.seen.unexpected.items())) or "0"
    expected = sum(soak.seen.refusals.values()) - sum(soak.seen.unexpected.values())
    rows = {
        "seed": f"{soak.seed}",
        "faults for": f"{soak.seconds / 60:g} min, {CLIENTS} clients",
        "processes killed": f"{soak.faults['kill']}",
        "processes stopped for a while": f"{soak.faults['stop']}",
        "jobs acknowledged": f"{len(soak.seen.jobs):,}",
        "jobs completed, with the one right output": f"{soak.verdict.completed:,}",
        "jobs lost": f"{len(soak.verdict.lost)}",
        "jobs that ended otherwise, or with a wrong or second output": f"{len(soak.verdict.wrong)}",
        "jobs that a stranger could see": f"{len(soak.verdict.leaked)}",
        "requests refused with 502 or 503": f"{expected}",
        "requests refused otherwise": unexpected,
        "requests whose connection broke": f"{soak.seen.broken}",
        "all final and looked at, after the last fault": f"{soak.settled_seconds:.1f} s",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def write(soak: Soak) -> None:
    """Put the figures between the page's marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    when = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores."
    PAGE.write_text(before + "\n".join([BEGIN, when, "", *lines(soak), END]) + after)
