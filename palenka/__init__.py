"""Palenka: a laboratory for training small language models from scratch and distilling them."""
