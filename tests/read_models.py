"""Prints what this interpreter's transformers computes with model folders, in its own choice of attention.

Usage: python read_models.py IDS.json FOLDER…    where IDS.json holds a list of lists of token ids
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM


def main() -> None:
    texts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    logits = [_read(folder, texts) for folder in sys.argv[2:]]
    print(json.dumps({"version": transformers.__version__, "logits": logits}))


@torch.no_grad()
def _read(folder: str, texts: list[list[int]]) -> list[list[float]]:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return [model(torch.tensor([text])).logits[0, -1].tolist() for text in texts]


if __name__ == "__main__":
    main()
