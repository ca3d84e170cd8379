"""What MkDocs is told beside mkdocs.yml: pages that stand outside docs/, and links to files of the repository.

README.md is the site's first page, findings/ has one, results/ one for each of its texts. A link to any other file of
the repository, a module say, leads to a page that shows it, so that the site is whole without a network.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "results/STUDY.md": "study.md",
    "results/PLAN.md": "study_plan.md",
    "results/LOG.md": "study_log.md",
    "results/README.md": "results.md",
    "findings/README.md": "findings.md",
}
"""Of the repository, and what they are called in the site."""
FIGURES = {str(path.relative_to(ROOT)): f"figures/{path.name}" for path in sorted((ROOT / "results/figures").glob("*"))}
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)]*)?\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".slurm": "bash", ".env": "bash", ".cff": "yaml"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside docs/, and those of files that any page links to."""
    for path, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text(encoding="utf-8")))
    for path, name in FIGURES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()}
    linked = {path for name, text in texts.items() for path in _linked_files(name, text)}
    for path in sorted(linked):
        files.append(File.generated(config, _source_page(path), content=_shown(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links where the site has what they mean."""
    name = page.file.src_uri

    def led(found: re.Match[str]) -> str:
        target = _in_site(name, found[2])
        return f"{found[1]}{target}{found[3] or ''})" if target else found[0]

    return markdown if name.startswith("source/") else LINK.sub(led, markdown)


def _repository_path(name: str, link: str) -> str | None:
    """Where in the repository a link of a page leads; None out of it."""
    if ":" in link or link.startswith("/"):
        return None
    sources = {site: path for path, site in PAGES.items()}
    folder = posixpath.dirname(sources.get(name, f"docs/{name}"))
    return posixpath.normpath(posixpath.join(folder, link))


def _linked_files(name: str, text: str) -> set[str]:
    """Files of the repository that a page links to and the site has no page of."""
    found = {_repository_path(name, link[2]) for link in LINK.finditer(text)}
    return {_file(path) for path in found if path and not _page_of(path) and (ROOT / path).exists()}


def _file(path: str) -> str:
    """A folder is shown by the module that says what is in it, else by its list of files."""
    return f"{path}/__init__.py" if (ROOT / path / "__init__.py").exists() else path


def _page_of(path: str) -> str | None:
    """The name in the site of a file of the repository that is a page there, or a picture beside one."""
    if name := PAGES.get(path) or FIGURES.get(path):
        return name
    is_kept = path.startswith("docs/") and Path(path).suffix in (".md", ".png")
    return path.removeprefix("docs/") if is_kept else None


def _in_site(name: str, link: str) -> str | None:
    path = _repository_path(name, link)
    if path is None or not (ROOT / path).exists():
        return None
    target = _page_of(path) or _source_page(_file(path))
    return posixpath.relpath(target, posixpath.dirname(name) or ".")


def _source_page(path: str) -> str:
    return f"source/{path}.md"


def _shown(path: str) -> str:
    """A file as a page."""
    place = ROOT / path
    if place.is_dir():
        listed = "\n".join(f"- `{each.relative_to(ROOT)}`" for each in sorted(place.iterdir()) if each.suffix != ".pyc")
        return f"# `{path}/`\n\n{listed}\n"
    text = place.read_text(encoding="utf-8")
    if place.suffix == ".ipynb":
        return f"# `{path}`\n\nA notebook: open it in Jupyter.\n"
    return f"# `{path}`\n\n````{LANGUAGES.get(place.suffix, 'text')}\n{text}\n````\n"
