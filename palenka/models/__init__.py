"""Models: built, loaded, checked, and run without whole logits."""
