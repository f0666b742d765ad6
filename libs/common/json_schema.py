"""The JSON Schemas (2020-12) of processors' parameters, compiled."""

from collections.abc import Mapping
from typing import Any

import jsonschema_rs


def compiled(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """A validator that shows no values in its messages; raises `ValueError` when this is no JSON Schema.

    A schema is whole in itself: the library would fetch what it refers to from anywhere, this machine's files included.
    """
    return jsonschema_rs.validator_for(dict(schema), mask="The value", retriever=_stay_inside)


def _stay_inside(reference: str) -> Any:
    raise ValueError(f"a schema refers to nothing outside itself, such as {reference}")
