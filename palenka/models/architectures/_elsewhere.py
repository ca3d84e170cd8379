"""The forms in which transformers itself loads an exported architecture, by code that lies beside its weights.

`ForCausalLM` is what `AutoModelForCausalLM` makes of it, and `ForMaskedLM` what `AutoModelForMaskedLM` does: the same
logits, with the attention that such models have by themselves.
"""

from typing import Any

import torch
from torch import Tensor


class ForMaskedLM:
    """Every position sees all. A model that learned to predict a token at the position before it does so here, too."""

    is_causal = False

    def forward(
        self: Any, input_ids: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool | None = None,
        token_type_ids: Tensor | None = None, use_cache: bool | None = None, return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Logits (batch, time, vocabulary).

        Args:
            input_ids: (batch, time).
            attention_mask: (batch, time), 0 where there is padding, which nobody sees.
            output_hidden_states: whether to return those, too.
            token_type_ids, use_cache, return_dict: taken because others give them, and without effect.
        """
        mask = self._additive(input_ids, attention_mask)
        options = {"attention_mask": mask, "output_hidden_states": bool(output_hidden_states)}
        return super().forward(input_ids, **options)  # type: ignore[misc]

    def _additive(self: Any, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        is_whole = attention_mask is None or bool(attention_mask.all())
        if self.is_causal and is_whole:
            return None
        time, device = input_ids.shape[1], input_ids.device
        visible = torch.ones(1, 1, time, time, dtype=torch.bool, device=device)
        if self.is_causal:
            visible = visible.tril()
        if attention_mask is not None:
            visible = visible & attention_mask[:, None, None].bool()
        hidden = torch.zeros(visible.shape, dtype=self.dtype, device=device)
        return hidden.masked_fill(~visible, torch.finfo(self.dtype).min)


class ForCausalLM(ForMaskedLM):
    """Every position sees itself and those before it."""

    is_causal = True
