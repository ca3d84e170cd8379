"""Keys of a configuration that were called otherwise, are called otherwise elsewhere, or are gone."""

from typing import Any

RENAMED = {"evaluation.convention": "evaluation.protocol", "teacher_signal": "cached_logits"}
"""Former names of keys. A config that uses one is told the present name; on disk both are read."""
ELSEWHERE = {
    "training.learning_rate": "lr",
    "training.per_device_train_batch_size": "batch_size",
    "training.num_train_epochs": "num_epochs",
}
"""What transformers' Trainer calls otherwise."""
_LAST = "the last layers are compared"
_HEADS = "the number of heads is the largest that divides the student's heads and both widths"
REMOVED = {
    "objective.attention.layers": ("last", _LAST),
    "objective.attention.relation_heads": (None, _HEADS),
    "objective.auxiliary.combine": ("logits", "the teachers' logits are averaged"),
    "objective.contrastive.layers": ("last", _LAST),
    "objective.value_relation.layers": ("last", _LAST),
    "objective.value_relation.relation_heads": (None, _HEADS),
}
"""Keys that are gone, with the default that they had, which still holds and which is left out of what is on disk."""


def with_present_names(values: dict[str, Any], at: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration that an earlier version wrote, with its keys as they are called now."""
    present = {}
    for key, value in values.items():
        path = (*at, str(key))
        dotted = ".".join(path)
        if dotted in REMOVED and REMOVED[dotted][0] == value:
            continue
        name = RENAMED[dotted].rpartition(".")[2] if dotted in RENAMED else key
        present[name] = with_present_names(value, path) if isinstance(value, dict) else value
    return present
