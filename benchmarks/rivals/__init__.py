"""What Gristmill is measured against. The modules that need a peer's own packages run in the virtualenv of the peers."""
