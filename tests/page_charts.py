"""The charts of a report's page, as a browser finds them."""

import html
import json
import re
from typing import Any

from palenka.report.vega import Chart

ELEMENT = re.compile(r'<div class="chart"><script type="application/json">(.*?)</script></div>', re.DOTALL)


def charts(page: str) -> list[Chart]:
    """In the order of the page."""
    specs: list[dict[str, Any]] = [json.loads(content) for content in ELEMENT.findall(page)]
    return [Chart(spec["description"], spec) for spec in specs]


def labels(page: str) -> list[str]:
    """What the charts show."""
    return [chart.label for chart in charts(page)]


def texts(chart: Chart | None) -> list[str]:
    """All that is written in a chart once it is drawn."""
    assert chart is not None
    written = re.findall(r"<text.*?</text>", chart.svg(600), re.DOTALL)
    return [html.unescape(part) for text in written for part in re.findall(r">([^<]+)<", text)]
