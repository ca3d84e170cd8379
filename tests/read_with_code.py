"""Prints what this interpreter's transformers makes of a folder with code, as an official pipeline would ask it.

Usage: python read_with_code.py INPUTS.json FOLDER…    where INPUTS.json holds {"ids": [[…], …], "mask": [[…], …]}
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

CLASSES = {
    "causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM, "states": AutoModel,
    "classes": AutoModelForSequenceClassification,
}  # fmt: skip
OF_CLASSES = {"score.weight", "score.bias"}


def main() -> None:
    inputs = {key: torch.tensor(value) for key, value in json.loads(Path(sys.argv[1]).read_text("utf-8")).items()}
    read = [read_folder(folder, inputs["ids"], inputs["mask"]) for folder in sys.argv[2:]]
    print(json.dumps({"version": transformers.__version__, "palenka": "palenka" in sys.modules, "folders": read}))


@torch.no_grad()
def read_folder(
    folder: str, ids: torch.Tensor, mask: torch.Tensor, classes: Mapping[str, Any] = CLASSES
) -> dict[str, Any]:
    """What each class returns, with and without padding, and the ids of one text and of two."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    found: dict[str, Any] = {
        "one": tokenizer("The cat.")["input_ids"], "two": tokenizer("A cat.", "A dog.")["input_ids"],
    }  # fmt: skip
    for name, kind in classes.items():
        model, loading = kind.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
        missing = set(loading.pop("missing_keys"))
        assert missing == (OF_CLASSES if name == "classes" else set()) and not any(loading.values()), (missing, loading)
        model.eval()
        if name == "classes":
            model.score.bias.zero_()
            model.score.weight.copy_(torch.linspace(-1, 1, model.score.weight.numel()).view_as(model.score.weight))
        for padding, options in {"": {}, ", padded": {"attention_mask": mask, "token_type_ids": 0 * ids}}.items():
            output = model(input_ids=ids, **options)
            found[name + padding] = output["last_hidden_state" if name == "states" else "logits"].tolist()
    return found


if __name__ == "__main__":
    main()
