"""Downloads: where corpora and items are, and how they arrive whole."""
