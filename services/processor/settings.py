"""The processor's settings, `PROCESSOR_…` in the environment."""

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from common.settings import ALIVE_FILE, ProcessSettings
from services.processor.processors.analyzer import AnalyzerConfiguration
from services.processor.processors.command import CommandConfiguration


class Settings(ProcessSettings):
    """Where job and blob are, how much is run at once, and what one run may use."""

    model_config = SettingsConfigDict(env_prefix="PROCESSOR_")

    job_url: str = Field(description="Address of job.")
    blob_url: str = Field(description="Address of blob.")
    key_file: Path = Field(  # required here: a processor does nothing but call
        description="PEM file of the Ed25519 private key that this process signs its calls to other services with."
    )
    analyzers: list[AnalyzerConfiguration] = Field(
        default_factory=list,
        max_length=100,
        description="HTTP containers that are offered as processors, as a JSON list; the keys are in "
        'docs/processors.md: [{"name": "ocr", "url": "http://127.0.0.1:9000/", "mediaTypes": ["image/*"]}].',
    )
    commands: list[CommandConfiguration] = Field(
        default_factory=list,
        max_length=100,
        description="Programs that are offered as processors, likewise: "
        '[{"name": "count", "argv": ["/usr/bin/wc", "{input}"]}].',
    )
    alive_file: Path | None = Field(None, description=ALIVE_FILE)
    slots: int = Field(1, ge=1, le=256, description="Runs at once; one for each core is right for most processors.")
    work_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()),
        description="Where runs keep their files while they last; several processors may share it.",
    )
    # A decoded picture of 100 megapixels is 400 MB, and an encoder holds it about twice more; but what is limited is
    # address space, of which libraries and allocators take several hundred MB that they never touch.
    memory_bytes: int = Field(2 * 2**30, ge=2**28, description="Address space of one run's process.")
    cpu_seconds: int = Field(300, ge=1, description="CPU time of one run.")
    wall_seconds: float = Field(
        600, gt=0, description="How long one run's work may take, and each of its transfers from and to blob."
    )
    output_bytes: int = Field(2 * 2**30, ge=2**20, description="Size of the largest file that a run may write.")
    # The largest input that front takes, what it may decode to, and two outputs of the largest size.
    work_bytes: int = Field(
        14 * 2**30,
        ge=2**20,
        description="Size of all files together that a run may keep at once: its input, also as decoded, and what it "
        "writes.",
    )
    open_files: int = Field(256, ge=32, description="Files that one run's process may have open.")
    max_decoded_bytes: int = Field(
        5 * 2**30, ge=2**20, description="Size of the largest file that a compressed input may decode to."
    )
    max_decoded_ratio: int = Field(
        1000, ge=1, description="How many times its own size a compressed input may decode to; 16 MiB it always may."
    )
    sandbox: Literal["available", "strict"] = Field(
        "available",
        description="`strict`: don't start on a machine whose kernel has no Landlock or no seccomp.",
    )
    readable: list[Path] = Field(
        default_factory=list,
        description="JSON list of paths that runs may read, and start programs from where their processor does, beside "
        "the system's libraries and the installed packages.",
    )
    heartbeat_seconds: float = Field(10, gt=0, description="How often a run's lease is renewed.")
    offer_seconds: float = Field(30, gt=0, description="How often this process offers its processors to job.")
    claim_wait_seconds: float = Field(20, ge=0, le=60, description="How long a claim waits for a run.")
    drain_seconds: float = Field(20, ge=0, le=25, description="How long work may go on after SIGTERM.")

    @model_validator(mode="after")
    def _analyzers_may_take_their_time(self) -> "Settings":
        for analyzer in self.analyzers:
            if analyzer.timeout_seconds > self.wall_seconds:
                raise ValueError(
                    f"PROCESSOR_ANALYZERS: timeoutSeconds of {analyzer.name!r} is more than PROCESSOR_WALL_SECONDS"
                )
        return self
