"""What `make up` and `make token` can be told, by the environment or as variables of make."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LocalSettings(BaseSettings):
    """Settings of the runner. A service's own (`FRONT_…`, `BLOB_…`, `JOB_…`, `PROCESSOR_…`) go through to it."""

    # make hands on a variable that was set to nothing, and that means the default.
    model_config = SettingsConfigDict(env_ignore_empty=True)

    front_host: str = Field("127.0.0.1", description="The address that front's public API listens on.")
    front_port: int = Field(8000, ge=1, le=65_535, description="The public API.")
    blob_port: int = Field(8001, ge=1, le=65_535)
    blob_data_port: int = Field(8011, ge=1, le=65_535, description="Where files are uploaded by signed URLs.")
    job_port: int = Field(8002, ge=1, le=65_535)
    front_internal_port: int = Field(8010, ge=1, le=65_535, description="Where job reports to front.")
    mongodb_port: int = Field(27_117, ge=1, le=65_535, description="The embedded mongod; another if this is taken.")
    blob_store: Literal["filesystem", "s3"] = Field("filesystem", description="Where blob keeps blobs.")
    blob_s3_endpoint: str | None = Field(None, description="An S3 to use instead of an embedded SeaweedFS.")
    s3_port: int = Field(8333, ge=1, le=65_535, description="The embedded SeaweedFS.")
    mongodb_uri: str | None = Field(None, description="A replica set to use instead of the embedded mongod.")
    gristmill_data: Path = Field(Path(".data"), description="The folder that everything is kept in.")
    processors: int = Field(1, ge=0, le=64, description="How many processors to start.")
    demo: bool = Field(True, description="Whether to send a picture through when all is ready.")
    photo: Path | None = Field(None, description="The picture to send; without it one is drawn.")
    trace: bool = Field(False, description="Whether to show the trace of the picture that is sent, as a tree.")

    @property
    def embeds_s3(self) -> bool:
        return self.blob_store == "s3" and not self.blob_s3_endpoint

    @property
    def data(self) -> Path:
        return self.gristmill_data.absolute()

    @property
    def front_url(self) -> str:
        host = "127.0.0.1" if self.front_host in ("0.0.0.0", "::") else self.front_host  # noqa: S104 - compared only
        return f"http://{host}:{self.front_port}"


class TokenSettings(BaseSettings):
    """What goes into a token."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    gristmill_data: Path = Path(".data")
    tenant: str = Field("acme", max_length=256)
    sub: str = Field("alice", max_length=256)
    ttl: int = Field(86_400, ge=1, description="Seconds until it expires.")
    claims: str = Field("{}", description="More claims, as a JSON object.")
