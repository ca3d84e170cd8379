"""What an architecture is: the modules of a language model, with their config, in a file of its own.

A new architecture is one file here: `my_mixer.py` defines `class MyMixer(Architecture)`, and `architecture: my_mixer`
in a YAML finds it by the file's name. Its keys are the fields of its own `Config`. What `AutoModelForCausalLM` of
transformers builds needs no file: gpt2, llama, gpt_neox, opt, qwen3, mamba, … are there under their `model_type`.

A file defines a `Body`, which computes states of tokens; a linear head, here, makes logits of the last of them. The
model is a Hugging Face one in every respect, so that whatever trains, distils, exports, loads and scores those does the
same with it. Its file's name is its `model_type`, by which transformers' Auto classes know it.

`palenka export --with-code` copies this file and the architecture's own into one, which needs nothing else of Palenka.
"""

from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

__all__ = ["Architecture", "ArchitectureConfig", "BaseModelOutput"]


class ArchitectureConfig(PretrainedConfig):
    """Keys every architecture has; each file adds its own. The vocabulary and its special tokens are the tokenizer's.

    `num_attention_heads` and `head_dim` are for those that attend, and `intermediate_size` where a layer has an inner
    width.
    """

    vocab_size: int = 1
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None
    hidden_size: int = 256
    num_hidden_layers: int = 4
    max_position_embeddings: int = 256
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        cls.model_type = cls.__module__.rpartition(".")[2]
        super().__init_subclass__(**options)


class Architecture(PreTrainedModel):
    """Base of all architectures.

    `Body(config)` is a module with `embedding`, the table of the tokens, and

        forward(input_ids, attention_mask=None, output_hidden_states=False, [places=None,] **others) -> BaseModelOutput

    input_ids: (batch, time).
    attention_mask: None where each position sees itself and those before it; else the additive mask of a
        `palenka.data.batch.Batch`, float (batch or 1, 1, time, time). One that cannot look ahead refuses others.
    last_hidden_state: (batch, time, hidden_size), after the final norm if there is one.
    hidden_states: where they are asked for, those of the embeddings and of each layer, the last after the final norm.
    places: (batch, places), the positions of each row that last_hidden_state is to be of, then (batch, places,
        hidden_size); None: all. A body that has this argument computes its last layer for those alone: who scores a
        masked model looks at one position of each row. Not beside hidden_states.

    last_hidden_state is what the linear head takes: a head with layers before that has them at the end of its body, and
    a bias if `head_bias`. First values are transformers' own, by `initializer_range`, unless `_init_weights(module)`
    says others. A body keeps neither tensors beside its parameters nor buffers that are not saved: transformers 5
    builds a model without memory before it loads it, and those would be lost.

    Layers that derive from transformers' GradientCheckpointingLayer are compiled one by one in a long training.
    """

    Config: type[ArchitectureConfig]
    Body: type[nn.Module]
    head_bias = False
    base_model_prefix = "body"
    _tied_weights_keys = {"head.weight": "body.embedding.weight"}

    def __init_subclass__(cls, **options: Any) -> None:
        cls.config_class = cls.Config
        super().__init_subclass__(**options)

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__(config)
        self.body: Any = self.Body(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=self.head_bias)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        table: nn.Embedding = self.body.embedding
        return table

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.body.embedding = value

    def get_output_embeddings(self) -> nn.Linear:
        return self.head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        self.head = value

    def forward(self, input_ids: Tensor | None = None, **options: Any) -> CausalLMOutput:
        """Logits (batch, time, vocabulary), by the same options as `body`."""
        output = self.body(input_ids, **options)
        return CausalLMOutput(logits=self.head(output.last_hidden_state), hidden_states=output.hidden_states)
