"""`python -m services.front`: settings, logging, build, serve."""

from functools import partial

from common import telemetry
from common.logging import configure
from common.settings import load
from common.web.serve import Drain, run_server
from services.front.app import open_listeners
from services.front.settings import Settings

if __name__ == "__main__":
    settings = load(Settings)
    configure("front", settings.log_level)
    telemetry.start("front")
    run_server(partial(open_listeners, settings), Drain(settings.notice_seconds, settings.drain_seconds))
