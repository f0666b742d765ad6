"""blob's settings: `BLOB_…` in the environment."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.settings import ServerSettings
from services.blob.adapters.filesystem.known_keys import check_keys
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.blob.domain.grants import MIN_KEY_BYTES

MIB = 1024 * 1024


class StoreSettings(BaseSettings):
    """Where blobs are kept, as far as it takes no more than that to set the place up."""

    model_config = SettingsConfigDict(env_prefix="BLOB_")

    store: Literal["filesystem", "s3"] = Field("filesystem", description="Where blobs are kept.")
    data_dir: Path | None = Field(
        None,
        validate_default=True,
        description="filesystem: the folder that blobs are kept in; one volume, with hard links.",
    )
    keys: Path | None = Field(
        None,
        validate_default=True,
        description="filesystem: the folder with the keys that files are encrypted under, each 32 random bytes in "
        "base64; new files under the one whose name sorts last. Without it files aren't encrypted.",
    )
    s3_bucket: str | None = Field(
        None, validate_default=True, description="s3: the bucket; `python -m services.blob.setup` makes it."
    )
    s3_endpoint: str | None = Field(
        None, pattern="^https?://", description="An http or https URL: with s3 the store's; without it AWS."
    )
    s3_public_endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="An http or https URL: with s3 the store's in signed URLs, if users reach it by another.",
    )
    s3_region: str = Field("us-east-1", min_length=1, description="s3: the bucket's region.")
    s3_addressing: Literal["path", "virtual"] = Field(
        "path", description="s3: whether the bucket is in the URL's path or in its host name."
    )
    s3_sse: Literal["none", "AES256", "aws:kms"] = Field("none", description="s3: how objects are encrypted at rest.")
    s3_sse_kms_key_id: str | None = Field(
        None, description="s3: id or ARN of the key for aws:kms; without it the account's own."
    )
    s3_conditional_writes: bool = Field(
        True,
        description="s3: whether the store keeps `If-None-Match: *`, as S3 does. Without it blob looks before it "
        "writes, and two processes that write one id in the same moment may both do so.",
    )
    upload_origins: list[str] = Field(
        [], description='The origins whose pages may upload, as JSON: `["https://example.org"]`.'
    )

    @field_validator("data_dir")
    @classmethod
    def _names_a_folder(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None and info.data.get("store") == "filesystem":
            raise ValueError("It is needed with BLOB_STORE=filesystem")
        return value

    @field_validator("keys")
    @classmethod
    def _has_the_keys_of_the_folder(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if info.data.get("store") == "filesystem":
            if folder := info.data.get("data_dir"):
                check_keys(folder, MasterKeys.read(value))
        elif value is not None:
            raise ValueError("It is for BLOB_STORE=filesystem; on S3 BLOB_S3_SSE says how objects are encrypted")
        return value

    @field_validator("s3_bucket")
    @classmethod
    def _names_a_bucket(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("store") == "s3":
            raise ValueError("It is needed with BLOB_STORE=s3")
        return value


class Settings(StoreSettings, ServerSettings):
    """The settings of blob."""

    model_config = SettingsConfigDict(env_prefix="BLOB_")

    port: int = Field(8001, ge=1, le=65535, description="The port for the other services; not for the public.")
    data_port: int = Field(
        8011, ge=1, le=65535, description="filesystem: the public port, where signed URLs lead and nothing else is."
    )
    upload_key_file: Path | None = Field(
        None,
        validate_default=True,
        description="filesystem: the file with the key that signs upload URLs, 32 random bytes or more; the same for "
        "every blob process.",
    )
    public_url: str | None = Field(
        None,
        pattern="^https?://",
        description="An http or https URL: with filesystem where users reach `data_port`; else its address.",
    )
    upload_max_age_seconds: int = Field(
        31 * 86_400, ge=86_400, description="When an upload that nobody aborts is removed, after its last byte."
    )
    max_blob_bytes: int = Field(5 * 1024 * MIB, ge=1, description="The largest blob that is taken.")
    min_free_bytes: int = Field(64 * MIB, ge=0, description="Writes are refused when less room than this is left.")
    staging_max_age_seconds: int = Field(
        3600, ge=60, description="When the leftovers of a write that died are removed, after its last byte."
    )
    stall_seconds: float = Field(60, gt=0, description="An upload that sends nothing for so long is broken off.")

    @field_validator("upload_key_file")
    @classmethod
    def _names_a_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if info.data.get("store") != "filesystem":
            return value
        if value is None:
            raise ValueError("It is needed with BLOB_STORE=filesystem")
        if not value.is_file() or value.stat().st_size < MIN_KEY_BYTES:
            raise ValueError(f"It should be a file of {MIN_KEY_BYTES} bytes or more")
        return value

    @property
    def data_url(self) -> str:
        """Where the data plane is reached."""
        return self.public_url or f"http://{self.host}:{self.data_port}"
