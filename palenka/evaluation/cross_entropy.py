"""Cross-entropy of a model on the development and test text of its own prepared data, per domain, in float32.

Windows are cut as in training (`data.seq_length`, `data.bos`, `data.window_start` of the run's config), and all of
them are used, so that every token is predicted once (with `bos: none`, all but a domain's first). In nats per token,
and in bits per UTF-8 byte of the text, which compares models whose tokenizers differ. A masked model predicts the
tokens that are masked, always the same of a window: in nats per token alone.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from palenka.data.integrity import verify
from palenka.data.tokens import DevWindows, TokenSplit
from palenka.data.windows import WindowConfig
from palenka.evaluation.results import text_figures, whole_text
from palenka.evaluation.scoring import BATCH_TOKENS, Scorer
from palenka.util.errors import UserError
from palenka.util.progress import passed_on

SPLITS = ("dev", "test")
WINDOW_DEFAULTS = {"seq_length": 128, "bos": "window", "window_start": "line"}


def window_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a run's config that decides the windows."""
    data = config.get("data", {})
    return {key: data.get(key, default) for key, default in WINDOW_DEFAULTS.items()}


def cross_entropy(scorer: Scorer, prepared: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """{split: {"cross_entropy", "bits_per_byte", "tokens", "words", "bytes", "domains": {name: the same}}}.

    Args:
        scorer: the model.
        prepared: a folder of prepared data; its test split may be absent.
        settings: `window_settings` of the run.

    Raises:
        UserError: the windows are longer than the model, or the data is damaged.
    """
    if scorer.max_length is not None and settings["seq_length"] > scorer.max_length:
        raise UserError(
            f"{scorer.name}: data.seq_length is {settings['seq_length']}, "
            f"but the model has {scorer.max_length} positions"
        )
    window = WindowConfig(**settings)
    present = [name for name in SPLITS if (prepared / name / "index.json").exists()]
    verify(prepared, *present)
    return {name: _of_split(scorer, TokenSplit.open(prepared / name), window, name) for name in present}


def _of_split(scorer: Scorer, split: TokenSplit, window: WindowConfig, label: str) -> dict[str, Any]:
    tokenizer = scorer.tokenizer
    windows = DevWindows(split, window, sys.maxsize, scorer.prefix, tokenizer.pad_token_id or 0)
    size = max(1, BATCH_TOKENS[scorer.device.type] // window.seq_length)
    batches = [range(start, min(start + size, len(windows))) for start in range(0, len(windows), size)]
    nats, labels = np.zeros(len(split.domains)), np.zeros(len(split.domains))
    for batch in passed_on(batches, [len(batch) for batch in batches], f"cross-entropy, {label}", "windows"):
        shown = scorer.paradigm.window_batch(windows, batch)
        domains = [windows.domain_of(index) for index in batch]
        np.add.at(nats, domains, -scorer.log_probs(shown))
        np.add.at(labels, domains, shown.counts.sum(dim=1).numpy())
    means = np.divide(nats, labels, out=np.zeros_like(nats), where=labels > 0)
    sizes = np.array([domain.end - domain.start for domain in split.domains]) if scorer.is_causal else labels
    return whole_text({
        domain.name: text_figures(mean, int(predicted), domain.words, domain.bytes, scorer.is_causal)
        for domain, mean, predicted in zip(split.domains, means.tolist(), sizes.tolist(), strict=True)
    })  # fmt: skip
