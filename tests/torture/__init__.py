"""Faults that people and machines bring, done to the real program: `python tests/torture/run.py`, or `make torture`."""
