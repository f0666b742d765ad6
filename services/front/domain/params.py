"""A processor's parameters: checked against the JSON Schema it offers, and read from query strings by its types."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind

from common.errors import Invalid
from common.json_schema import compiled
from gristmill import faults

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
_MAX_FAULTS = 20
_MAX_REFERENCES = 8
_INTEGER = re.compile("-?[0-9]{1,18}")


class ParameterSchema:
    """The JSON Schema (2020-12) of a processor's parameters, compiled once."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._validator = compiled(schema)

    def check(self, params: Mapping[str, Any]) -> None:
        """Raises `Invalid` with a pointer to each fault."""
        if len(json.dumps(params)) > MAX_BYTES:
            raise Invalid(errors=[{"pointer": "/params", "detail": f"Parameters have at most {MAX_BYTES} bytes."}])
        if reason := _unstorable(params, MAX_DEPTH):
            raise Invalid(errors=[{"pointer": "/params", "detail": reason}])
        found = itertools.chain.from_iterable(map(self._explained, self._validator.iter_errors(params)))
        if errors := list(itertools.islice(found, _MAX_FAULTS)):
            raise Invalid(errors=errors)

    def from_text(self, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Parameters from a query string or form fields: repeated keys and commas make lists, and texts become
        numbers or booleans where the schema has these. What can't be converted stays text, for `check` to refuse.
        """
        texts: dict[str, list[str]] = {}
        for key, value in pairs:
            texts.setdefault(key, []).append(value)
        return {key: self._value(key, values) for key, values in texts.items()}

    def _explained(self, error: jsonschema_rs.ValidationError) -> Iterable[dict[str, str]]:
        kind, schema = error.kind, self._schema_of(error)
        if isinstance(kind, ValidationErrorKind.AdditionalProperties | ValidationErrorKind.UnevaluatedProperties):
            for name in kind.unexpected:
                detail = faults.unknown(name, schema.get("properties", {}), "parameter")
                yield {"pointer": _pointer([*error.instance_path, name]), "detail": detail}
        elif isinstance(kind, ValidationErrorKind.Required):
            detail = faults.missing(schema.get("properties", {}).get(kind.property), self._schema)
            yield {"pointer": _pointer([*error.instance_path, kind.property]), "detail": detail}
        elif isinstance(kind, ValidationErrorKind.Not):
            yield {"pointer": _pointer(error.instance_path), "detail": _forbidden(schema.get("not"))}
        else:
            detail = faults.wrong(schema, error.instance, self._schema)
            yield {"pointer": _pointer(error.instance_path), "detail": detail}

    def _schema_of(self, error: jsonschema_rs.ValidationError) -> Mapping[str, Any]:
        """The schema whose keyword, the last of its path, the value doesn't fit."""
        schema: Any = self._schema
        for part in error.schema_path[:-1]:
            if part == "$ref":
                name = str(schema[part]).removeprefix("#/$defs/")
                schema = self._schema.get("$defs", {}).get(name, {})
            else:
                schema = schema[part]
        return schema if isinstance(schema, Mapping) else {}

    def _value(self, key: str, values: list[str]) -> Any:
        shapes = list(_shapes(self._schema.get("properties", {}).get(key), self._schema))
        arrays = [shape for shape in shapes if "array" in _types([shape])]
        if arrays:
            items = list(_shapes(arrays[0].get("items"), self._schema))
            return [_convert(part, items) for value in values for part in value.split(",")]
        if len(values) == 1:
            return _convert(values[0], shapes)
        return [_convert(value, shapes) for value in values]


def _forbidden(schema: Any) -> str:
    names = schema.get("required", ()) if isinstance(schema, Mapping) else ()
    return f"Give only one of {' and '.join(f'`{name}`' for name in names)}." if names else "It can't be like this."


def _unstorable(value: Any, depth: int) -> str | None:
    """What no store or other JSON reader would take unchanged, however loose a processor's schema is."""
    if depth == 0:
        return f"Parameters are nested at most {MAX_DEPTH} deep."
    if isinstance(value, dict):
        if any("\x00" in key for key in value):
            return "A parameter's name has no null characters."
        return next(filter(None, (_unstorable(item, depth - 1) for item in value.values())), None)
    if isinstance(value, list):
        return next(filter(None, (_unstorable(item, depth - 1) for item in value)), None)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "Integers have at most 64 bits."
    if isinstance(value, float) and not math.isfinite(value):
        return "Numbers are finite."
    return None


def _pointer(path: Iterable[str | int]) -> str:
    return "/params" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _shapes(schema: Any, root: Mapping[str, Any], references: int = _MAX_REFERENCES) -> Iterable[Mapping[str, Any]]:
    """A schema's alternatives, with local references followed; a schema may also be true or false."""
    if not isinstance(schema, Mapping) or references == 0:
        return
    if reference := schema.get("$ref"):
        name = str(reference).removeprefix("#/$defs/")
        yield from _shapes(root.get("$defs", {}).get(name), root, references - 1)
        return
    alternatives = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    if not alternatives:
        yield schema
    for alternative in alternatives:
        yield from _shapes(alternative, root, references - 1)


def _types(shapes: Iterable[Mapping[str, Any]]) -> set[str]:
    types: set[str] = set()
    for shape in shapes:
        named = shape.get("type", [])
        types.update([named] if isinstance(named, str) else named)
    return types


def _convert(text: str, shapes: Iterable[Mapping[str, Any]]) -> Any:
    types = _types(shapes)
    if "integer" in types and _INTEGER.fullmatch(text):
        return int(text)
    if "number" in types:
        try:
            number = float(text)
        except ValueError:
            return text
        return number if math.isfinite(number) else text
    if "boolean" in types and text in ("true", "false"):
        return text == "true"
    return text
