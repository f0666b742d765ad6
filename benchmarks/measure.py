"""Sides measured in turn, so that what disturbs the machine disturbs them alike; then medians and their ratios."""

import asyncio
import json
import math
import os
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

Sample = Mapping[str, float]
Measure = Callable[[], Awaitable[Sample]]


def say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done: `rounds` of every side, and `scale` of the work that one round has."""

    rounds: int = 3
    scale: float = 1.0

    def of(self, full: int) -> int:
        return max(1, round(full * self.scale))


@dataclass(frozen=True, slots=True)
class Result:
    """The median of each figure of one side, and the least and greatest that was seen."""

    samples: Sequence[Sample]

    def median(self, figure: str) -> float:
        return statistics.median(sample[figure] for sample in self.samples)

    def text(self, figure: str) -> str:
        seen = [sample[figure] for sample in self.samples]
        return f"{_number(self.median(figure))} ({_number(min(seen))} to {_number(max(seen))})"


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio that DESIGN asks for: at least `bound`, or at most, where less is better."""

    text: str
    value: float
    bound: float
    at_most: bool = False

    @property
    def line(self) -> str:
        met = self.value <= self.bound if self.at_most else self.value >= self.bound
        sign = "≤" if self.at_most else "≥"
        return (
            f"{self.text}: **{_number(self.value)}** (goal {sign} {_number(self.bound)}: {'met' if met else 'not met'})"
        )


@dataclass(slots=True)
class Section:
    """What one bench has to say. A figure is a column: its key in the samples, and its heading."""

    name: str
    title: str
    method: str
    figures: Mapping[str, str]
    results: dict[str, Result] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Markdown, without the title."""
        rows = [[side, *self._cells(result)] for side, result in self.results.items()]
        return [
            self.method,
            "",
            *table(["", *self.figures.values()], rows),
            "",
            *[f"- {goal.line}" for goal in self.goals],
            *[f"- {note}" for note in self.notes],
        ]

    def _cells(self, result: Result) -> list[str]:
        return [result.text(key) if key in result.samples[0] else "-" for key in self.figures]


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in [heading, *rows]) for n in range(len(heading))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return [line(heading), line(["-" * width for width in widths]), *map(line, rows)]


async def measured_by(*command: str, **variables: str) -> Sample:
    """What a process says in its last line: figures, as JSON. Raises `RuntimeError` when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **variables}, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}.")
    sample: Sample = json.loads(said.decode().splitlines()[-1])
    return sample


async def alternate(sides: Mapping[str, Measure], effort: Effort) -> dict[str, Result]:
    """Each side once unrecorded, to warm it; then A B C, A B C, ... for as many rounds as asked for."""
    samples: dict[str, list[Sample]] = {side: [] for side in sides}
    for number in range(effort.rounds + 1):
        for side, measure in sides.items():
            sample = await measure()
            figures = ", ".join(f"{key} {_number(value)}" for key, value in sample.items())
            say(f"  {f'round {number}' if number else 'warm-up'}  {side}: {figures}")
            if number:
                samples[side].append(sample)
    return {side: Result(taken) for side, taken in samples.items()}


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
