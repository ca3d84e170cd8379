"""A module with all that an encoder like LTG-BERT or GPT-BERT has of parameters, and nothing else."""

import torch
from torch import nn


class ToyEncoder(nn.Module):
    """As a loss module has it: `student` is itself, and there are no objectives."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, width)
        self.relative_embedding = nn.Parameter(torch.randn(5, width))
        self.relative_layer_norm = nn.LayerNorm(width)
        self.in_proj_qk = nn.Linear(width, 2 * width)
        self.in_proj_qk.parts = 2
        self.out_proj = nn.Linear(width, width)
        self.dense_weights = nn.ParameterList([torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0, 1.0])])
        self.head = nn.Linear(width, 9)
        self.head.weight = self.embedding.weight

    @property
    def student(self) -> nn.Module:
        return self

    def get_output_embeddings(self) -> nn.Module:
        return self.head
