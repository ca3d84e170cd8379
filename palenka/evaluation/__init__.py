"""Scoring, accuracy, baselines and comparison."""
