"""A soak: many clients, faults by a seed, and a checker that reads the public API alone."""
