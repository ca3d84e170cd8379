"""The forms in which transformers itself loads an exported model, by code that lies beside its weights.

`ForMaskedLM` and `ForCausalLM` say who sees whom; what they return is the model's logits, or with `States` what the
head takes, and with `ForSequenceClassification` the logits of classes. All of them stand before a causal class of ours
or of transformers.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput


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
        if attention_mask is not None:  # positions count from the first token, wherever the padding is
            options["position_ids"] = (attention_mask.cumsum(-1) - 1).clamp(min=0)
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


class States:
    """The states that the head takes, as `last_hidden_state`, instead of logits."""

    def forward(self: Any, input_ids: Tensor, **options: Any) -> Any:
        """As the model's own body."""
        return self.base_model(input_ids, **options)


class ForSequenceClassification:
    """`num_labels` classes, by the states of the first token, or of the last where positions see only those before."""

    def __init__(self: Any, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self: Any, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **options: Any
    ) -> SequenceClassifierOutput:
        """Logits (batch, num_labels), and where labels are given their cross-entropy.

        Args:
            input_ids: (batch, time).
            attention_mask: (batch, time), 0 where there is padding, on either side.
            labels: (batch,), a class each.
            options: as of the other forms.
        """
        states = super().forward(input_ids, attention_mask=attention_mask, **options)  # type: ignore[misc]
        place = torch.zeros_like(input_ids[:, 0])
        if attention_mask is None:
            place = place - 1 if self.is_causal else place
        else:  # argmax finds the first of the largest
            place = (attention_mask.cumsum(-1) if self.is_causal else attention_mask).argmax(-1)
        logits = self.score(states.last_hidden_state[torch.arange(len(place), device=place.device), place])
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=states.hidden_states)
