"""`python -m services.blob`."""

from functools import partial

from common import telemetry
from common.logging import configure
from common.settings import load
from common.web.serve import Drain, run_server
from services.blob.app import open_listeners
from services.blob.settings import Settings

if __name__ == "__main__":
    settings = load(Settings)
    configure("blob", settings.log_level)
    telemetry.start("blob")
    run_server(partial(open_listeners, settings), Drain(settings.notice_seconds, settings.drain_seconds))
