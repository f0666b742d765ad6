"""Front's settings, from variables that begin with `FRONT_`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from common.contracts.job import MAX_DEADLINE_SECONDS
from common.settings import ALIVE_FILE, ProcessSettings, ServerSettings
from services.front.domain.limits import ProcessorLimits
from services.front.domain.periods import DAY
from services.front.domain.retention import DEFAULT

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]


class CoreSettings(ProcessSettings):
    """What front and its tracker share."""

    model_config = SettingsConfigDict(env_prefix="FRONT_")

    key_file: Path = Field(description="PEM file of front's Ed25519 private key, for its calls to blob and job.")
    mongodb_uri: str = Field(description="The MongoDB replica set.")
    database: str = Field("front", description="The database's name.")
    blob_url: str = Field(description="Where blob is.")
    job_url: str = Field(description="Where job is.")
    blob_seconds: float = Field(
        30, gt=0, description="How long blob may send nothing, or take nothing of a body, until it counts as away."
    )

    keep_inputs: bool = Field(False, description="Keep a job's input for as long as its outputs.")
    record_seconds: int = Field(90 * DAY, ge=1, description="How long a job itself is kept after it is final.")
    idempotency_seconds: int = Field(DAY, ge=1, description="How long an `Idempotency-Key` is remembered.")

    upload_grace_seconds: float = Field(3600, ge=0, description="How long after its expiry an upload may still end.")
    upload_most_seconds: float = Field(7 * 86_400, gt=0, description="The longest that a URL is good for; S3's most.")

    lease_seconds: float = Field(15, gt=0, description="How long a job may stand still before the tracker takes it.")
    ask_seconds: float = Field(60, gt=0, description="How old a SUBMITTED job is when the tracker asks job about it.")
    recovery_seconds: float = Field(2, gt=0, description="How often the tracker looks for jobs that stand still.")
    sweep_seconds: float = Field(300, gt=0, description="How often the tracker looks for bytes that nothing owns.")
    orphan_seconds: float = Field(3600, gt=0, description="How old bytes are before they may count as owned by none.")

    @model_validator(mode="after")
    def _records_outlive_keys(self) -> "CoreSettings":
        if self.record_seconds < self.idempotency_seconds:
            raise ValueError("FRONT_RECORD_SECONDS is less than FRONT_IDEMPOTENCY_SECONDS")
        return self


class TrackerSettings(CoreSettings):
    """The settings of the tracker: it has no port, and no users' tokens."""

    alive_file: Path | None = Field(None, description=ALIVE_FILE)


class Settings(CoreSettings, ServerSettings):
    """The settings of front."""

    model_config = SettingsConfigDict(env_prefix="FRONT_")

    port: int = Field(8000, description="The public port.")
    internal_port: int = Field(8010, description="The port that job reports to; not for the public.")

    token_algorithms: list[Algorithm] = Field(min_length=1, description="The only algorithms a user's token may use.")
    token_secret_file: Path | None = Field(None, description="File with the HS256 secret (development).")
    token_public_key_file: Path | None = Field(None, description="PEM file of the public key of the tokens' issuer.")
    token_jwks_url: str | None = Field(None, description="Where the issuer publishes its keys (RFC 7517).")
    token_audience: str = Field(min_length=1, description="The `aud` that a user's token must have.")
    token_issuer: str = Field(min_length=1, description="The `iss` that a user's token must have.")
    token_tenant_claim: str = Field("tid", description="The claim that names the tenant.")
    token_subject_claim: str = Field("sub", description="The claim that names the subject.")

    default_processor: str = Field("image-variants", description="The processor of a job that names none.")
    max_input_bytes: int = Field(5 * 1024**3, ge=1, description="The largest input of the raw and form kinds.")
    max_json_bytes: int = Field(8 * 1024**2, ge=1, description="The largest decoded input of the JSON kind.")
    max_held_bytes: int = Field(64 * 1024**2, description="How much of JSON bodies one front holds in memory.")
    max_waiting_bytes: int = Field(1024**3, description="How much may wait in `inline` for blob.")

    quota_bytes: int | None = Field(
        None, ge=1, description="How many bytes each owner may keep, inputs and outputs; without it any number."
    )
    tenant_quota_bytes: int | None = Field(None, ge=1, description="Likewise each tenant.")

    limits: dict[str, ProcessorLimits] = Field(
        default_factory=dict,
        description="Limits by processor and media type, as JSON: "
        '{"image-variants": {"image/*": {"maxBytes": 1000000, "maxBatchFiles": 100}, "maxBatchFiles": 500}}.',
    )

    retention_seconds: int = Field(
        DEFAULT.seconds, ge=1, description="How long outputs are kept after a job is final; a job may ask for less."
    )
    read_grace_seconds: float = Field(
        3600, ge=0, description="How long the bytes of an `until-read` job are kept once all its outputs were read."
    )

    idempotency_lease_seconds: float = Field(
        30, gt=0, description="How long after a front has died a request with the same `Idempotency-Key` takes over."
    )

    deadline_seconds: int = Field(
        DAY, ge=1, description="How long a job may take once it is queued, unless the request sets it."
    )
    max_deadline_seconds: int = Field(
        7 * DAY, ge=1, le=MAX_DEADLINE_SECONDS, description="The longest deadline that a job may ask for."
    )

    rate_requests: int = Field(
        60_000, ge=1, description="How many requests each owner may make in `rate_seconds`, over all fronts."
    )
    rate_seconds: float = Field(60, ge=1, description="The time that `rate_requests` are for.")

    stall_seconds: float = Field(
        20, gt=0, description="A body that sends nothing for so long is refused; less than blob's own patience."
    )
    link_bits_per_second: float = Field(
        112_000, gt=0, description="How fast a client's line is, unless the request sets it."
    )

    heartbeat_seconds: float = Field(
        15, gt=0, description="How often a stream of events sends a comment, so that it stays open."
    )
    stream_seconds: float = Field(3600, gt=0, description="How long a stream of events may last; it can be resumed.")
    max_streams: int = Field(5_000, ge=1, description="How many streams of events one front has open at most.")
    max_announced: int = Field(
        20_000, ge=1, description="How many files each owner may have announced that haven't come; a batch has 1,000."
    )
    max_watched: int = Field(50_000, ge=1, description="How many jobs all streams of one front watch at most.")
    max_waits: int = Field(1_000, ge=1, description="How many requests with `Prefer: wait` one front holds at most.")

    @model_validator(mode="after")
    def _bytes_before_records(self) -> "Settings":
        if self.record_seconds < self.retention_seconds:
            raise ValueError("FRONT_RECORD_SECONDS is less than FRONT_RETENTION_SECONDS")
        return self

    @model_validator(mode="after")
    def _deadline_within_the_longest(self) -> "Settings":
        if self.max_deadline_seconds < self.deadline_seconds:
            raise ValueError("FRONT_MAX_DEADLINE_SECONDS is less than FRONT_DEADLINE_SECONDS")
        return self

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> "Settings":
        given = [self.token_secret_file, self.token_public_key_file, self.token_jwks_url]
        if sum(source is not None for source in given) != 1:
            raise ValueError(
                "set exactly one of FRONT_TOKEN_SECRET_FILE, FRONT_TOKEN_PUBLIC_KEY_FILE, FRONT_TOKEN_JWKS_URL"
            )
        symmetric = "HS256" in self.token_algorithms
        if symmetric != (self.token_secret_file is not None) or (symmetric and len(self.token_algorithms) > 1):
            raise ValueError("HS256 goes with FRONT_TOKEN_SECRET_FILE and with no other algorithm")
        return self
