"""The only code that calls another service. Every call has a deadline and carries this process's token."""
