"""Which processors are installed: every distribution names its own as entry points."""

from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import entry_points
from typing import Any

from common.contracts.job import OfferedLimits, ProcessorOffer
from gristmill import Processor

GROUP = "gristmill.processors"

Processors = dict[str, Processor[Any]]


def installed() -> Processors:
    """All installed processors by name. Raises `TypeError` or `ValueError`, naming the entry point at fault."""
    found: Processors = {}
    for point in entry_points(group=GROUP):
        kind = point.load()
        if not (isinstance(kind, type) and issubclass(kind, Processor)):
            raise TypeError(f"The entry point {point.name} = {point.value} isn't a gristmill.Processor.")
        if kind.name != point.name or kind.name in found:
            raise ValueError(f"The entry point {point.name} = {point.value} gives a second or another name.")
        found[kind.name] = kind()
    return found


def offers(processors: Iterable[Processor[Any]]) -> list[ProcessorOffer]:
    """What job is told about them."""
    return [
        ProcessorOffer(
            name=processor.name,
            version=processor.version,
            summary=processor.summary,
            media_types=list(processor.media_types),
            params=processor.params_schema(),
            limits=OfferedLimits(**asdict(processor.limits)),
        )
        for processor in processors
    ]
