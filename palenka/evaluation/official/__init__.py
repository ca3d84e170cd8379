"""The challenge's own pipelines, other scorers, and submissions."""
