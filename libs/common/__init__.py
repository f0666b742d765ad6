"""What every Gristmill service shares: contracts, clients, errors, tokens, and the way a process is served."""
