"""What Gristmill is measured against. What needs a peer's own packages runs in the virtualenv of the peers."""
