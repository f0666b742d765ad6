"""What a tenant gets of the queue, and how much it may have in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Tenant:
    """A share of the processors against other tenants' weights, and the most runs at once; None is without limit."""

    weight: float = 1
    max_running: int | None = None
    max_queued: int | None = None


@dataclass(frozen=True, slots=True)
class Tenants:
    """Those that were named, and what all the others get."""

    others: Tenant = Tenant()
    named: Mapping[str, Tenant] = field(default_factory=dict)

    def of(self, tenant: str) -> Tenant:
        return self.named.get(tenant, self.others)

    @property
    def limit_running(self) -> bool:
        """Whether anybody has a limit on what runs at once."""
        return any(tenant.max_running is not None for tenant in (self.others, *self.named.values()))
