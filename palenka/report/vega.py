"""What the report's charts are made with: Vega-Lite, drawn by the reader's browser in the colours of the page.

A chart is a specification with its data; the page carries them, and the library once. Colours are the page's CSS
variables, so that the page decides about light and dark; saved alone, a chart has those of a light page.
"""

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert
from markupsafe import Markup

from palenka.util.files import write_text
from palenka.util.paths import cache_root

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
VERSION = "6.4"
COLOURS = {
    "ink": "#1c1b19", "muted": "#6b6862", "rule": "#e3e0d8", "band": "#f6f4ee", "paper": "#fffefb",
    "series-0": "#0067a5", "series-1": "#c4500a", "series-2": "#00805d", "series-3": "#a8437f",
    "series-4": "#8a6a00", "series-5": "#2f94cf", "series-6": "#55524c",
}  # fmt: skip
"""Of a light page."""
SERIES = 7
INK, MUTED, RULE, BAND, PAPER = (f"var(--{name})" for name in ("ink", "muted", "rule", "band", "paper"))
# Vega's name of a marker, and the same shape as an SVG path in a box of ±5.
MARKERS = (
    ("circle", "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z"),
    ("square", "M-3.2 -3.2h6.4v6.4h-6.4z"),
    ("triangle-up", "M0 -4L4 3.4H-4z"),
    ("diamond", "M0 -4.4L4.4 0L0 4.4L-4.4 0z"),
    ("triangle-down", "M0 4L4 -3.4H-4z"),
    ("cross", "M-1.5 -4.3h3v2.8h2.8v3h-2.8v2.8h-3v-2.8h-2.8v-3h2.8z"),
    ("triangle-left", "M-4 0L3.4 -4V4z"),
    ("triangle-right", "M4 0L-3.4 -4V4z"),
)
DASHES = ([1, 0], [5, 2], [2, 2], [6, 2, 2, 2])
NOTEBOOK_WIDTH = 760  # CSS pixels
FONT = 'system-ui, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif'
CONFIG: Spec = {
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED, "titleColor": MUTED, "domainColor": MUTED, "tickColor": MUTED, "gridColor": RULE,
        "labelFontSize": 11, "titleFontSize": 11.5, "titleFontWeight": "normal", "gridWidth": 0.7, "labelLimit": 170,
    },
    "axisX": {"grid": False},
    "text": {"color": INK, "fontSize": 11},
    "rule": {"color": MUTED},
    "point": {"filled": True, "opacity": 1},
}  # fmt: skip


def colour(number: int) -> str:
    """CSS variable of the run of that number."""
    return f"var(--series-{number % SERIES})"


def marker_path(number: int) -> str:
    """The run's marker as an SVG path."""
    return MARKERS[number % len(MARKERS)][1]


def by_run(labels: Sequence[str]) -> Spec:
    """The colour of a mark, by the run that a datum names."""
    return {"color": _scale(labels, [colour(number) for number in range(len(labels))])}


def marked(labels: Sequence[str]) -> Spec:
    """The same with the run's marker."""
    shapes = [MARKERS[number % len(MARKERS)][0] for number in range(len(labels))]
    return by_run(labels) | {"shape": _scale(labels, shapes)}


def dashed(labels: Sequence[str]) -> Spec:
    """The same as a line, dashed where colours come again."""
    dashes = [DASHES[number // SERIES % len(DASHES)] for number in range(len(labels))]
    return by_run(labels) | {"strokeDash": _scale(labels, dashes)}


def _scale(labels: Sequence[str], range_: Sequence[Any]) -> Spec:
    scale = {"domain": list(labels), "range": list(range_)}
    return {"field": "run", "type": "nominal", "scale": scale, "legend": None}


def axis(title: str | None = None, **options: Any) -> Spec:
    """A quantitative channel's axis; `options` are of its scale but for those that Vega-Lite has in the axis."""
    of_axis = {key: options.pop(key) for key in ("format", "tickCount", "grid") if key in options}
    begins = {} if options.get("type") == "log" else {"zero": False}  # on a logarithmic one Vega-Lite complains of it
    return {"type": "quantitative", "title": title, "scale": {**begins, "nice": False} | options, "axis": of_axis}


def axis_name(key: str) -> str:
    """`objective.hidden_state.weight` → `hidden_state weight`."""
    return key.removeprefix("objective.").replace(".", " ")


@dataclass(frozen=True)
class Chart:
    """What a chart shows, for those who cannot see it, and its specification."""

    label: str
    spec: Spec

    def __html__(self) -> str:
        """Its element; the page's script draws it, as wide as there is room."""
        content = json.dumps(self.spec, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        harmless = content.replace("<", "\\u003c")  # nothing in it ends the script or begins another
        return f'<div class="chart"><script type="application/json">{harmless}</script></div>'

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        return self.svg(NOTEBOOK_WIDTH)

    def svg(self, width: int) -> str:
        """Drawn so many CSS pixels wide, in the colours of a light page."""
        text = json.dumps(self.spec | {"width": width, "background": COLOURS["paper"]})
        text = re.sub(r"var\(--([\w-]+)\)", lambda found: COLOURS[found[1]], text)
        return vl_convert.vegalite_to_svg(text, vl_version=VERSION)


def chart(
    label: str, spec: Spec, *, hides_runs: bool = False, x: Spec | None = None, y: dict[str, str] | None = None
) -> Chart:  # fmt: skip
    """A chart in the style of the page.

    Args:
        label: what it shows, for those who cannot see it.
        hides_runs: whether data name runs, which the reader may hide.
        x: fields to choose from for the horizontal axis, each with the `title` and the `domain` that it has then; the
            first is what the chart begins with.
        y: values of the data's field `score` to choose from, each with the title of the vertical axis that it has then.
    """
    fitted = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    whole: Spec = {"$schema": SCHEMA, "description": label, "config": CONFIG} | fitted | spec
    if hides_runs:
        whole["params"] = [{"name": "hidden", "value": []}]
        for part in (whole, *whole.get("layer", [])):  # a layer with data of its own inherits no transform
            if "run" in next(iter(part.get("data", {}).get("values", [])), {}):
                part["transform"] = [{"filter": "indexof(hidden, datum.run) < 0"}]
    if x:
        whole["usermeta"] = {"x": x}
        first = next(iter(x.values()))
        if "domain" in first:
            whole["encoding"]["x"]["scale"] = whole["encoding"]["x"]["scale"] | {"domain": first["domain"]}
    if y:
        whole["params"].append({"name": "score", "value": next(iter(y))})
        whole["transform"].append({"filter": "datum.score === score"})
        whole["usermeta"]["y"] = y
    return Chart(label, whole)


def library() -> Markup:
    """The libraries that draw charts in a browser, as one script; made once on a machine, which takes seconds."""
    path = cache_root() / f"vega-{vl_convert.get_vega_version()}-lite-{VERSION}.js"
    if path.exists():
        return Markup(path.read_text(encoding="utf-8"))
    made = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VERSION)
    made = made.replace("</script", "<\\/script")
    with contextlib.suppress(OSError):  # without room for it, it is made each time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, made)
    return Markup(made)
