"""Trials over any keys of a config (`search.py`, their record `search.json`); grids on one teacher pass (`grid.py`)."""
