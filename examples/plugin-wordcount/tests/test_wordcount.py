"""The plug-in alone, against the package `gristmill`: `pip install gristmill pytest . && pytest`."""

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from gristmill_wordcount import WordCount, WordCountParams
from pydantic import ValidationError

from gristmill import Context, InputFile, InvalidInput


def count(folder: Path, text: bytes, **params: Any) -> Any:
    path = folder / "input"
    path.write_bytes(text)
    file = InputFile(path, "a.txt", "text/plain", len(text))
    (output,) = WordCount().process(file, WordCountParams(**params), Context(folder))
    assert (output.name, output.mimetype) == ("words.json", "application/json")
    return json.loads(output.path.read_text())


def test_it_is_found_by_its_entry_point() -> None:
    (point,) = entry_points(group="gristmill.processors", name="wordcount")
    assert point.load() is WordCount


def test_words_are_counted_whatever_their_case(tmp_path: Path) -> None:
    found = count(tmp_path, b"The mill and the miller", top=2, ignore=["and"])
    assert found == {"words": 4, "different": 3, "top": [["the", 2], ["mill", 1]]}


def test_a_text_that_is_none_is_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="The text isn't UTF-8"):
        count(tmp_path, b"\xff\xfe")


def test_parameters_are_checked() -> None:
    with pytest.raises(ValidationError):
        WordCountParams(top=1001)
