"""Pictures of a corpus for the notebook: what cleaning does, how long things are, how often, and how windows lie.

Each function returns a picture that a notebook shows by itself. They look like the report's figures on its light page.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from numpy.typing import NDArray

INK, MUTED, RULE, BAND, PAPER = "#1c1b19", "#6b6862", "#e3e0d8", "#f6f4ee", "#fffefb"
BLUE, ORANGE, GREEN = COLOURS = "#0067a5", "#c4500a", "#00805d"
GREY = "#d9d5ca"
STYLE: dict[str, Any] = {
    "text.parse_math": False,
    "font.size": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "legend.frameon": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
}
WIDTH = 760  # CSS pixels
SHARPNESS = 2  # image pixels in a CSS pixel
LONGEST_TOKEN = 16
KINDS = {
    "<s>": ORANGE,
    "</s>": INK,
    "newline": MUTED,
    "begins a line": GREEN,
    "begins a word": "#5aa3d0",
    "goes on with a word": "#b5d6ea",
    "shown, but a label of the next window": GREY,
    "padding": PAPER,
}
"""What can be at a position of a window, and its colour."""

P = ParamSpec("P")


@dataclass(frozen=True)
class Picture:
    """A PNG, and its width in CSS pixels."""

    png: bytes
    width: int

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.png, {"width": self.width}


def _picture(draw: Callable[P, Figure]) -> Callable[P, Picture]:
    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with matplotlib.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            buffer = BytesIO()
            figure.savefig(buffer, format="png", dpi=72 * SHARPNESS)
        return Picture(buffer.getvalue(), WIDTH)

    return drawn


def _figure(height: float) -> Figure:
    return Figure(figsize=(WIDTH / 72, height / 72), layout=ConstrainedLayoutEngine(w_pad=8 / 72, h_pad=8 / 72))


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """A row for each name, the first on top."""
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


@_picture
def cleaning(effects: Mapping[str, Mapping[str, int]]) -> Figure:
    """By domain, the share of lines that were dropped or changed, and the share of bytes that were left."""
    names, height = list(effects), 30 * len(effects) + 78
    figure = _figure(height)
    lines, size = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, effect in enumerate(effects.values()):
        touched = [100 * effect[kind] / effect["lines"] for kind in ("dropped", "changed")]
        left = 0.0
        for share, colour in zip([*touched, 100 - sum(touched)], (ORANGE, BLUE, GREY), strict=True):
            lines.barh(place, share, left=left, color=colour, height=0.62)
            left += share
        size.barh(place, 100, color=GREY, height=0.62)
        size.barh(place, 100 * effect["bytes_out"] / effect["bytes_in"], color=GREEN, height=0.62)
        label = f"{_megabytes(effect['bytes_in'])} → {_megabytes(effect['bytes_out'])} MB"
        size.text(104, place, label, va="center", fontsize=9.5, color=MUTED)
    _name_rows(lines, names)
    size.tick_params(axis="y", length=0)
    size.spines["left"].set_visible(False)
    size.spines["bottom"].set_bounds(0, 100)
    lines.set(xlim=(0, 100), xlabel="lines, %")
    size.set(xlim=(0, 170), xlabel="bytes, %", xticks=(0, 50, 100))
    kinds = {"dropped": ORANGE, "changed": BLUE, "neither (or blank, or a header)": GREY}
    for axes, named in ((lines, kinds), (size, {"left of the raw bytes": GREEN})):
        axes.legend(handles=[Patch(color=c, label=k) for k, c in named.items()], **_above(len(named)))
    return figure


def _above(columns: int) -> dict[str, Any]:
    """Where a legend above the axes stands."""
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderaxespad": 0.2}
    return {**place, "ncols": columns, "fontsize": 10, "handlelength": 1.0, "columnspacing": 1.4}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}" if size >= 1e6 else f"{size / 1e6:.2g}"


@_picture
def document_lengths(words: Mapping[str, NDArray[np.int64]]) -> Figure:
    """By domain, how many documents have how many words."""
    figure = _figure(46 * len(words) + 50)
    axes = figure.subplots()
    longest = max(int(lengths.max()) for lengths in words.values())
    edges = np.geomspace(1, longest + 1, 64)
    for place, lengths in enumerate(words.values()):
        counts = np.histogram(lengths, edges)[0]
        axes.stairs(place + 0.42 - 0.78 * counts / counts.max(), edges, baseline=place + 0.42, fill=True, color=BLUE)
        middle = float(np.median(lengths))
        axes.plot([middle, middle], [place - 0.36, place + 0.42], color=ORANGE, linewidth=1.6)
        text = f"{len(lengths):,} document{'s' if len(lengths) > 1 else ''}, median {middle:,.0f} words"
        axes.text(1.02, place + 0.2, text, transform=axes.get_yaxis_transform(), fontsize=10, color=MUTED)
    _name_rows(axes, list(words))
    axes.set(xscale="log", xlim=(1, longest * 1.2), xlabel="words in a document")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="x")
    return figure


@_picture
def tokens_per_word(ratios: Mapping[str, Mapping[str, float]]) -> Figure:
    """By domain, tokens per word in each split: {split: {domain: tokens per word}}."""
    names = list(dict.fromkeys(name for split in ratios.values() for name in split))
    figure = _figure(28 * len(names) + 70)
    axes = figure.subplots()
    for place in range(0, len(names), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=BAND, linewidth=0)
    for (split, values), colour, marker in zip(ratios.items(), COLOURS, "oD^", strict=False):
        places = [names.index(name) for name in values]
        axes.plot(list(values.values()), places, marker, color=colour, markersize=6.5, label=split)
    _name_rows(axes, names)
    axes.set(xlabel="tokens per word", xlim=(1, None))
    axes.grid(axis="x")
    axes.legend(**_above(len(ratios)))
    return figure


@_picture
def token_lengths(shares: Mapping[str, NDArray[np.float64]]) -> Figure:
    """How long tokens are, in bytes: {what: share of those with 0, 1, 2, … bytes}."""
    figure = _figure(240)
    axes = figure.subplots()
    for number, (name, share) in enumerate(shares.items()):
        binned = np.append(share[:LONGEST_TOKEN], share[LONGEST_TOKEN:].sum())
        places = np.arange(len(binned)) + 0.4 * (number - 0.5)
        axes.bar(places, 100 * binned, width=0.38, color=COLOURS[number], label=name)
    labels = [*map(str, range(1, LONGEST_TOKEN)), f"{LONGEST_TOKEN}+"]
    axes.set_xticks(range(1, LONGEST_TOKEN + 1), labels)
    axes.set(xlim=(0.4, LONGEST_TOKEN + 0.6), xlabel="bytes in a token, its leading space counted", ylabel="%")
    axes.grid(axis="y")
    axes.legend()
    return figure


@_picture
def rank_frequency(counts: Mapping[str, NDArray[np.int64]]) -> Figure:
    """Zipf's curves: how often the r-th most frequent word or token occurs, against r."""
    figure = _figure(320)
    axes = figure.subplots()
    for (name, count), colour in zip(counts.items(), COLOURS, strict=False):
        falling = np.sort(count[count > 0])[::-1]
        axes.plot(np.arange(1, len(falling) + 1), falling, color=colour, linewidth=1.6, label=name)
    most = max(int(count.max()) for count in counts.values())
    longest = max(int((count > 0).sum()) for count in counts.values())
    axes.plot([1, longest], [most, most / longest], color=MUTED, linewidth=1, linestyle=(0, (4, 2)), label="1/rank")
    axes.set(xscale="log", yscale="log", xlabel="rank", ylabel="occurrences in the training text", ylim=(0.8, 2 * most))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid()
    axes.legend()
    return figure


