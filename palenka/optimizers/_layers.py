"""What a parameter is, by the layers that hold it: an embedding, a gain or bias, a matrix of a model's body."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D


def _held(module: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """Each parameter with each layer that holds it, and its full name there."""
    for path, layer in module.named_modules():
        for name, parameter in layer.named_parameters(path, recurse=False):
            yield name, layer, parameter


def embeddings(module: nn.Module) -> set[nn.Parameter]:
    """The weights of `nn.Embedding`, thereby of a head that is tied to one, and other parameters that are called so.

    Such is a table of relative positions, `relative_embedding`; a linear layer or a norm is none, whatever its name.
    """
    tables = {parameter for _, layer, parameter in _held(module) if isinstance(layer, nn.Embedding)}
    named = {parameter for name, layer, parameter in _held(module)
             if "embedding" in name and not isinstance(layer, nn.Linear | Conv1D)}  # fmt: skip
    return tables | (named - gains_and_biases(module))


def gains_and_biases(module: nn.Module) -> set[nn.Parameter]:
    """Biases, and all that a norm has."""
    return {
        parameter
        for name, layer, parameter in _held(module)
        if name.endswith("bias") or "norm" in type(layer).__name__.lower()
    }


def body_matrices(student: Any) -> dict[nn.Parameter, tuple[int, int]]:
    """Weights of the linear layers of a language model without its head, each with the (axis, parts) it falls into.

    A layer that is several matrices of one size beside each other says how many, in an attribute `parts`; GPT-2's
    queries, keys and values are known here.
    """
    head = student.get_output_embeddings()
    tables = embeddings(student)
    found = {}
    for name, layer, parameter in _held(student):
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head and parameter.ndim == 2:
            is_transposed = isinstance(layer, Conv1D)
            known = 3 if is_transposed and name.endswith("c_attn.weight") else 1
            found[parameter] = (int(is_transposed), getattr(layer, "parts", known))
    return {parameter: place for parameter, place in found.items() if parameter not in tables}
