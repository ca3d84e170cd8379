"""Windows over tokens, against what their definition says, on splits whose every token tells its own place."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palenka.data.tokens import DevWindows, Domain, SplitWriter, TokenSplit, TrainWindows
from palenka.data.windows import IGNORED, WindowConfig
from palenka.util.errors import UserError

PAD, BOS, FIRST = 0, 1, 10
"""Token i of a split made here has the id FIRST + i."""

Structure = list[list[list[int]]]
"""Domains of documents of lines, each line by its number of tokens."""


def made_split(structure: Structure) -> TokenSplit:
    lines, documents, domains = [], [], []
    position = 0
    for number, domain in enumerate(structure):
        start = position
        for document in domain:
            documents.append(position)
            for length in document:
                lines.append(position)
                position += length
        domains.append(Domain(f"domain{number}", start, position, position - start, 0, len(domain)))
    return TokenSplit(
        tokens=np.arange(FIRST, FIRST + position, dtype=np.uint16),
        words=np.arange(position + 1, dtype=np.uint32),
        lines=np.array(lines, np.int64),
        documents=np.array(documents, np.int64),
        domains=domains,
    )


structures = st.lists(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=1, max_size=5), min_size=1, max_size=3
)
configs = st.builds(
    WindowConfig,
    seq_length=st.integers(3, 40),
    bos=st.sampled_from(["window", "document", "none"]),
    crop=st.sampled_from(["epoch_offset", "fixed"]),
    window_start=st.sampled_from(["line", "anywhere"]),
    fraction=st.sampled_from([1.0, 0.5, 0.3]),
)


def predicted(inputs: np.ndarray, labels: np.ndarray) -> list[tuple[int, int, int]]:
    """(position in the window, token before, token) of every label, tokens as places in the split; `<s>` is -1."""
    rows, columns = np.nonzero(labels != IGNORED)
    befores, tokens = inputs[rows, columns], labels[rows, columns]
    return [
        (column, -1 if before == BOS else before - FIRST, token - FIRST)
        for column, before, token in zip(columns.tolist(), befores.tolist(), tokens.tolist(), strict=True)
    ]


def segments_of(windows: TrainWindows) -> list[tuple[int, int]]:
    """The stretches of tokens that the windows of an epoch cover."""
    starts, ends = windows.bounds(range(windows.epoch_size(0)))
    covered = sorted(zip(starts.tolist(), ends.tolist(), strict=True))
    edges = {domain.start for domain in windows.split.domains}
    segments: list[tuple[int, int]] = []
    for start, end in covered:
        if segments and segments[-1][1] == start and start not in edges:
            segments[-1] = (segments[-1][0], end)
        else:
            segments.append((start, end))
    return segments


@settings(deadline=None)
@given(structure=structures, config=configs, seed=st.integers(0, 3), epoch=st.integers(0, 2))
def test_every_token_is_predicted_exactly_once_per_epoch_and_from_the_right_one(
    structure: Structure, config: WindowConfig, seed: int, epoch: int
) -> None:
    split = made_split(structure)
    try:
        windows = TrainWindows(split, config, seed, BOS, PAD)
    except UserError:
        assert config.fraction < 1
        return
    first = sum(windows.epoch_size(number) for number in range(epoch))
    labels = predicted(*windows.batch(range(first, first + windows.epoch_size(epoch))))
    document_starts = set(split.documents.tolist())
    unpredicted = {
        "window": set(),
        "none": {start for start, _ in segments_of(windows)},
        "document": {start for start, _ in segments_of(windows)} - document_starts,
    }[config.bos]
    expected = {token for start, end in segments_of(windows) for token in range(start, end)}
    counts = Counter(token for _, _, token in labels)
    if config.fraction == 1:
        assert expected == set(range(len(split.tokens)))
    missing = expected - set(counts)
    assert set(counts) <= expected and max(counts.values(), default=1) == 1
    if config.fraction == 1 or config.bos == "window":
        assert missing == unpredicted
    else:  # blocks that touch look like one here, though each has a first token of its own
        assert (
            unpredicted <= missing <= set(windows.bounds(range(first, first + windows.epoch_size(epoch)))[0].tolist())
        )
    for column, before, token in labels:
        if before == -1:
            assert column == 0 if config.bos == "window" else token in document_starts
        else:
            assert before == token - 1
            assert not (config.bos == "document" and token in document_starts)


@settings(deadline=None)
@given(structure=structures, config=configs)
def test_windows_show_one_domain_padded_at_the_end_only(structure: Structure, config: WindowConfig) -> None:
    split = made_split(structure)
    windows = TrainWindows(split, replace(config, fraction=1.0), 0, BOS, PAD)
    inputs, labels = windows.batch(range(windows.epoch_size(0)))
    assert inputs.shape == labels.shape == (windows.epoch_size(0), config.seq_length)
    assert inputs.dtype == labels.dtype == np.int64
    for row, targets in zip(inputs, labels, strict=True):
        shown = row[row != PAD]
        assert (row[: len(shown)] == shown).all()
        places = shown[shown != BOS] - FIRST
        assert (np.diff(places) == 1).all()
        assert any(domain.start <= places[0] and places[-1] < domain.end for domain in split.domains)
        assert (targets[len(shown) :] == IGNORED).all()


@settings(deadline=None, max_examples=30)
@given(structure=structures, config=configs, crop=st.sampled_from(["epoch_offset", "fixed", "random"]))
def test_a_window_is_a_function_of_seed_and_position_alone(
    structure: Structure, config: WindowConfig, crop: str
) -> None:
    split = made_split(structure)
    config = replace(config, fraction=1.0, crop=crop)
    windows = TrainWindows(split, config, 5, BOS, PAD)
    count = sum(windows.epoch_size(epoch) for epoch in range(3))
    together = windows.batch(range(count))
    fresh = TrainWindows(split, config, 5, BOS, PAD)
    for position in reversed(range(count)):
        for whole, alone in zip(together, fresh.batch([position]), strict=True):
            assert (whole[position] == alone[0]).all()


def long_split() -> TokenSplit:
    lengths = np.random.default_rng(0).integers(2, 15, 4000)
    return made_split([[lengths[:1000].tolist()], [lengths[1000:].tolist()]])


def test_positions_run_through_the_epochs() -> None:
    windows = TrainWindows(long_split(), WindowConfig(64), 0, BOS, PAD)
    first = windows.epoch_size(0)
    assert windows.locate(0) == (0, 0)
    assert windows.locate(first - 1) == (0, first - 1)
    assert windows.locate(first) == (1, 0)
    assert windows.locate(first + windows.epoch_size(1) + 3) == (2, 3)
    assert windows.batch([])[0].shape == (0, 64)


def test_epochs_and_seeds_differ_in_order_and_in_cuts() -> None:
    split = long_split()
    windows = TrainWindows(split, WindowConfig(64), 0, BOS, PAD)
    size = windows.epoch_size(0)
    starts = windows.bounds(range(size))[0]
    later = windows.bounds(range(size, size + windows.epoch_size(1)))[0]
    other = TrainWindows(split, WindowConfig(64), 1, BOS, PAD).bounds(range(size // 2))[0]
    assert (starts[:100] != np.sort(starts)[:100]).any()
    assert np.isin(later, starts).mean() < 0.7
    assert not np.isin(other, starts).all()
    assert abs(windows.epoch_size(1) - size) < 0.02 * size


def test_fixed_windows_are_those_of_the_first_epoch_in_other_orders() -> None:
    fixed, others = (TrainWindows(long_split(), WindowConfig(64, crop=crop), 0, BOS, PAD)
                     for crop in ("fixed", "epoch_offset"))  # fmt: skip
    size = fixed.epoch_size(0)
    first, second, third = (fixed.bounds(range(epoch * size, (epoch + 1) * size)) for epoch in range(3))
    assert (np.array(first) == others.bounds(range(size))).all(), "one epoch is the same, however it is cut"
    for one, other in ((first, second), (first, third), (second, third)):
        assert {*zip(*one, strict=True)} == {*zip(*other, strict=True)}
        assert (one[0] != other[0]).mean() > 0.9
    assert [fixed.epoch_size(epoch) for epoch in range(3)] == [size] * 3


def test_fixed_windows_of_each_length() -> None:
    """Where the first epochs are shorter, epochs of one length have the same windows."""
    windows = TrainWindows(long_split(), WindowConfig(64, crop="fixed"), 0, BOS, PAD, first_lengths=(32, 32))
    edges = np.cumsum([0, *(windows.epoch_size(epoch) for epoch in range(4))])
    each = [{*zip(*windows.bounds(range(*edges[epoch : epoch + 2])), strict=True)} for epoch in range(4)]
    assert each[0] == each[1] and each[2] == each[3] and each[1] != each[2]


@pytest.mark.parametrize("bos", ["window", "none", "document"])
def test_line_starts_are_used_where_there_is_one_near(bos: str) -> None:
    config = WindowConfig(64, bos=bos)  # type: ignore[arg-type]
    split = long_split()
    windows = DevWindows(split, config, 10**6, BOS, PAD)
    starts, ends = windows.bounds(range(len(windows)))
    lines = set(split.lines.tolist())
    quarter = config.room // 4
    assert np.isin(ends[:-1], split.lines).all()  # lines are shorter than a quarter of the room
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        room_ends = start + config.room - (bos == "document" and start in split.documents)
        if end not in {domain.end for domain in split.domains}:
            assert room_ends - quarter < end <= room_ends
            assert not lines & set(range(end + 1, room_ends + 1))


def test_without_a_line_start_near_or_wanted_a_window_takes_its_room() -> None:
    split = made_split([[[1000]]])
    starts, _ = DevWindows(split, WindowConfig(33), 100, BOS, PAD).bounds(range(3))
    assert starts.tolist() == [0, 32, 64]
    split = made_split([[[30] * 30]])
    starts, _ = DevWindows(split, WindowConfig(33, window_start="anywhere"), 100, BOS, PAD).bounds(range(3))
    assert starts.tolist() == [0, 32, 64]
    split = made_split([[[20] * 30]])  # lines start at 20, too far back, and at 60, near enough to 32 + 32
    starts, _ = DevWindows(split, WindowConfig(33), 100, BOS, PAD).bounds(range(3))
    assert starts.tolist() == [0, 32, 60]


def test_each_epoch_draws_one_length_for_the_first_window_of_each_domain() -> None:
    split = made_split([[[500]], [[700]]])
    windows = TrainWindows(split, WindowConfig(33, window_start="anywhere"), 0, BOS, PAD)
    lengths = []
    for epoch in range(6):
        first = sum(windows.epoch_size(number) for number in range(epoch))
        bounds = windows.bounds(range(first, first + windows.epoch_size(epoch)))
        ends = dict(zip(*(array.tolist() for array in bounds), strict=True))
        assert ends[0] == ends[500] - 500 and ends[ends[0]] == ends[0] + 32
        lengths.append(ends[0])
    assert len(set(lengths)) > 3 and min(lengths) >= 1 and max(lengths) <= 32


def test_windows_by_hand() -> None:
    """Two documents of lines 3 + 2 and 4: by every way of placing `<s>`."""
    split = made_split([[[3, 2], [4]]])

    def rows(bos: str, seq_length: int) -> list[tuple[list[int], list[int]]]:
        config = WindowConfig(seq_length, bos=bos, window_start="anywhere")  # type: ignore[arg-type]
        windows = DevWindows(split, config, 100, BOS, PAD)
        inputs, labels = windows.batch(range(len(windows)))
        return list(zip(inputs.tolist(), labels.tolist(), strict=True))

    assert rows("window", 6) == [
        ([1, 10, 11, 12, 13, 14], [10, 11, 12, 13, 14, -100]),
        ([1, 15, 16, 17, 18, 0], [15, 16, 17, 18, -100, -100]),
    ]
    assert rows("none", 5) == [
        ([10, 11, 12, 13, 14], [11, 12, 13, 14, 15]),
        ([15, 16, 17, 18, 0], [16, 17, 18, -100, -100]),
    ]
    assert rows("document", 4) == [
        ([1, 10, 11, 12], [10, 11, 12, 13]),
        ([13, 14, 1, 15], [14, -100, 15, 16]),
        ([16, 17, 18, 0], [17, 18, -100, -100]),
    ]


def test_tokens_behind_the_next_start_are_shown_but_not_predicted() -> None:
    split = made_split([[[7, 10]]])
    inputs, labels = DevWindows(split, WindowConfig(9), 100, BOS, PAD).batch([0])
    assert inputs.tolist() == [[1, 10, 11, 12, 13, 14, 15, 16, 17]]
    assert labels.tolist() == [[10, 11, 12, 13, 14, 15, 16, -100, -100]]


def test_words_of_an_epoch_are_the_words_of_the_text() -> None:
    split = long_split()
    windows = TrainWindows(split, WindowConfig(64), 0, BOS, PAD)
    size = windows.epoch_size(0)
    parts = [windows.words(range(start, min(start + 50, size))) for start in range(0, size, 50)]
    assert sum(parts) == split.words[-1]
    assert windows.words(range(2 * size)) > split.words[-1]


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.29, 0.01, 0.004])
def test_fraction_takes_that_share_of_every_domain_evenly_spread(fraction: float) -> None:
    split = made_split([[[10] * 2000], [[10] * 3000]])
    windows = TrainWindows(split, WindowConfig(32, fraction=fraction), 0, BOS, PAD)
    segments = segments_of(windows)
    assert segments == segments_of(TrainWindows(split, WindowConfig(32, fraction=fraction), 9, BOS, PAD))
    for domain in split.domains:
        kept = [token for start, end in segments for token in range(start, end) if domain.start <= token < domain.end]
        length = domain.end - domain.start
        assert len(kept) == pytest.approx(fraction * length, rel=0.02, abs=10)
        halves = [sum(token < domain.start + length / 2 for token in kept), len(kept)]
        assert abs(halves[0] - halves[1] / 2) <= length / 100 / 2 + 10
        assert all(start in split.lines for start, _ in segments)


def test_fraction_of_a_text_too_small_for_it_is_an_error() -> None:
    with pytest.raises(UserError, match="data.fraction: 0.1"):
        TrainWindows(made_split([[[5, 5, 5]]]), WindowConfig(8, fraction=0.1), 0, BOS, PAD)


@pytest.mark.parametrize("wrong", [WindowConfig(2), WindowConfig(8, fraction=0.0), WindowConfig(8, fraction=1.5)])
def test_impossible_windows_are_an_error(wrong: WindowConfig) -> None:
    with pytest.raises(UserError, match="data."):
        TrainWindows(made_split([[[5, 5, 5]]]), wrong, 0, BOS, PAD)


def test_random_crops_are_one_for_each_room_but_one() -> None:
    split = made_split([[[7] * 300]])
    config = WindowConfig(16, crop="random", window_start="anywhere")
    windows = TrainWindows(split, config, 0, BOS, PAD)
    size = windows.epoch_size(0)
    starts, ends = windows.bounds(range(size))
    assert size == 2100 // 15 - 1
    assert (np.sort(starts) // 15 - np.arange(size) <= 1).all() and (np.sort(starts) >= 15 * np.arange(size)).all()
    assert (ends - starts == 15).all() and ends.max() <= 2100
    inputs, labels = windows.batch(range(size))
    assert (inputs[:, 0] == BOS).all() and (labels[:, :15] == inputs[:, 1:]).all() and (labels[:, 15] == IGNORED).all()
    assert len({int(start) % 15 for start in starts}) > 10
    assert (np.sort(starts) != np.sort(windows.bounds(range(size, 2 * size))[0])).any()


def test_a_domain_shorter_than_a_room_still_gives_a_random_crop() -> None:
    inputs, labels = TrainWindows(made_split([[[5]]]), WindowConfig(16, crop="random"), 0, BOS, PAD).batch([0])
    assert inputs[0, 0] == BOS and labels[0, 0] >= FIRST


@settings(deadline=None)
@given(structure=structures, config=configs)
def test_dev_windows_without_a_limit_predict_each_token_once(structure: Structure, config: WindowConfig) -> None:
    split = made_split(structure)
    windows = DevWindows(split, config, 10**6, BOS, PAD)
    tokens = [token for _, _, token in predicted(*windows.batch(range(len(windows))))]
    firsts = {domain.start for domain in split.domains}
    assert sorted(tokens) == sorted(set(range(len(split.tokens))) - (firsts if config.bos == "none" else set()))


def test_dev_windows_are_spread_over_the_domains() -> None:
    split = made_split([[[10] * 20], [[10] * 4000], [[10] * 2000]])
    windows = DevWindows(split, WindowConfig(32), 60, BOS, PAD)
    domains = Counter(windows.domain_of(index) for index in range(len(windows)))
    assert len(windows) <= 60 and domains[0] >= 1
    assert domains[1] == pytest.approx(2 * domains[2], abs=2) and domains[1] + domains[2] > 55
    starts, _ = windows.bounds(range(len(windows)))
    gaps = np.diff([start for start in starts.tolist() if split.domains[1].start <= start < split.domains[1].end])
    assert gaps.min() > 0.8 * gaps.max()
    for index in range(len(windows)):
        domain = split.domains[windows.domain_of(index)]
        assert domain.start <= starts[index] < domain.end


def test_dev_windows_need_one_sample_for_each_domain() -> None:
    with pytest.raises(UserError, match="data.dev_samples: 1: .* 2 domains"):
        DevWindows(made_split([[[5]], [[5]]]), WindowConfig(8), 1, BOS, PAD)


def test_an_empty_domain_has_no_windows() -> None:
    split = made_split([[[5]], [], [[5]]])
    assert TrainWindows(split, WindowConfig(8), 0, BOS, PAD).epoch_size(0) == 2
    assert [DevWindows(split, WindowConfig(8), 5, BOS, PAD).domain_of(index) for index in range(2)] == [0, 2]


def test_writing_a_split_by_hand(tmp_path: Path) -> None:
    """Newline 4, `</s>` 2; the tokens 5 and 6 begin a word, 7 does not."""
    begins_word = np.array([False] * 5 + [True, True, False])
    writer = SplitWriter(tmp_path / "train", 4, 2, begins_word)
    writer.add(np.array([5, 7, 6], np.uint16), np.array([2, 1]), [4, 1], [True, False])
    writer.add(np.array([6, 5], np.uint16), np.array([2]), [3], [False])
    writer.add(np.empty(0, np.uint16), np.empty(0, np.int64), [], [])
    writer.add(np.array([5], np.uint16), np.array([1]), [9], [True])
    writer.end_domain("a")
    writer.end_domain("empty")
    writer.add(np.array([6], np.uint16), np.array([1]), [2], [True])
    writer.end_domain("b")
    domains = writer.close()
    split = TokenSplit.open(tmp_path / "train")
    assert split.tokens.tolist() == [5, 7, 4, 6, 4, 6, 5, 2, 5, 2, 6, 2]
    assert split.words.tolist() == [0, 1, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 6]
    assert split.lines.tolist() == [0, 3, 5, 8, 10]
    assert split.documents.tolist() == [0, 8, 10]
    assert (
        split.domains
        == domains
        == [
            Domain("a", 0, 10, 5, 4 + 1 + 1 + 1 + 3 + 9, 2),
            Domain("empty", 10, 10, 0, 0, 0),
            Domain("b", 10, 12, 1, 2, 1),
        ]
    )
    assert split.tokens.dtype == np.dtype("<u2") and split.words.dtype == np.dtype("<u4")
