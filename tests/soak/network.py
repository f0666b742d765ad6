"""The links between the services, each through a proxy that misbehaves as the plan says."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from tests.soak.plan import Fault
from tests.support.proxy import Proxy, proxied

# Whose setting, and whose port it is of.
_LINKS = {
    "front-blob": ("FRONT_BLOB_URL", "BLOB_PORT"),
    "front-job": ("FRONT_JOB_URL", "JOB_PORT"),
    "processor-blob": ("PROCESSOR_BLOB_URL", "BLOB_PORT"),
    "processor-job": ("PROCESSOR_JOB_URL", "JOB_PORT"),
    "job-front": ("JOB_FRONT_URL", "FRONT_INTERNAL_PORT"),
}
LATE_SECONDS = 0.3
REPLIES_DROPPED = 3


@asynccontextmanager
async def network(settings: Mapping[str, str]) -> AsyncIterator[tuple[dict[str, Proxy], dict[str, str]]]:
    """The proxies by the names of their links, and the settings that lead the services through them."""
    async with AsyncExitStack() as stack:
        links = {
            name: await stack.enter_async_context(proxied(int(settings[port]))) for name, (_, port) in _LINKS.items()
        }
        yield links, {**settings, **{setting: links[name].url for name, (setting, _) in _LINKS.items()}}


async def disturb(link: Proxy, fault: Fault) -> None:
    """Make a fault of a link, and mend the link when its time is over."""
    if fault.kind == "reset":
        link.reset()
    elif fault.kind == "drop":
        link.drop_reply = REPLIES_DROPPED
    else:
        attribute, value = {
            "late": ("latency", LATE_SECONDS),
            "stall": ("stalled", True),
            "truncate": ("truncate_reply", fault.number),
            "flip": ("flip_reply", fault.number),
        }[fault.kind]
        before = getattr(link, attribute)
        setattr(link, attribute, value)
        await asyncio.sleep(fault.seconds)
        setattr(link, attribute, before)
