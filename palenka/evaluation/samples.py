"""What a causal model writes by itself: continuations of a few prompts, and of nothing, sampled at temperature 1.

A prompt stands where a text begins, behind the tokenizer's bos. Each token is drawn from all of the model's
probabilities: the first, by its id, at which their sum exceeds u. The numbers u are a stream of their own for each
prompt, and the same for all models. A sample ends at the tokenizer's eos, or after so many tokens.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palenka.evaluation.scoring import Scorer, workers

PROMPTS = ("", "The little", "It was", "Did you know that")
TOKENS = 40
SEED = 0
SETTINGS = {"prompts": list(PROMPTS), "tokens": TOKENS, "seed": SEED}
"""What decides the samples of a model."""


def write_samples(scorer: Scorer) -> list[dict[str, Any]]:
    """Of each prompt {"prompt", "text": what follows, "ended": whether the model ended it}.

    Args:
        scorer: of a causal model.
    """
    tokenizer = scorer.tokenizer
    prompts = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in PROMPTS]
    numbers = [np.random.default_rng([SEED, place]).random(TOKENS) for place in range(len(PROMPTS))]
    with workers(scorer.device) as apply:  # one is enough, on a thread of its own: steps are too small to be shared
        [rows] = apply(partial(continue_rows, scorer, numbers=numbers), [[[scorer.prefix, *ids] for ids in prompts]])
    return [_sample(tokenizer, *each) for each in zip(PROMPTS, prompts, rows, strict=True)]


def continue_rows(
    scorer: Scorer, rows: Sequence[list[int]], numbers: Sequence[NDArray[np.float64]]
) -> list[list[int]]:  # fmt: skip
    """Rows of token ids with what the model draws after them by uniform numbers (tokens,), until eos or its last place.

    What was drawn is not kept in a cache, which not all architectures have: a few hundred tokens are soon read again.
    """
    eos, longest = scorer.tokenizer.eos_token_id, scorer.max_length or float("inf")
    rows, going = [list(row) for row in rows], list(range(len(rows)))
    for drawn in zip(*numbers, strict=True):
        going = [n for n in going if len(rows[n]) <= longest]
        if not going:
            break
        for n, probabilities in zip(going, scorer.predictions([rows[n] for n in going]), strict=True):
            rows[n].append(draw(probabilities, drawn[n]))
        going = [n for n in going if rows[n][-1] != eos]
    return rows


def draw(probabilities: NDArray[np.float64], number: float) -> int:
    """The first entry at which the sum of the probabilities exceeds a number from 0 to 1."""
    sums = probabilities.cumsum()
    return int(np.searchsorted(sums, number * sums[-1], side="right"))


def _sample(tokenizer: Any, prompt: str, beginning: list[int], row: list[int]) -> dict[str, Any]:
    """The text is what the whole has more than its beginning: some tokenizers drop a space that a part begins with."""
    shown, whole = (tokenizer.decode(ids, skip_special_tokens=True) for ids in (beginning, row[1:]))
    ended = len(row) > 1 + len(beginning) and row[-1] == tokenizer.eos_token_id
    return {"prompt": prompt, "text": whole[len(shown) :], "ended": ended}
