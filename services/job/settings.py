"""job's settings: environment variables that begin with `JOB_`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.settings import ServerSettings
from services.job.domain.rules import RetryPolicy
from services.job.domain.tenants import Tenant, Tenants


class Settings(ServerSettings):
    """The settings of job."""

    model_config = SettingsConfigDict(env_prefix="JOB_")

    port: int = Field(8002, ge=0, le=65535, description="The port to listen on.")
    mongodb_uri: str = Field(description="The MongoDB replica set, as a connection string.")
    database: str = Field("job", min_length=1, max_length=63, description="The database that the queue is kept in.")
    front_url: str = Field(description="front's internal port, such as `http://127.0.0.1:8010`.")
    key_file: Path = Field(description="PEM file of job's Ed25519 private key, which signs its calls to front.")
    lease_seconds: float = Field(30, gt=0, le=3600, description="How long a started run may go without a heartbeat.")
    start_seconds: float = Field(5, gt=0, le=300, description="How soon a claimed run has to start.")
    sweep_seconds: float = Field(5, gt=0, le=300, description="How often lapsed leases are looked for.")
    max_attempts: int = Field(
        3, ge=1, le=10, description="How often a run is tried, and how often it may end its processor."
    )
    backoff_seconds: float = Field(2, ge=0, le=600, description="The rest after an attempt that failed; it doubles.")
    offer_live_seconds: float = Field(90, gt=0, description="How long an offer that isn't renewed counts as live.")
    offer_kept_days: float = Field(30, gt=0, description="How long an offer that isn't renewed is listed.")

    tenants: dict[str, Tenant] = Field(
        default_factory=dict,
        description="What single tenants get, as JSON: "
        '`{"acme": {"weight": 2, "maxRunning": 10, "maxQueued": 1000}}`. The weight is 1 unless said otherwise.',
    )
    max_running_per_tenant: int | None = Field(
        None,
        ge=1,
        description="How many runs of any other tenant may run at once; no limit unless set. Several job processes may "
        "exceed it by what they take in the same moment.",
    )
    max_queued_per_tenant: int = Field(
        100_000, ge=1, description="How many runs of any other tenant may be queued, about; above that, 429."
    )

    def every_tenant(self) -> Tenants:
        others = Tenant(max_running=self.max_running_per_tenant, max_queued=self.max_queued_per_tenant)
        return Tenants(others, {name: tenant.over(others) for name, tenant in self.tenants.items()})

    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.max_attempts, self.backoff_seconds)
