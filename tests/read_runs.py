"""Prints what this interpreter's transformers makes of model folders: token ids of texts, logits of the first text.

Usage: python read_runs.py TEXTS.json FOLDER…
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    texts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    read = {"version": transformers.__version__, "folders": [_read(folder, texts) for folder in sys.argv[2:]]}
    print(json.dumps(read))


def _read(folder: str, texts: list[str]) -> dict[str, object]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, torch_dtype=torch.float32)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    with torch.no_grad():
        logits = model.eval()(torch.tensor([[tokenizer.bos_token_id, *ids[0]]])).logits[0]
    problems = [*loading["missing_keys"], *loading["unexpected_keys"], *loading["mismatched_keys"]]
    return {"ids": ids, "logits": logits.tolist(), "problems": problems}


if __name__ == "__main__":
    main()
