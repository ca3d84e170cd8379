"""Frozen models that students learn from, live or from cached logits."""
