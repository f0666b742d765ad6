"""How many bytes an owner and a tenant may keep."""

from dataclasses import dataclass

from common.errors import StorageFull


@dataclass(frozen=True, slots=True)
class QuotaPolicy:
    """The most that an owner and a tenant may keep, inputs and outputs, in bytes; None is without a limit."""

    owner_bytes: int | None
    tenant_bytes: int | None

    def check_owner(self, kept: int, size: int) -> None:
        """Raises `StorageFull` for an owner who keeps so many bytes and may not keep `size` more."""
        if self.owner_bytes is not None and kept + size > self.owner_bytes:
            raise StorageFull(
                f"You keep {kept} of at most {self.owner_bytes} bytes here, and these are {size} more. Delete jobs "
                "that you don't need, or wait until their outputs expire."
            )

    def check_tenant(self, kept: int, size: int) -> None:
        """Likewise for a tenant; the owner hears no number of what others keep."""
        if self.tenant_bytes is not None and kept + size > self.tenant_bytes:
            raise StorageFull(
                f"Your tenant may keep {self.tenant_bytes} bytes here, and {size} more are too many. Delete jobs that "
                "you don't need, or wait until outputs expire."
            )
