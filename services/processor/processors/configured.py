"""Processors that an operator makes by configuration: what `analyzer` and `command` have in common."""

import mimetypes
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from pydantic import Field, RootModel, field_validator

from common.json_schema import compiled
from gristmill import Limits, Processor
from gristmill.wire.base import Wire
from gristmill.wire.processors import MediaTypes, OfferedLimits, ProcessorName, ProcessorVersion, Summary

OCTET_STREAM = "application/octet-stream"
MAX_SENTENCE = 300
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_PATTERN = re.compile(rf"{_MEDIA_TYPE.pattern}|[a-z0-9!#$&^_.+-]{{1,127}}/\*|\*/\*")
# The standard library's own table and not the machine's, so that the same file is called the same everywhere.
_SUFFIXES = mimetypes.MimeTypes()


class Configuration(Wire):
    """How a configured processor is offered. In JSON its keys are camelCase: `mediaTypes`."""

    name: ProcessorName
    version: ProcessorVersion = "1.0.0"
    summary: Summary
    media_types: MediaTypes = Field(default_factory=lambda: ["*/*"])
    # None unless they are described: a misspelt parameter is refused, as everywhere else.
    params: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}, "additionalProperties": False},
        description="The JSON Schema (2020-12) of the parameters; without one, there are none.",
    )
    limits: OfferedLimits = Field(default_factory=OfferedLimits)

    @field_validator("media_types")
    @classmethod
    def _are_media_types(cls, values: list[str]) -> list[str]:
        check_media_types(values)
        return values

    @field_validator("params")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        check_schema(schema)
        return schema


def check_media_types(values: Iterable[str]) -> None:
    """Raises `ValueError` for what front would never match."""
    for value in values:
        if not _PATTERN.fullmatch(value):
            raise ValueError(f"{value!r} isn't a media type in lower case, such as image/png, image/* or */*")


def check_schema(schema: dict[str, Any]) -> None:
    """Raises `ValueError` unless this is the JSON Schema of an object, whole in itself."""
    if schema.get("type") != "object":
        raise ValueError('parameters are an object, so their schema begins with "type": "object"')
    try:
        compiled(schema)
    except ValueError as error:
        raise ValueError(f"this isn't a JSON Schema: {str(error).splitlines()[0]}") from None


class AnyParams(RootModel[dict[str, Any]]):
    """Parameters that front has checked against the configured schema, and that go on as they came."""


class Configured(Processor[AnyParams]):
    """A processor made from its configuration."""

    params_model = AnyParams

    def __init__(self, configuration: Configuration) -> None:
        self.name = configuration.name
        self.version = configuration.version
        self.summary = configuration.summary
        self.media_types = tuple(configuration.media_types)
        self.limits = Limits(**configuration.limits.model_dump())
        self._schema = configuration.params

    def params_schema(self) -> dict[str, Any]:
        return self._schema


def sentence(text: str, otherwise: str) -> str:
    """The first line of a text from elsewhere, fit to be shown to a user: without control characters, and bounded."""
    for line in text.splitlines():
        clean = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in line[: 4 * MAX_SENTENCE])
        if words := " ".join(clean.split()):
            return words if len(words) <= MAX_SENTENCE else words[: MAX_SENTENCE - 1] + "…"
    return otherwise


def media_type(content_type: str) -> str:
    """The bare media type of a `Content-Type`; `application/octet-stream` for what is none."""
    bare = content_type.partition(";")[0].strip().lower()
    return bare if _MEDIA_TYPE.fullmatch(bare) else OCTET_STREAM


def media_type_of(name: str) -> str:
    """The media type that a file name promises."""
    guessed, encoding = _SUFFIXES.guess_type(name)
    return guessed if guessed is not None and encoding is None else OCTET_STREAM


def suffix_of(mimetype: str) -> str:
    """The suffix of a file of this media type, with its dot; empty when it has none."""
    return _SUFFIXES.guess_extension(mimetype) or ""
