"""What minicons says of texts under masked models; it runs with transformers 4, in an environment of its own.

    python -m venv .venv-transformers4
    .venv-transformers4/bin/python -m pip install transformers==4.51.3 torch==2.13.0 numpy==2.4.6 minicons==0.3.39

minicons 0.3.39 calls what transformers 5 has removed from tokenizers. Each line of standard input asks for a whole
call: model load, tokens, scores.

    {"model": FOLDER, "choices": [[CONTEXT, TEXT], …], "metric": "original", "distance": 0, "batch_size": 64,
     "threads": 1, "clock": "perf_counter"}

and is answered by a line of standard output, in which imports do not count: {"seconds": …, "scores": [SUM, …]}.

`metric` is minicons' `PLL_metric`. Texts without context begin with a space, as under the 2024 protocol; equal ones are
scored once, and all are given to minicons by length, since it pads each batch. A folder that names code of its own for
masked models is loaded with it. A causal class, which learned to see all where it is told to, is told to; with a
`distance` of 1 its predictions are those one place before (mntp).
"""

import contextlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from minicons.scorer import MaskedLMScorer
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer


class SeesAll(nn.Module):
    """A model of a causal class as minicons asks a masked one: with a mask of padding alone."""

    def __init__(self, model: Any, distance: int) -> None:
        super().__init__()
        self.model, self.distance = model, distance

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        hidden = (1.0 - attention_mask[:, None, None].float()) * torch.finfo(torch.float32).min
        mask = hidden.expand(-1, 1, input_ids.shape[1], -1)
        states = self.model.base_model(input_ids, attention_mask=mask, use_cache=False).last_hidden_state
        if self.distance:
            states = states.roll(self.distance, 1)
        return SimpleNamespace(logits=self.model.get_output_embeddings()(states))


def main() -> None:
    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            answer = call(**json.loads(line))
        print(json.dumps(answer), flush=True)


def call(
    model: str, choices: list[list[str]], metric: str, distance: int, batch_size: int, threads: int, clock: str
) -> dict[str, Any]:
    torch.set_num_threads(threads)
    now = getattr(time, clock)
    started = now()
    scorer = load(Path(model), distance)
    distinct = sorted({tuple(choice) for choice in choices}, key=lambda choice: (not choice[0], -len("".join(choice))))
    with_context = sum(bool(context) for context, _ in distinct)
    found: dict[tuple[str, ...], float] = {}
    for part in (distinct[:with_context], distinct[with_context:]):
        for start in range(0, len(part), batch_size):
            batch = part[start : start + batch_size]
            found |= zip(batch, scores(scorer, batch, metric), strict=True)
    sums = [found[tuple(choice)] for choice in choices]
    return {"seconds": now() - started, "scores": sums}


def load(folder: Path, distance: int) -> MaskedLMScorer:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]:
        ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (tokenizer.bos_token, tokenizer.eos_token)]
        form = f"{tokenizer.bos_token} $A {tokenizer.eos_token}"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=form, special_tokens=ends)
    if tokenizer.cls_token is None:  # by which minicons knows what not to score
        tokenizer.cls_token, tokenizer.sep_token = tokenizer.bos_token, tokenizer.eos_token
    is_masked = "AutoModelForMaskedLM" in config.get("auto_map", {}) or any(
        name.endswith("ForMaskedLM") for name in config["architectures"]
    )
    if is_masked:
        model = AutoModelForMaskedLM.from_pretrained(folder, torch_dtype=torch.float32, trust_remote_code=True)
    else:
        causal = AutoModelForCausalLM.from_pretrained(
            folder, torch_dtype=torch.float32, attn_implementation="eager"
        )
        model = SeesAll(causal, distance)
    return MaskedLMScorer(model, "cpu", tokenizer)


def scores(scorer: MaskedLMScorer, batch: list[tuple[str, ...]], metric: str) -> list[float]:
    options = {"reduction": lambda log_probs: float(log_probs.double().sum()), "PLL_metric": metric}
    if not batch[0][0]:
        return scorer.sequence_score([f" {text}" for _, text in batch], **options)  # type: ignore[no-any-return]
    contexts = [context.rstrip() for context, _ in batch]
    texts = [context[len(context.rstrip()) :] + text for context, text in batch]
    return scorer.conditional_score(contexts, texts, separator="", **options)


if __name__ == "__main__":
    main()
