"""Trees of token sequences: what they hold, what a node sees, and what a model makes of it."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palenka.evaluation.prefix_tree import Inputs, Row, rows_of

# Few different tokens: so that much is shared.
texts_of_few_tokens = st.lists(st.lists(st.integers(1, 3), max_size=9).map(tuple), max_size=12)
limits = st.integers(0, 20)


def test_a_tree_by_hand() -> None:
    [row] = rows_of([(5, 6, 7), (5,), (5, 6, 8), (9,)], 6)
    assert row.tokens == [5, 6, 7, 8, 9]
    assert row.parents == [-1, 0, 1, 1, -1]
    assert row.depths == [0, 1, 2, 2, 0]
    assert dict(zip(row.texts, row.paths, strict=True)) == {0: [0, 1, 2], 1: [0], 2: [0, 1, 3], 3: [4]}
    expected = [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    assert Inputs.of([row], 0).visible[0].astype(int).tolist() == expected


def test_a_full_row_is_followed_by_one_that_begins_anew() -> None:
    rows = rows_of([(5, 6, 7), (5, 6, 8), (5, 6, 9)], 4)
    assert [row.tokens for row in rows] == [[5, 6, 7, 8], [5, 6, 9]]


def test_long_texts_share_a_row_if_they_share_the_most_of_themselves() -> None:
    texts = [(1, 2, 3, 4, 5), (1, 2, 3, 4, 6), (1, 2, 3, 4, 7), (1, 2, 8, 9, 9), (3,)]
    assert [row.tokens for row in rows_of(texts, 2, share_long=True)] == [
        [1, 2, 3, 4, 5, 6, 7], [1, 2, 8, 9, 9], [3],
    ]  # fmt: skip
    assert len(rows_of(texts, 2)) == 5
    many = [(1, 2, 3, last) for last in range(9)]
    assert [len(row.tokens) for row in rows_of(many, 2, share_long=True)] == [8, 7]


@given(texts_of_few_tokens, limits, st.booleans())
def test_every_text_stands_once_on_a_path_that_spells_it(
    texts: list[tuple[int, ...]], limit: int, share_long: bool
) -> None:
    rows = rows_of(texts, limit, share_long)
    assert sorted(number for row in rows for number in row.texts) == list(range(len(texts)))
    for row in rows:
        for number, path in zip(row.texts, row.paths, strict=True):
            assert tuple(row.tokens[node] for node in path) == texts[number]
            assert [row.parents[node] for node in path] == [-1, *path][: len(path)]
            assert [row.depths[node] for node in path] == list(range(len(path)))


@given(texts_of_few_tokens, limits, st.booleans())
def test_rows_are_short_and_repeat_nothing(texts: list[tuple[int, ...]], limit: int, share_long: bool) -> None:
    for row in rows_of(texts, limit, share_long):
        prefixes = {texts[number][:end] for number in row.texts for end in range(1, len(texts[number]) + 1)}
        assert len(row.tokens) == len(prefixes)
        longest = max(len(texts[number]) for number in row.texts)
        assert len(row.tokens) <= (max(limit, 2 * longest) if share_long else limit) or len(row.texts) == 1


@given(texts_of_few_tokens)
def test_without_a_limit_all_texts_are_one_tree(texts: list[tuple[int, ...]]) -> None:
    assert len(rows_of(texts, 1000)) == min(1, len(texts))


@given(texts_of_few_tokens, limits)
def test_a_node_sees_its_ancestors_and_itself_alone(texts: list[tuple[int, ...]], limit: int) -> None:
    rows = rows_of(texts, limit)
    if not rows:
        return
    inputs = Inputs.of(rows, 0)
    for row, tokens, positions, visible in zip(rows, inputs.tokens, inputs.positions, inputs.visible, strict=True):
        size = len(row.tokens)
        assert tokens.tolist() == row.tokens + [0] * (len(tokens) - size)
        assert positions[:size].tolist() == row.depths
        for node in range(len(tokens)):
            assert set(np.flatnonzero(visible[node])) == (ancestors(row, node) if node < size else {node})


def ancestors(row: Row, node: int) -> set[int]:
    """The node and all above it."""
    found = set()
    while node >= 0:
        found.add(node)
        node = row.parents[node]
    return found


@cache
def untrained(architecture: str) -> Any:
    return tiny.model({"gpt2": tiny.GPT2, "llama": tiny.LLAMA}[architecture]).eval()


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@settings(max_examples=15, deadline=None)
@given(texts=texts_of_few_tokens.filter(any), limit=limits)
@torch.inference_mode()
def test_a_model_sees_in_a_tree_what_it_sees_in_each_text_alone(
    architecture: str, texts: list[tuple[int, ...]], limit: int
) -> None:
    model = untrained(architecture)
    rows = rows_of(texts, limit)
    inputs = Inputs.of(rows, 0)
    mask = torch.where(torch.from_numpy(inputs.visible), 0.0, torch.finfo(torch.float32).min)[:, None]
    positions = torch.from_numpy(inputs.positions)
    together = model(torch.from_numpy(inputs.tokens), attention_mask=mask, position_ids=positions).logits
    for logits, row in zip(together, rows, strict=True):
        for number, path in zip(row.texts, row.paths, strict=True):
            if path:
                alone = model(torch.tensor([texts[number]])).logits[0]
                torch.testing.assert_close(logits[path], alone, atol=1e-5, rtol=1e-4)
