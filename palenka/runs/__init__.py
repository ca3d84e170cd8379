"""Run directories: identity, lock, checkpoints, records."""
