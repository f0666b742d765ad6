"""What is wrong with a value, in words that its user understands: what it should be, and what it is.

Both pydantic and JSON Schema (2020-12) find faults; each is explained by the schema that the value doesn't fit, so that
no message of a library and no regular expression reaches a user. A schema with a `pattern` needs a `description` whose
first clause names what fits: "Pages and ranges such as `1-3,7`: which to read."
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

MAX_TEXT = 40
_MAX_NAMES = 12
_MAX_FAULTS = 100
_MAX_COMPARED = 128
_MAX_DEPTH = 4  # a schema may hold itself
_CLAUSE_END = re.compile(r"[:;.] ")

Schema = Mapping[str, Any]


def wrong(schema: Schema, value: object, root: Schema, *, echo: bool = True) -> str:
    """A sentence for a value that doesn't fit `schema`, whose references lead into `root`. Without `echo` it doesn't
    have the value, which may be a secret.
    """
    return f"It should be {wanted(schema, root)}{f', and is {described(value)}' if echo else ''}."


def unknown(name: str, known: Iterable[str], kind: str) -> str:
    """A sentence for a name that isn't among those `known` of its `kind`."""
    names = sorted(known)
    if len(name) <= _MAX_COMPARED and (close := difflib.get_close_matches(name, names, 1)):
        return f"There is no {kind} `{_short(name)}`. Did you mean `{close[0]}`?"
    if names and len(names) <= _MAX_NAMES:
        return f"There is no {kind} `{_short(name)}`. There is {listed(names, 'and')}."
    return f"There is no {kind} `{_short(name)}`."


def listed(names: Sequence[object], last: str) -> str:
    """Names in a row, as in "`a`, `b` and `c`"; of many, the first and how many others there are."""
    quoted = [f"`{_short(str(name))}`" for name in names[:_MAX_NAMES]]
    if len(names) > _MAX_NAMES:
        return f"{', '.join(quoted)} {last} {len(names) - _MAX_NAMES:,} others"
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {last} {quoted[-1]}"


def missing(schema: Schema | None, root: Schema) -> str:
    """A sentence for a value that has to be there."""
    return "It is missing." if not schema else f"It is missing. It should be {wanted(schema, root)}."


