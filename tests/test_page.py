"""The report in a browser: drawn at every width, light and dark, moved by its reader, printed, open to everybody."""

import re
import shutil
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from made_runs import write_study
from playwright.sync_api import Browser, Page, sync_playwright

from palenka.report.write import report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (400, 800, 1400)
PATIENCE = 180_000  # milliseconds: a machine may be busy
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the page of a study."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_RUNS", str(folder))
        write_study(folder)
        report(["demo"], folder / "report.html")
    yield (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser: Browser, address: str, width: int = 1400, scheme: str = "light") -> Page:
    """The page with all charts drawn, and nothing that a browser complains of."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("html.drawn")
    assert complaints == []
    return page


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    opened_page = opened(browser, address)
    yield opened_page
    opened_page.close()


def heads(page: Page) -> list[str]:
    """Names of the runs in the study's table, from top to bottom, as far as they are shown."""
    rows = page.locator("table#study tbody tr:not(.baseline):visible")
    return rows.locator("th a").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_is_drawn_and_is_open_to_everybody(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    page = opened(browser, address, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".chart:has(svg.marks)").count() == page.locator(".chart").count() > 10
    for table in page.locator(".scroll:visible").all():  # wide ones scroll by themselves
        box = table.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width
    find = "[...document.querySelectorAll('.chart text')].map(text => text.getBoundingClientRect().height)"
    heights = page.evaluate(find)
    assert min(height for height in heights if height) > 9, "of letters in charts, as they are seen"
    violations = Axe().run(page).response["violations"]
    assert [(found["id"], [node["html"] for node in found["nodes"]][:2]) for found in violations] == []
    page.close()


def test_a_table_is_sorted_by_any_of_its_columns(page: Page) -> None:
    column = page.locator("table#study thead th").filter(has_text="blimp")
    values = lambda: [float(text) for text in page.locator(  # noqa: E731
        "table#study tbody tr:not(.baseline) td[data-column='blimp_filtered'] .value").all_inner_texts()]  # fmt: skip
    column.locator("button").click()
    assert values() == sorted(values(), reverse=True) and column.get_attribute("aria-sort") == "descending"
    column.locator("button").click()
    assert values() == sorted(values()) and column.get_attribute("aria-sort") == "ascending"
    page.locator("table#study thead th").first.locator("button").click()
    assert heads(page) == sorted(heads(page))
    last = page.locator("table#study tbody tr").last
    assert "baseline" in (last.get_attribute("class") or ""), "baselines stay below"


def test_a_table_is_filtered_by_name(page: Page) -> None:
    page.locator("input.filter").first.fill("STUDENT-k")
    assert heads(page) == ["student-kd"]
    page.locator("input.filter").first.fill("")
    assert len(heads(page)) == 5


def test_a_run_is_hidden_in_tables_and_charts_and_shown_again(page: Page) -> None:
    drawn = page.locator("#curves .chart svg.marks")
    key = page.locator("button[data-run='student-kd']").first
    before, shapes = heads(page), drawn.locator("[aria-roledescription='point']").count()
    key.click()
    page.wait_for_timeout(300)
    assert heads(page) == [name for name in before if name != "student-kd"]
    assert drawn.locator("[aria-roledescription='point']").count() < shapes
    assert {found.get_attribute("aria-pressed") for found in page.locator("button[data-run='student-kd']").all()} == {
        "false"
    }
    key.click()
    page.wait_for_timeout(300)
    assert heads(page) == before and drawn.locator("[aria-roledescription='point']").count() == shapes


def test_curves_are_drawn_against_something_else(page: Page) -> None:
    """A hidden run stays hidden."""
    curves = page.locator("#curves .chart")
    assert "words seen" in curves.inner_text()
    page.locator("button[data-run='student-kd']").first.click()
    page.select_option("select:has(option[value=step])", "step")
    page.wait_for_function("document.querySelector('#curves .chart svg').textContent.includes('steps')")
    assert "words seen" not in curves.inner_text()
    marks = curves.locator("[aria-roledescription='point']")
    assert not any("student-kd" in (mark.get_attribute("aria-label") or "") for mark in marks.all())


def test_scores_and_costs_are_chosen_for_their_chart(page: Page) -> None:
    """Of one score at a time; the curves stay as they are."""
    figure = page.locator("#bought .chart")
    marks = figure.locator("[aria-roledescription='point']")
    assert marks.count() == 5 and "accuracy" in figure.inner_text() and "teachers' counted" in figure.inner_text()
    page.select_option("select[data-axis=y]", "dev")
    page.wait_for_function("document.querySelector('#bought svg').textContent.includes('dev cross-entropy')")
    page.select_option("select:has(option[value=seconds])", "seconds")
    page.wait_for_function("document.querySelector('#bought svg').textContent.includes('training time, s')")
    text = figure.inner_text()
    assert marks.count() == 5 and "dev cross-entropy" in text and "accuracy" not in text and "FLOPs" not in text
    assert "words seen" in page.locator("#curves .chart").inner_text()
    page.locator("button[data-run='student-kd']").first.click()
    page.wait_for_timeout(300)
    assert marks.count() == 4


def test_large_numbers_are_sorted_by_their_size(page: Page) -> None:
    page.locator("table#cost thead th").filter(has_text="in all").locator("button").click()
    texts = page.locator("table#cost td[data-column='total'] .value").all_inner_texts()
    assert len({text.partition("e")[2] for text in texts}) > 1, "of several exponents"
    assert [float(text) for text in texts] == sorted(map(float, texts), reverse=True)


def test_a_point_tells_its_numbers(page: Page) -> None:
    page.locator("#curves .chart").locator("[aria-roledescription='point']").last.hover()
    tip = page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert re.search(r"run\s*:?\s*student-dskd", tip.inner_text())


def test_a_name_leads_to_how_its_run_was_made(page: Page) -> None:
    page.locator("table#study a", has_text="student-kd").click()
    made = page.locator("details[open]", has_text="config.yaml")
    assert made.count() == 1 and "student-kd" in made.inner_text()


def test_a_chart_that_was_folded_away_has_its_room(page: Page) -> None:
    folded = page.locator("details:has(.chart)").first
    folded.locator("> summary").click()
    page.wait_for_function("document.querySelector('details[open] .chart svg').getBoundingClientRect().width > 500")


def test_it_is_printed(page: Page) -> None:
    content = page.pdf(format="A4")
    assert content.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", content)) >= 2


def test_nothing_is_asked_of_a_network(browser: Browser, address: str) -> None:
    page, asked = browser.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("html.drawn")
    page.close()
    assert asked == [address]

