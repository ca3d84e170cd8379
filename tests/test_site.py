"""The documentation as a site: complete, whole without a network, and searched."""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import sync_playwright

from palenka.util.paths import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGES = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}

OUTSIDE = {"index.md", "study.md", "study_plan.md", "study_log.md", "results.md", "findings.md"}
"""Pages of texts that stand elsewhere in the repository."""


def listed(nav: object) -> Iterator[str]:
    """The pages of the navigation."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from listed(part)


def test_every_page_is_listed_once() -> None:
    names = [*listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])]
    assert sorted(names) == sorted(PAGES | OUTSIDE)


def test_messages_of_the_troubleshooting_page_are_said() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "palenka").rglob("*.py")))
    said = re.sub(r'"\s*\n\s*f?"', "", sources)  # sentences that go on in the next line
    assert len(messages) > 10 and [message for message in messages if message not in said] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "-f", str(ROOT / "mkdocs.yml"), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr  # strict: a link that leads nowhere is an error
    return folder


@pytest.mark.slow
def test_links_to_files_lead_to_pages_that_show_them(site: Path) -> None:
    shown = (site / "source/palenka/training/loop.py/index.html").read_text(encoding="utf-8")
    assert "class Loop" in re.sub(r"<[^>]+>", "", shown)
    start = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="source/palenka/training/loop.py/"' in start and 'href="data/"' in start
    assert 'href="docs/' not in start and all(path.is_dir() for path in site.rglob("*.py"))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_site_is_searched_and_asks_nothing_of_a_network(site: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.set_default_timeout(180_000)  # milliseconds: a machine may be busy
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.fill(".md-search__input", "teachers once")
        page.locator(".md-search-result__item").first.wait_for()
        found = page.locator(".md-search-result__list").inner_text()
        browser.close()
    server.shutdown()
    assert "Teachers once" in found
    assert [address for address in asked if not address.startswith(("http://127.0.0.1", "data:", "blob:"))] == []
