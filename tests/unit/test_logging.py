"""Every entry of the log is one line of JSON in ASCII, whatever is in it."""

import json
import subprocess
import sys
from typing import Any

SCRIPT = """
import sys
from dataclasses import dataclass, field

from common.logging import configure, get_logger


@dataclass
class Login:
    user: str
    password: str = field(repr=False)


configure("front")
for word in eval(sys.stdin.read()):
    get_logger().warning("blob.corrupt", word=word)
try:
    raise ValueError("half of a pair: \\ud800")
except ValueError:
    get_logger().exception("request.failed", what=Login("alice", "secret"))
"""


def logged(*words: object) -> list[dict[str, Any]]:
    """What a process of its own logs of these, since `configure` takes over all of its process's logging."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=ascii(words), capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stderr.encode("ascii").splitlines()]


def test_words_of_strangers_make_neither_a_line_nor_a_mess_of_their_own() -> None:
    words = ["ä", "a\nb\r\u2028\u0085", "\x1b[2J\x9b2J", "\ud800", "\udfff\ud800", '"}{', "\0\x7f", "🌾"]
    *entries, failed = logged(*words)
    assert [entry["word"] for entry in entries] == words
    assert "half of a pair" in failed["exception"]


def test_an_entry_names_its_action_its_service_its_level_and_its_time() -> None:
    entry, _ = logged(7)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"action": "blob.corrupt", "service": "front", "level": "warning", "word": 7}


def test_what_is_no_json_is_named_as_python_names_it() -> None:
    entries = logged(b"abc", b"\xff", Ellipsis)[:-1]
    assert [entry["word"] for entry in entries] == ["b'abc'", "b'\\xff'", "Ellipsis"]


def test_what_an_object_does_not_show_stays_out_of_the_log() -> None:
    assert logged()[-1]["what"] == "Login(user='alice')"
