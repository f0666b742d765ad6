"""What a tenant gets of the queue, and how much it may have in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Tenant(BaseModel):
    """Its share of the processors against the weights of others, and the most runs at once; None is without limit."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    weight: float = Field(1, ge=0.001, le=1_000)
    max_running: int | None = Field(None, ge=1)
    max_queued: int | None = Field(None, ge=1)

    def over(self, others: "Tenant") -> "Tenant":
        """With what isn't set for it taken from what holds for others."""
        return others.model_copy(update=self.model_dump(exclude_unset=True))


@dataclass(frozen=True, slots=True)
class Tenants:
    """Those that were named, and what all the others get."""

    others: Tenant = field(default_factory=Tenant)
    named: Mapping[str, Tenant] = field(default_factory=dict)

    def of(self, tenant: str) -> Tenant:
        return self.named.get(tenant, self.others)

    def room(self, tenant: str, running: int) -> int | None:
        """How many more of its runs may start while so many run; None is without limit."""
        most = self.of(tenant).max_running
        return None if most is None else max(0, most - running)

    @property
    def limit_running(self) -> bool:
        """Whether anybody has a limit on what runs at once."""
        return any(tenant.max_running is not None for tenant in (self.others, *self.named.values()))
