"""`analyzer`: streams the input to an HTTP container of the operator's own, and takes its response as the output.

One `POST` with the file as its body, then:

- 2xx: the body is the output, by `Content-Type` and the name in `Content-Disposition`; 204 is no output.
- 4xx: the file is at fault, and the user learns why; but 408, 425 and 429 are for later.
- anything else, or nothing, or a response that is cut, too long or without an end: tried again.
"""

import contextlib
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import Field, field_validator

from gristmill import Context, InputFile, InvalidInput, Output, Unavailable
from gristmill.wire.processors import ProcessorName, Summary
from services.processor.processors.configured import (
    AnyParams,
    Configuration,
    Configured,
    media_type,
    sentence,
    suffix_of,
)

PARAMS_HEADER = "Gristmill-Params"
CONNECT_SECONDS = 5.0
MAX_NAME = 128
_MAX_REASON_BYTES = 64 * 1024
_LATER = {408, 425, 429}
_EXTENDED_NAME = re.compile(r";\s*filename\*\s*=\s*UTF-8'[^']*'([^;\s]+)", re.IGNORECASE)  # RFC 8187
_PLAIN_NAME = re.compile(r';\s*filename\s*=\s*(?:"([^"]*)"|([^;\s]+))', re.IGNORECASE)
_REASON_KEYS = ("detail", "title", "message", "error")


class AnalyzerConfiguration(Configuration):
    """An entry of `PROCESSOR_ANALYZERS`."""

    name: ProcessorName = "analyzer"
    summary: Summary = "A file as an HTTP container analyses it."
    url: str = Field(description="Where the container takes files: http://127.0.0.1:9000/.")
    timeout_seconds: float = Field(
        300, gt=0, le=86_400, description="How long one call may take, from connecting to the last byte."
    )
    # What every common server takes in its default settings: several allow 8 KiB for all headers together.
    max_params_bytes: int = Field(4096, ge=2, le=60_000, description="The largest parameters, as JSON.")

    @field_validator("url")
    @classmethod
    def _is_a_place_to_post(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            _ = parts.port
            httpx.URL(value)
        except (ValueError, httpx.InvalidURL):
            raise ValueError("this isn't a URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.fragment:
            raise ValueError("a URL has http or https and a host, and no user and no fragment")
        return value


class Analyzer(Configured):
    """Streams: neither the input nor the response is held. Connections go to the configured URL alone: no redirect is
    followed, no proxy is asked, and no token is sent."""

    network = True

    def __init__(self, configuration: AnalyzerConfiguration) -> None:
        super().__init__(configuration)
        self._url = configuration.url
        self._timeout = configuration.timeout_seconds
        self._max_params_bytes = configuration.max_params_bytes

    def process(self, file: InputFile, params: AnyParams, context: Context) -> Sequence[Output]:
        headers = {
            "Content-Type": file.mimetype,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
            PARAMS_HEADER: self._params(params.root),
            "Accept-Encoding": "identity",
            "User-Agent": "gristmill",
            **({"traceparent": os.environ["TRACEPARENT"]} if "TRACEPARENT" in os.environ else {}),
        }
        # A container may think for as long as the whole call may take, before it reads and before it answers.
        timeout = httpx.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout))
        with (
            _within(self._timeout),
            _answered(),
            httpx.Client(timeout=timeout, trust_env=False, verify=self._url.startswith("https")) as http,
            file.path.open("rb") as source,
            http.stream("POST", self._url, content=source, headers=headers) as response,
        ):
            return self._outputs(response, context)

    def _params(self, params: dict[str, Any]) -> str:
        text = json.dumps(params, separators=(",", ":"))  # ASCII, whatever characters are in it
        if len(text) > self._max_params_bytes:
            raise InvalidInput(f"This processor's parameters have at most {self._max_params_bytes} bytes as JSON.")
        return text

    def _outputs(self, response: httpx.Response, context: Context) -> Sequence[Output]:
        if response.is_client_error and response.status_code not in _LATER:
            raise InvalidInput(_reason(response))
        if not response.is_success:
            raise Unavailable(f"The analyzer answered with HTTP {response.status_code}.")
        if response.status_code == httpx.codes.NO_CONTENT:
            return []
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Unavailable("The analyzer's response is encoded, though it was asked not to be.")
        if not {"content-length", "transfer-encoding"} & response.headers.keys():
            raise Unavailable("The analyzer's response has neither `Content-Length` nor chunks.")
        mimetype = media_type(response.headers.get("Content-Type", ""))
        name = _name(response.headers.get("Content-Disposition", "")) or f"result{suffix_of(mimetype)}"
        path = context.new_file(name)
        room = self._most_bytes()
        with path.open("wb") as target:
            for chunk in response.iter_raw():
                room -= len(chunk)
                if room < 0:
                    raise Unavailable("The analyzer's response is longer than an output may be.")
                target.write(chunk)
        return [Output(name, mimetype, path)]

    def _most_bytes(self) -> int:
        """The size of the largest output: this processor's limit or the process's, whichever is less."""
        of_process = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        limits = (self.limits.output_bytes, None if of_process == resource.RLIM_INFINITY else of_process)
        return min((limit for limit in limits if limit is not None), default=sys.maxsize)


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises `Unavailable` after so many seconds, wherever the call is then; the client's own timeouts begin anew with
    each byte. A signal can do it because a run has its process, and its main thread, to itself."""

    def too_late(_number: int, _frame: FrameType | None) -> None:
        raise Unavailable("The analyzer took longer than it may.")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    """Raises `Unavailable` for a call that fails on the way."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise Unavailable("The analyzer took longer than it may.") from error
    except httpx.HTTPError as error:
        print(repr(error), file=sys.stderr)  # noqa: T201 - for the log: to the user, where the container is says nothing
        raise Unavailable("The analyzer didn't respond, or not to its end.") from error


def _reason(response: httpx.Response) -> str:
    """Why the container refuses the file: a problem document's `detail`, or the first line of a plain text."""
    otherwise = f"The analyzer refused the file (HTTP {response.status_code})."
    body = b""
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > _MAX_REASON_BYTES:
            return otherwise
    text = body.decode(errors="replace")
    mimetype = media_type(response.headers.get("Content-Type", ""))
    if mimetype == "application/json" or mimetype.endswith("+json"):
        return sentence(_detail(text), otherwise)
    return sentence(text, otherwise) if mimetype == "text/plain" else otherwise


def _detail(text: str) -> str:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    found = [document.get(key) for key in _REASON_KEYS] if isinstance(document, dict) else []
    return next((value for value in found if isinstance(value, str)), "")


def _name(disposition: str) -> str:
    """The file name of a `Content-Disposition` (RFC 6266), without its folders; empty when there is none."""
    if extended := _EXTENDED_NAME.search(disposition):
        name = unquote(extended[1], errors="replace")
    elif plain := _PLAIN_NAME.search(disposition):
        name = plain[1] or plain[2] or ""
    else:
        return ""
    name = "".join(char for char in re.split(r"[/\\]", name)[-1] if char.isprintable()).strip()
    return "" if name in {".", ".."} else name[:MAX_NAME]
