"""What a process counts and times for Prometheus, by OpenTelemetry's semantic conventions where they name it.

No label is an id, or a stranger's word: each has few values, all of them ours.
"""

from prometheus_client import CollectorRegistry, Gauge
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from common.histogram import Histogram

REGISTRY = CollectorRegistry()
# Those that the conventions advise for durations, in seconds; a wait may hold a request for a minute.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60)
BYTES = tuple(float(4**power) for power in range(4, 18))
_HTTP = ("http_request_method", "http_route", "http_response_status_code")

REQUEST_SECONDS = Histogram(
    "http_server_request_duration_seconds", "From a request's head to its response's end.", _HTTP,
    bounds=SECONDS, registry=REGISTRY,
)  # fmt: skip
REQUEST_BYTES = Histogram(
    "http_server_request_body_size_bytes", "What arrived of a request's body.", _HTTP[:2],
    bounds=BYTES, registry=REGISTRY,
)  # fmt: skip
RESPONSE_BYTES = Histogram(
    "http_server_response_body_size_bytes", "What was sent of a response's body.", _HTTP[:2],
    bounds=BYTES, registry=REGISTRY,
)  # fmt: skip
ACTIVE_REQUESTS = Gauge(
    "http_server_active_requests", "Requests that are being answered, those that wait as well.", registry=REGISTRY
)
DATABASE_SECONDS = Histogram(
    "db_client_operation_duration_seconds", "One command to MongoDB.", ("db_operation_name", "error_type"),
    bounds=SECONDS[:12], registry=REGISTRY,
)  # fmt: skip
STORE_SECONDS = Histogram(
    "gristmill_store_operation_duration_seconds", "One piece of work of blob's store.", ("store", "operation"),
    bounds=SECONDS, registry=REGISTRY,
)  # fmt: skip
RUN_SECONDS = Histogram(
    "gristmill_run_duration_seconds", "From an attempt's start to its end, by what the run wanted.",
    ("processor", "outcome"), bounds=(*SECONDS[5:], 300, 900, 3600), registry=REGISTRY,
)  # fmt: skip


class DatabaseTimes(CommandListener):
    """Times the commands that a MongoDB client sends."""

    def started(self, event: CommandStartedEvent) -> None:
        """Its end is what counts."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        DATABASE_SECONDS.series(event.command_name, "").observe(event.duration_micros / 1e6)

    def failed(self, event: CommandFailedEvent) -> None:
        DATABASE_SECONDS.series(event.command_name, "failed").observe(event.duration_micros / 1e6)
