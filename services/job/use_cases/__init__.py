"""What job does, without a word about HTTP or MongoDB."""
