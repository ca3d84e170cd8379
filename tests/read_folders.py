"""Prints what this interpreter's transformers makes of model folders, in its own choice of attention.

Usage: python read_folders.py INPUTS.json FOLDER…    where INPUTS.json holds {"ids": [[…], …], "texts": [text, …]}
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    inputs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    read = [_read(folder, **inputs) for folder in sys.argv[2:]]
    print(json.dumps({"version": transformers.__version__, "folders": read}))


@torch.no_grad()
def _read(folder: str, ids: list[list[int]], texts: list[str]) -> dict[str, Any]:
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder) if Path(folder, "tokenizer.json").exists() else None
    return {
        "logits": [model.eval()(torch.tensor([sequence])).logits[0, -1].tolist() for sequence in ids],
        "tokens": [tokenizer(text)["input_ids"] for text in texts] if tokenizer else [],
        "problems": [*loading["missing_keys"], *loading["unexpected_keys"], *loading["mismatched_keys"]],
    }


if __name__ == "__main__":
    main()
