"""LTG-BERT: Samuel et al. 2023, "Trained on 100 million words and still in shape" (arXiv 2303.09859), and its code."""

from torch import Tensor, nn

from palenka.models.architectures import Architecture
from palenka.models.architectures._relative import RelativeAttention, RelativeBody, RelativeConfig, RelativeModel


class LtgBertConfig(RelativeConfig):
    pass


class LtgBertAttention(RelativeAttention):
    def __init__(self, config: RelativeConfig) -> None:
        super().__init__(config)
        self.values = nn.Linear(config.hidden_size, config.hidden_size)
        self.output_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(
        self, states: Tensor, relative: Tensor, index: Tensor, hidden: Tensor, places: Tensor | None = None
    ) -> Tensor:
        states = self.norm(states)
        context = self.attend(states, self.values(states), relative, index, hidden, places)
        output: Tensor = self.dropout(self.output_norm(self.output(context)))
        return output


class LtgBertBody(RelativeBody):
    Attention = LtgBertAttention


class LtgBert(RelativeModel, Architecture):
    Config = LtgBertConfig
    Body = LtgBertBody
