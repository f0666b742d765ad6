"""Which processors are installed: every distribution names its own as entry points."""

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any

from common.contracts.job import ProcessorOffer
from gristmill import Processor

GROUP = "gristmill.processors"

Processors = dict[str, type[Processor[Any]]]


def installed() -> Processors:
    """All installed processors by name. Raises `TypeError` or `ValueError`, naming the entry point at fault."""
    found: Processors = {}
    for point in entry_points(group=GROUP):
        kind = point.load()
        if not (isinstance(kind, type) and issubclass(kind, Processor)):
            raise TypeError(f"The entry point {point.name} = {point.value} isn't a gristmill.Processor.")
        if kind.name != point.name or kind.name in found:
            raise ValueError(f"The entry point {point.name} = {point.value} gives a second or another name.")
        found[kind.name] = kind
    return found


def offers(processors: Iterable[type[Processor[Any]]]) -> list[ProcessorOffer]:
    """What job is told about them."""
    return [
        ProcessorOffer(
            name=kind.name,
            version=kind.version,
            summary=kind.summary,
            media_types=list(kind.media_types),
            params=kind.params_model.model_json_schema(),
        )
        for kind in processors
    ]
