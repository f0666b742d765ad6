"""What is wrong with a value is said in words that a user understands."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from common.errors import Invalid
from gristmill import faults
from gristmill.wire import processors, public
from gristmill.wire.base import Timestamp, Wire
from services.blob.settings import Settings as BlobSettings
from services.front.domain.params import ParameterSchema
from services.front.settings import Settings as FrontSettings
from services.job.settings import Settings as JobSettings
from services.processor.processors.checksum import Checksum
from services.processor.processors.compress import Compress
from services.processor.processors.extract_metadata import ExtractMetadata
from services.processor.processors.image_variants import ImageVariants
from services.processor.processors.pdf import Pdf
from services.processor.settings import Settings as ProcessorSettings

BUILT_IN = (Checksum(), Compress(), ExtractMetadata(), ImageVariants(), Pdf())


class Order(Wire):
    size: int = Field(ge=16, le=8192)
    kind: Literal["png", "webp"] = "png"
    code: str | None = Field(None, pattern="^[A-Z]{3}$", description="Three capital letters: the code.")
    tags: list[str] = Field(default_factory=list, max_length=2)
    at: Timestamp | None = None


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("size", 4, "It should be a whole number from 16 to 8192, and is 4."),
        ("size", "4px", "It should be a whole number from 16 to 8192, and is `4px`."),
        ("size", None, "It should be a whole number from 16 to 8192, and is null."),
        ("kind", "gif", "It should be one of `png` or `webp`, and is `gif`."),
        ("code", "x" * 300, "It should be three capital letters, and is a text of 300 characters."),
        ("tags", ["a", "b", "c"], "It should be a list of up to 2 items, each a text, and is a list of 3."),
        ("tags", [1], "It should be a text, and is 1."),
        ("at", "noon", "It should be a time with its zone, such as 2026-12-01T12:00:00Z, and is `noon`."),
        ("tgas", [], "There is no field `tgas`. Did you mean `tags`?"),
        ("zzz", [], "There is no field `zzz`. There is `at`, `code`, `kind`, `size` and `tags`."),
    ],
)
def test_a_fault_names_what_is_wanted_and_what_came(field: str, value: object, detail: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Order.model_validate({"size": 20, field: value})
    assert [what for _, what in faults.explain(refused.value, Order)] == [detail]


def test_what_is_missing_is_described() -> None:
    with pytest.raises(ValidationError) as refused:
        Order.model_validate({})
    assert list(faults.explain(refused.value, Order)) == [
        (("size",), "It is missing. It should be a whole number from 16 to 8192.")
    ]


def test_a_secret_is_not_echoed() -> None:
    with pytest.raises(ValidationError) as refused:
        Order.model_validate({"size": "secret"})
    assert "secret" not in str(list(faults.explain(refused.value, Order, echo=False)))


@pytest.mark.parametrize(
    ("processor", "params", "pointer", "detail"),
    [
        (
            ImageVariants(),
            {"sizes": ["20y40"]},
            "/params/sizes/0",
            "It should be `WxH`, each 16 to 8192, and is `20y40`.",
        ),
        (ImageVariants(), {"quality": 0}, "/params/quality", "It should be a whole number from 1 to 100, and is 0."),
        (
            ImageVariants(),
            {"format": "gif"},
            "/params/format",
            "It should be one of `webp`, `avif`, `jpeg` or `png`, and is `gif`.",
        ),
        (ImageVariants(), {"qualty": 3}, "/params/qualty", "There is no parameter `qualty`. Did you mean `quality`?"),
        (
            ImageVariants(),
            {"widths": [20], "sizes": ["20x40"]},
            "/params",
            "Give only one of `widths` and `sizes`.",
        ),
        (
            Pdf(),
            {"pages": "first"},
            "/params/pages",
            "It should be pages and ranges such as `1-3,7,20-`, and is `first`.",
        ),
        (
            Pdf(),
            {"outputs": ["text", "text"]},
            "/params/outputs",
            "It should be a list of 1 to 3 items, each one of `info`, `text` or `pictures`, each only once, "
            "and is a list of 2.",
        ),
        (Compress(), {"format": "gzip", "level": 9}, "/params/level", "It should be a number from 0 to 3, and is 9."),
    ],
)
def test_a_parameter_is_explained_likewise(
    processor: Any, params: Mapping[str, Any], pointer: str, detail: str
) -> None:
    with pytest.raises(Invalid) as refused:
        ParameterSchema(processor.params_schema()).check(params)
    assert refused.value.errors == [{"pointer": pointer, "detail": detail}]


def test_a_parameter_that_is_missing_is_pointed_at() -> None:
    schema = {"type": "object", "properties": {"language": {"enum": ["de", "en"]}}, "required": ["language"]}
    with pytest.raises(Invalid) as refused:
        ParameterSchema(schema).check({})
    detail = "It is missing. It should be one of `de` or `en`."
    assert refused.value.errors == [{"pointer": "/params/language", "detail": detail}]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}},
        {"$ref": "#/$defs/any", "$defs": {"any": {"anyOf": [{"$ref": "#/$defs/any"}, False, {"type": "integer"}]}}},
        {"enum": [f"value-{n}" for n in range(5_000)]},
        {"type": "array", "items": False},
        {"type": "string", "pattern": "^x$", "description": 7},
    ],
)
def test_whatever_a_schema_is_like_a_sentence_comes_of_it(schema: dict[str, Any]) -> None:
    assert 0 < len(faults.wrong(schema, {"a": 1}, schema)) < 1_000


def test_many_faults_are_cut_short() -> None:
    with pytest.raises(ValidationError) as refused:
        Order.model_validate({"size": 20, **{f"{n}" * 1_000: n for n in range(500)}})
    assert len(list(faults.explain(refused.value, Order))) == 100


def _models() -> Iterator[type[BaseModel]]:
    for module in (public, processors):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield kind
    yield from (BlobSettings, FrontSettings, JobSettings, ProcessorSettings)
    yield from (processor.params_model for processor in BUILT_IN)


def _patterns(schema: Any, description: str | None = None) -> Iterator[str | None]:
    """The description of each schema with a pattern; an alternative has that of the whole."""
    if isinstance(schema, Mapping):
        described = schema.get("description")
        if isinstance(schema.get("pattern"), str):
            yield described or description
        for name, part in schema.items():
            yield from _patterns(part, described if name in ("anyOf", "oneOf") else None)
    elif isinstance(schema, list):
        for part in schema:
            yield from _patterns(part, description)


@pytest.mark.parametrize("model", list(_models()), ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_every_pattern_is_described_in_words(model: type[BaseModel]) -> None:
    found = list(_patterns(model.model_json_schema()))
    assert all(description and not re.search(r"\\d|\[0-9\]", description) for description in found), found
