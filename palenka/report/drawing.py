"""What the report's figures are drawn with: inline SVG in the colours of the page's CSS variables and in its fonts."""

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Drawn in these placeholders, which become var(--…) so that the page decides about light and dark.
INK, MUTED, RULE, BAND, PAPER = "#010a01", "#010a02", "#010a03", "#010a04", "#010a05"
SERIES = tuple(f"#010b0{number}" for number in range(7))
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", BAND: "band", PAPER: "paper"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES)
}
# Matplotlib's name of a marker, the size at which all look alike, and the same shape as an SVG path in a box of ±5.
MARKERS = (
    ("o", 1.0, "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z"),
    ("s", 0.9, "M-3.2 -3.2h6.4v6.4h-6.4z"),
    ("^", 1.2, "M0 -4L4 3.4H-4z"),
    ("D", 0.9, "M0 -4.4L4.4 0L0 4.4L-4.4 0z"),
    ("v", 1.2, "M0 4L4 -3.4H-4z"),
    ("P", 1.3, "M-1.5 -4.3h3v2.8h2.8v3h-2.8v2.8h-3v-2.8h-2.8v-3h2.8z"),
    ("X", 1.3, "M-3.9 -1.9l2 -2l1.9 1.9l1.9 -1.9l2 2l-1.9 1.9l1.9 1.9l-2 2l-1.9 -1.9l-1.9 1.9l-2 -2l1.9 -1.9z"),
    ("<", 1.2, "M-4 0L3.4 -4V4z"),
)
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "palenka",
    "text.parse_math": False,
    "font.size": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "axes.labelsize": 10.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
}


def colour(number: int) -> str:
    """CSS variable of the run of that number."""
    return f"var(--series-{number % len(SERIES)})"


def marker_path(number: int) -> str:
    """The run's marker as an SVG path."""
    return MARKERS[number % len(MARKERS)][2]


def style(number: int, size: float) -> dict[str, Any]:
    """The run's colour and marker, as Matplotlib takes them."""
    marker, factor, _ = MARKERS[number % len(MARKERS)]
    return {"color": SERIES[number % len(SERIES)], "marker": marker, "markersize": size * factor}


def canvas(width: float, height: float, left: float, right: float, top: float, bottom: float) -> tuple[Figure, Axes]:
    """A figure of so many CSS pixels with margins in the same unit."""
    figure = Figure(figsize=(width / 72, height / 72), facecolor="none")
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    axes.set_facecolor("none")
    return figure, axes


def as_svg(name: str, label: str, width: float, height: float, draw: Callable[[], Figure]) -> str:
    """Draws under our settings; returns an <svg> element whose ids begin with `name`."""
    with matplotlib.rc_context(SETTINGS):
        buffer = StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw().savefig(buffer, format="svg", facecolor="none", metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    name = re.sub(r"\W", "-", name)
    text = re.sub(r'id="|url\(#|href="#', lambda found: f"{found[0]}{name}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub("|".join(VARIABLES), lambda found: f"var(--{VARIABLES[found[0]]})", text)
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" '
    return re.sub(r"<svg [^>]*>", f'{head}xmlns:xlink="http://www.w3.org/1999/xlink">', text, count=1).strip()


def axis_name(key: str) -> str:
    """`objective.hidden_state.weight` → `hidden_state weight`."""
    return key.removeprefix("objective.").replace(".", " ")
