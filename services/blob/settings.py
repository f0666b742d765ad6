"""blob's settings: `BLOB_…` in the environment."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.settings import ServerSettings

MIB = 1024 * 1024


class Settings(ServerSettings):
    """What blob can be told."""

    model_config = SettingsConfigDict(env_prefix="BLOB_")

    port: int = Field(8001, ge=1, le=65535, description="The port to listen on.")
    data_dir: Path = Field(description="The folder that blobs are kept in; one volume, with hard links.")
    max_blob_bytes: int = Field(5 * 1024 * MIB, ge=1, description="The largest blob that is taken.")
    min_free_bytes: int = Field(64 * MIB, ge=0, description="Writes are refused when less room than this is left.")
    staging_max_age_seconds: int = Field(
        3600, ge=60, description="When the leftovers of a write that died are removed, after its last byte."
    )
    stall_seconds: float = Field(60, gt=0, description="An upload that sends nothing for so long is broken off.")
