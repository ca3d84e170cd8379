"""The demo's little language: its corpus and its minimal pairs."""
