"""`python -m services.job`: settings, logging, build, serve."""

from functools import partial

from common import telemetry
from common.logging import configure
from common.settings import load
from common.web.serve import Drain, run_server
from services.job.app import open_listeners
from services.job.settings import Settings


def main() -> None:
    settings = load(Settings)
    configure("job", settings.log_level)
    telemetry.start("job")
    run_server(partial(open_listeners, settings), Drain(settings.notice_seconds, settings.drain_seconds))


if __name__ == "__main__":
    main()
