"""How weights move: optimizers, and learning rates over a training."""
