"""Which processors there are: those installed, which distributions name as entry points, and those configured."""

from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from gristmill import Processor
from gristmill.faults import explain
from gristmill.wire.processors import OfferedLimits, ProcessorOffer
from services.processor.processors.analyzer import Analyzer
from services.processor.processors.command import Command
from services.processor.processors.configured import check_media_types, check_schema
from services.processor.settings import Settings

GROUP = "gristmill.processors"

Processors = dict[str, Processor[Any]]


class RegistryError(Exception):
    """A processor can't be offered. The message has which one, and why."""


def available(settings: Settings) -> Processors:
    """All that this process can run, by name. Raises `RegistryError`."""
    found = installed()
    configured: list[tuple[str, Processor[Any]]] = [
        *(("PROCESSOR_ANALYZERS", Analyzer(each)) for each in settings.analyzers),
        *(("PROCESSOR_COMMANDS", Command(each)) for each in settings.commands),
    ]
    for variable, processor in configured:
        if processor.name in found:
            raise RegistryError(f"{variable}: there is another processor {processor.name!r}; give this one a name.")
        found[processor.name] = processor
    return found


def installed() -> Processors:
    """The installed processors by name. Raises `RegistryError`, naming the entry point at fault."""
    found: Processors = {}
    for point in entry_points(group=GROUP):
        processor = _load(point)
        if processor.name in found:
            raise RegistryError(f"The entry point {point.name} = {point.value}: another one has this name.")
        found[processor.name] = processor
    return found


def offers(processors: Iterable[Processor[Any]]) -> list[ProcessorOffer]:
    """How they are offered to job."""
    return [_offer(processor) for processor in processors]


def _load(point: EntryPoint) -> Processor[Any]:
    try:
        kind = point.load()
        if not (isinstance(kind, type) and issubclass(kind, Processor)):
            raise TypeError("this isn't a gristmill.Processor")
        processor = kind()
        if processor.name != point.name:
            raise ValueError(f"the processor calls itself {processor.name!r}")
        offer = _offer(processor)
        check_media_types(offer.media_types)
        check_schema(offer.params)
    except ValidationError as error:
        found = (f"{'.'.join(map(str, where))}: {what}" for where, what in explain(error, ProcessorOffer))
        raise RegistryError(f"The entry point {point.name} = {point.value}: {' '.join(found)}") from error
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise RegistryError(f"The entry point {point.name} = {point.value}: {error}.") from error
    return processor


def _offer(processor: Processor[Any]) -> ProcessorOffer:
    return ProcessorOffer(
        name=processor.name,
        version=processor.version,
        summary=processor.summary,
        media_types=list(processor.media_types),
        params=processor.params_schema(),
        limits=OfferedLimits(**asdict(processor.limits)),
    )
