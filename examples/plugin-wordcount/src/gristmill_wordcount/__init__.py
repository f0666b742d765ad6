"""`wordcount`: counts the words of a text. It imports nothing of Gristmill's but the package `gristmill`."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TextIO

from pydantic import Field

from gristmill import Context, InputFile, InvalidInput, LimitExceeded, Limits, Output, Params, Processor

__all__ = ["WordCount", "WordCountParams"]

MAX_DIFFERENT_WORDS = 1_000_000
CHUNK_CHARS = 64 * 1024


class WordCountParams(Params):
    """What a caller may set; in a query string as `?processor=wordcount&top=10&ignore=the,a`."""

    top: int = Field(10, ge=0, le=1000, description="How many of the most frequent words are listed.")
    ignore: list[str] = Field([], max_length=100, description="Words that aren't counted, in lower case.")


class WordCount(Processor[WordCountParams]):
    """Gives `words.json`: `{"words", "different", "top": [[word, count], ...]}`."""

    name = "wordcount"
    version = "1.0.0"
    summary = "Counts the words of a text, and lists the most frequent ones."
    media_types = ("text/plain", "text/markdown")
    params_model = WordCountParams
    limits = Limits(max_input_bytes=100_000_000, memory_bytes=512 * 2**20, wall_seconds=120)

    def process(self, file: InputFile, params: WordCountParams, context: Context) -> Sequence[Output]:
        counts: Counter[str] = Counter()
        ignored = set(params.ignore)
        try:
            with file.path.open(encoding="utf-8") as text:
                for words, read in _words(text):
                    counts.update(word for word in words if word not in ignored)
                    if len(counts) > MAX_DIFFERENT_WORDS:
                        raise LimitExceeded(f"A text has at most {MAX_DIFFERENT_WORDS} different words.")
                    context.progress(read / max(file.size, 1))
        except UnicodeDecodeError:
            raise InvalidInput("The text isn't UTF-8.") from None
        path = context.new_file("words.json")
        found = {"words": counts.total(), "different": len(counts), "top": counts.most_common(params.top)}
        path.write_text(json.dumps(found))
        return [Output("words.json", "application/json", path)]


def _words(text: TextIO) -> Iterator[tuple[list[str], int]]:
    """The words in lower case, some thousands at a time, and how many characters were read by then."""
    read, cut = 0, ""
    while chunk := text.read(CHUNK_CHARS):
        read += len(chunk)
        # The last word of a chunk may go on in the next one, unless it is longer than words are.
        words = (cut + chunk).lower().split()
        cut = words.pop() if words and not chunk[-1].isspace() and len(words[-1]) < CHUNK_CHARS else ""
        yield words, read
    yield [cut] if cut else [], read
