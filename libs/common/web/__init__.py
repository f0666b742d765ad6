"""The parts of HTTP serving that are the same in every service."""
