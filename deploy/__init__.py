"""How Gristmill is run: `local` on a laptop."""
