"""Settings come from the environment, are validated once at start, and fail with a sentence that names the variable."""

import re
import sys
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsError

from gristmill.faults import explain

ALIVE_FILE = "A file that is touched every 5 s, which `python -m common.probe` then looks at; none unless set."
MAX_REQUESTS = 2_000
AccessLog = Literal["all", "most", "none"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

LoadedSettings = TypeVar("LoadedSettings", bound=BaseSettings)


class ProcessSettings(BaseSettings):
    """The settings of every process."""

    log_level: LogLevel = Field("INFO", description="The least level that is logged.")
    key_file: Path | None = Field(
        None,
        description="PEM file of the Ed25519 private key that this process signs its calls to other services with.",
    )


class ServerSettings(ProcessSettings):
    """The settings of every process with a port."""

    host: str = Field("127.0.0.1", description="The address to listen on.")
    callers_dir: Path = Field(
        description="Folder with the public keys of the services that may call: `<caller>.pem`, "
        "or `<caller>.<anything>.pem` for a second key while keys are changed."
    )
    notice_seconds: float = Field(
        3,
        ge=0,
        le=60,
        description="How long requests are still taken after SIGTERM, while `/readyz` says 503 to balancers.",
    )
    max_requests: int = Field(
        MAX_REQUESTS,
        ge=1,
        description="How many requests a port works on at once; those on top get 503. What only waits isn't counted: "
        "streams of events, claims.",
    )
    access_log: AccessLog = Field(
        "most", description="Which requests are logged. `most` leaves out those that poll and succeed."
    )
    drain_seconds: int = Field(25, ge=0, le=300, description="How long running requests may go on after SIGTERM.")


def load(kind: type[LoadedSettings]) -> LoadedSettings:
    """Read the settings. On a fault name the variable, and exit with 2."""
    prefix = kind.model_config.get("env_prefix", "")
    try:
        return kind()
    except SettingsError as error:
        # Lists and mappings are read as JSON, and what isn't is named in the message alone.
        named = re.search(r'field "(\w+)"', str(error))
        refuse(f"{prefix}{named[1].upper() if named else ''}: It should be JSON.")
    except ValidationError as error:
        # Without what was given: it may be a secret.
        refuse(
            *(
                f"{prefix}{'_'.join(map(str, where)).upper()}: {what}" if where else what
                for where, what in explain(error, kind, echo=False)
            )
        )


def refuse(*sentences: str) -> NoReturn:
    """End the process: its settings are wrong, so that starting it again can't help."""
    for sentence in sentences:
        print(sentence, file=sys.stderr)  # noqa: T201 - logging is not set up yet
    raise SystemExit(2)