def wanted(schema: Schema, root: Schema, depth: int = _MAX_DEPTH) -> str:
    """What fits `schema`, in words: "a whole number from 1 to 100"."""
    schema = _resolved(schema, root)
    if depth == 0:
        return "as its schema describes"
    if alternatives := [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        resolved = [_resolved(each, root) for each in alternatives]
        for each in resolved:
            if "pattern" in each and (description := each.get("description", schema.get("description"))):
                return _first_clause(str(description))
        words = [wanted(each, root, depth - 1) for each in resolved if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(words)) or "null"
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("enum"):
        return f"one of {listed(schema['enum'], 'or')}"
    kind = schema.get("type")
    kinds = [kind] if isinstance(kind, str) else list(kind or [_implied(schema)])
    return " or ".join(_of_kind(each, schema, root, depth) for each in kinds if each != "null" or len(kinds) == 1)


def described(value: object) -> str:
    """A value as its sender knows it; what is long, by its kind and size."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return _short(str(value))
    if isinstance(value, str):
        short = len(value) <= MAX_TEXT and value.isprintable()
        return (f"`{value}`" if value else "empty") if short else f"a text of {len(value):,} characters"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, Sequence):
        return f"a list of {len(value):,}" if value else "an empty list"
    return "something else"


def schema_at(root: Schema, location: Sequence[str | int]) -> Schema | None:
    """The schema of the value at a location, None where that can't be said: in a union, or outside of the schema."""
    schema: Any = root
    for part in location:
        schema = _resolved(schema, root)
        options = [each for each in schema.get("anyOf", ()) if _resolved(each, root).get("type") != "null"]
        if len(options) == 1:
            schema = _resolved(options[0], root)
        schema = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
        if not isinstance(schema, Mapping):
            return None
    return _resolved(schema, root)


def explain(
    error: ValidationError, model: type[BaseModel], *, echo: bool = True
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where each of the first 100 faults is that pydantic found, and a sentence about it; `echo` as in `wrong`."""
    root = _schema(model)
    for fault in error.errors(include_url=False)[:_MAX_FAULTS]:
        yield fault["loc"], explain_one(fault, root, echo=echo)


def explain_one(fault: ErrorDetails, root: Schema, kind: str = "field", *, echo: bool = True) -> str:
    """A sentence about a fault that pydantic found. `root` is the schema of the whole, as far as it is known."""
    location, context = fault["loc"], fault.get("ctx", {})
    schema = schema_at(root, location)
    if fault["type"] == "missing":
        return missing(schema, root)
    if fault["type"] == "extra_forbidden":
        parent = schema_at(root, location[:-1]) or {}
        return unknown(str(location[-1]), parent.get("properties", {}), kind)
    if fault["type"] in ("value_error", "assertion_error"):
        return _sentence(str(context.get("error") or "It can't be taken as it is"))
    return wrong(schema or _schema_of(fault["type"], context), fault["input"], root, echo=echo)


@cache
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _schema_of(fault: str, context: Mapping[str, Any]) -> Schema:
    """What pydantic's kind of fault says of the schema."""
    if fault in ("enum", "literal_error"):
        return {"description": f"one of {context.get('expected', 'a few values')}".replace("'", "`"), "pattern": ""}
    for name, keyword in _BOUNDS.items():
        if name in context:
            return {keyword: context[name]}
    for prefix, schema in _KINDS.items():
        if fault.startswith(prefix):
            return schema
    return {}


_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "min_length": "minLength",
    "max_length": "maxLength",
}
_KINDS: Mapping[str, Schema] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "finite": {"type": "number"},
    "bool": {"type": "boolean"},
    "string": {"type": "string"},
    "datetime": {"type": "string", "format": "date-time"},
    "timezone": {"type": "string", "format": "date-time"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "model": {"type": "object"},
    "path": {"description": "a path", "pattern": ""},
    "url": {"description": "a URL", "pattern": ""},
}


def _resolved(schema: Any, root: Schema, references: int = 8) -> Schema:
    while isinstance(schema, Mapping) and "$ref" in schema and references:
        schema = root.get("$defs", {}).get(str(schema["$ref"]).removeprefix("#/$defs/"))
        references -= 1
    return schema if isinstance(schema, Mapping) else {}


def _implied(schema: Schema) -> str:
    """The kind of value that a schema without a type is about."""
    if not schema.keys().isdisjoint(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")):
        return "number"
    if not schema.keys().isdisjoint(("minLength", "maxLength", "pattern", "format")):
        return "string"
    if not schema.keys().isdisjoint(("minItems", "maxItems", "uniqueItems", "items")):
        return "array"
    return "any"


def _of_kind(kind: str, schema: Schema, root: Schema, depth: int) -> str:
    if kind in ("integer", "number"):
        noun = "a whole number" if kind == "integer" else "a number"
        step = f", a multiple of {schema['multipleOf']}" if "multipleOf" in schema else ""
        return noun + _range(schema) + step
    if kind == "string":
        return _text(schema)
    if kind == "array":
        return _list(schema, root, depth)
    return {"boolean": "true or false", "object": "an object", "null": "null"}.get(kind, "something else")


def _range(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f" from {least} to {most}"
    bounds = [(least, "of at least"), (most, "of at most"), (above, "above"), (below, "below")]
    return "".join(f" {words} {bound}" for bound, words in bounds if bound is not None)


def _text(schema: Schema) -> str:
    if "pattern" in schema:
        return _first_clause(str(schema.get("description") or "a text of a certain form"))
    if schema.get("format") == "date-time":
        return "a time with its zone, such as 2026-12-01T12:00:00Z"
    return f"a text{_counted(schema.get('minLength'), schema.get('maxLength'), 'character')}"


def _first_clause(description: str) -> str:
    clause = _CLAUSE_END.split(description, 1)[0].rstrip(".")
    return clause[0].lower() + clause[1:] if clause[:2].istitle() else clause


def _list(schema: Schema, root: Schema, depth: int) -> str:
    of = f", each {wanted(schema['items'], root, depth - 1)}" if schema.get("items") else ""
    once = ", each only once" if schema.get("uniqueItems") else ""
    return f"a list{_counted(schema.get('minItems'), schema.get('maxItems'), 'item')}{of}{once}"


def _counted(least: int | None, most: int | None, noun: str) -> str:
    if least and most:
        return f" of {least} {noun}{'' if least == 1 else 's'}" if least == most else f" of {least} to {most} {noun}s"
    if most is not None:
        return f" of up to {most} {noun}s"
    return f" of at least {least} {noun}{'' if least == 1 else 's'}" if least else ""


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")
