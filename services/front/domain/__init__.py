"""What a job is, and the rules it keeps; no I/O."""
