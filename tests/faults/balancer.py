"""A balancer as operators have one: Caddy, which asks each replica's `/readyz` whether it takes requests."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
HEALTH_SECONDS = 0.25
_GLOBAL = "{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}\n"


@dataclass(frozen=True, slots=True)
class Balanced:
    """Requests to `port` go to the `replicas`, ports as well, in turn. Those without probes are asked again elsewhere
    when they take no connection."""

    port: int
    replicas: Sequence[int]
    has_probes: bool = True

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def site(self) -> str:
        health = f"health_uri /readyz\n\t\thealth_interval {HEALTH_SECONDS}s" if self.has_probes else "fail_duration 1s"
        return f"""
http://:{self.port} {{
	bind {HOST}
	reverse_proxy {" ".join(f"{HOST}:{port}" for port in self.replicas)} {{
		lb_policy round_robin
		lb_try_duration 5s
		flush_interval -1
		{health}
	}}
}}
"""


@asynccontextmanager
async def balancing(folder: Path, *balanced: Balanced) -> AsyncIterator[None]:
    config, log = folder / "Caddyfile", folder / "caddy.log"
    await asyncio.to_thread(config.write_text, _GLOBAL + "".join(each.site() for each in balanced))
    command = (str(Path(sys.executable).with_name("caddy")), "run", "--config", str(config), "--adapter", "caddyfile")
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=said, stderr=said, env={"HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()