@_picture
def seen_fewer_than(count: NDArray[np.int64], marks: Sequence[int]) -> Figure:
    """Share of the entries that occur fewer than n times, against n; the values at `marks` are written beside."""
    figure = _figure(270)
    axes = figure.subplots()
    limits = np.unique(np.concatenate([marks, np.geomspace(1, count.max() + 1, 200).astype(np.int64)]))
    shares = 100 * np.searchsorted(np.sort(count), limits) / len(count)
    axes.plot(limits, shares, color=BLUE, linewidth=1.6)
    for mark in marks:
        share = shares[np.searchsorted(limits, mark)]
        axes.plot(mark, share, "o", color=BLUE, markersize=5.5)
        axes.annotate(f"{share:.1f} %", (mark, share), (-6, 6), textcoords="offset points", ha="right", fontsize=10)
    axes.set(xscale="log", xlim=(0.4, None), ylim=(0, 108), xlabel="n", ylabel="entries seen fewer than n times, %")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid()
    return figure


@_picture
def windows(kinds: NDArray[np.int64]) -> Figure:
    """Windows from above. `kinds` (windows, positions): the number in `KINDS` of what is there."""
    figure = _figure(14 * len(kinds) + 96)
    axes = figure.subplots()
    colours = ListedColormap(list(KINDS.values()))
    axes.imshow(kinds, cmap=colours, vmin=0, vmax=len(KINDS) - 1, aspect="auto", interpolation="nearest")
    axes.set_yticks(np.arange(len(kinds) + 1) - 0.5, [])
    axes.grid(axis="y", color=PAPER, linewidth=2.5)
    axes.set_axisbelow(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="position", ylabel="window")
    handles = [Patch(facecolor=c, edgecolor=MUTED, linewidth=0.5, label=k) for k, c in KINDS.items() if k != "padding"]
    axes.legend(handles=handles, **_above(3))
    return figure
