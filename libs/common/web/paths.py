"""What is known of requests by the end of their path, for the middleware that sees them before the routes do."""

HEALTH = ("/livez", "/readyz")
"""Probes. A process that is overloaded is well; to kill it for that would be worse."""
CLAIMS = ("/claim",)
"""job's requests that wait for runs."""
EVENTS = ("/events",)
"""Front's requests that wait for changes."""
POLLED = ("/status", "/metrics", "/heartbeat", *CLAIMS, *HEALTH)
"""Requests that come all the time, and say nothing new while all is well."""
