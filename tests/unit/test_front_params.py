"""Parameters: checked against a processor's schema, and read from texts by its types."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid
from services.front.domain.params import MAX_BYTES, MAX_DEPTH, ParameterSchema

SCHEMA = ParameterSchema(
    {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "widths": {"type": "array", "items": {"type": "integer", "minimum": 16}, "maxItems": 8},
            "sizes": {"type": ["array", "null"], "items": True},
            "quality": {"type": "integer"},
            "depth": {"type": ["integer", "null"]},
            "scale": {"type": "number"},
            "crop": {"type": "boolean"},
            "title": {"type": "string"},
            "fit": {"$ref": "#/$defs/Fit"},
            "loop": {"$ref": "#/$defs/Loop"},
            "any": True,
            "a/b~c": {"type": "integer"},
        },
        "$defs": {"Fit": {"anyOf": [{"type": "integer"}, {"enum": ["cover"]}]}, "Loop": {"$ref": "#/$defs/Loop"}},
    }
)
LOOSE = ParameterSchema({"type": "object"})


@pytest.mark.parametrize(
    ("pairs", "params"),
    [
        ([("widths", "320,800")], {"widths": [320, 800]}),
        ([("widths", "320"), ("widths", "800,1600")], {"widths": [320, 800, 1600]}),
        ([("widths", "")], {"widths": [""]}),
        ([("sizes", "1x2,3x4")], {"sizes": ["1x2", "3x4"]}),
        ([("quality", "80")], {"quality": 80}),
        ([("quality", "-5")], {"quality": -5}),
        ([("depth", "8")], {"depth": 8}),
        ([("scale", "1.5")], {"scale": 1.5}),
        ([("crop", "true")], {"crop": True}),
        ([("crop", "True")], {"crop": "True"}),
        ([("title", "5")], {"title": "5"}),
        ([("fit", "5")], {"fit": 5}),
        ([("fit", "cover")], {"fit": "cover"}),
        ([("any", "5")], {"any": "5"}),
        ([("title", "a"), ("title", "b")], {"title": ["a", "b"]}),
        ([("unknown", "x")], {"unknown": "x"}),
    ],
)
def test_texts_become_what_the_schema_says(pairs: list[tuple[str, str]], params: dict[str, Any]) -> None:
    assert SCHEMA.from_text(pairs) == params


@pytest.mark.parametrize("text", ["--5", "-", "1_0", "٣", "²", "9" * 30, "1.0", " 1", "0x10", "5\n"])
def test_what_is_no_integer_stays_text_and_is_refused(text: str) -> None:
    params = SCHEMA.from_text([("quality", text)])
    assert params == {"quality": text}
    with pytest.raises(Invalid):
        SCHEMA.check(params)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", ""])
def test_what_is_no_finite_number_stays_text_and_is_refused(text: str) -> None:
    params = SCHEMA.from_text([("scale", text)])
    assert params == {"scale": text}
    with pytest.raises(Invalid):
        SCHEMA.check(params)


NAMES = st.sampled_from(["widths", "sizes", "quality", "depth", "scale", "crop", "title", "fit", "loop", "any"])


@given(st.lists(st.tuples(NAMES | st.text(), st.text()), max_size=8))
def test_any_texts_are_read_without_a_fault(pairs: list[tuple[str, str]]) -> None:
    assert set(SCHEMA.from_text(pairs)) == {name for name, _ in pairs}


def test_each_fault_has_a_pointer_and_what_came_unless_it_is_long() -> None:
    with pytest.raises(Invalid) as refusal:
        SCHEMA.check(
            {"widths": [320, 1, "canary"], "quality": {"$gt": ""}, "a/b~c": "canary" * 50, "tenant": "canary" * 50}
        )
    faults = refusal.value.errors
    assert {fault["pointer"] for fault in faults} == {
        "/params/tenant",
        "/params/widths/1",
        "/params/widths/2",
        "/params/quality",
        "/params/a~1b~0c",
    }
    assert "`canary`" in json.dumps(faults)
    assert "canarycanary" not in json.dumps(faults)


def test_faults_are_bounded() -> None:
    with pytest.raises(Invalid) as refusal:
        ParameterSchema({"additionalProperties": False, "items": {"type": "null"}}).check(
            {f"p{n}": n for n in range(500)}
        )
    assert len(json.dumps(refusal.value.errors)) < 64 * 1024
    wide = ParameterSchema({"properties": {"a": {"items": {"type": "string"}}}})
    with pytest.raises(Invalid) as refusal:
        wide.check({"a": list(range(1000))})
    assert len(refusal.value.errors) == 20


def nested(depth: int) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for _ in range(depth - 1):
        params = {"a": params}
    return params


@pytest.mark.parametrize(
    "params",
    [
        {"text": "x" * MAX_BYTES},
        nested(MAX_DEPTH + 1),
        {"n": [1, {"n": 2**63}]},
        {"n": -(2**63) - 1},
        {"n": float("inf")},
        {"n": [float("nan")]},
        {"null\x00name": 1},
    ],
    ids=["too-large", "too-deep", "over-64-bits", "under-64-bits", "infinite", "nan", "null-in-name"],
)
def test_what_no_store_takes_is_refused_however_loose_the_schema(params: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        LOOSE.check(params)


def test_what_a_store_takes_passes() -> None:
    LOOSE.check({**nested(MAX_DEPTH), "n": 2**63 - 1, "m": -(2**63), "$gt": "", "a.b": None, "x": 1e308})


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_a_schema_that_refers_outside_itself_is_refused_and_nothing_fetched(scheme: str, tmp_path: Path) -> None:
    there = tmp_path / "schema.json"
    there.write_text("{}")
    reference = there.as_uri() if scheme == "file" else "http://127.0.0.1:9/schema.json"
    with pytest.raises(ValueError, match="refers to nothing outside itself"):
        ParameterSchema({"properties": {"a": {"$ref": reference}}})
