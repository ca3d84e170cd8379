"""Many students over weights and seeds."""
