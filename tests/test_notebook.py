"""The notebook of data preparation: it runs as it stands, its numbers are those of the data, it holds no text.
"""

import base64
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread
from notebooks import execute, outputs, printed

from palenka.data.tokens import SplitWriter, TokenSplit, TrainWindows
from palenka.data.windows import WindowConfig
from palenka.report import corpus_excerpts, corpus_tables
from palenka.report.corpus_figures import KINDS
from palenka.util.paths import ROOT

NOTEBOOK = ROOT / "cleaning_and_tokenization.ipynb"
FIGURES = {"effects", "lengths", "tokens-per-word", "token-lengths", "zipf", "rare", "windows"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The notebook as executed without any settings, and the prepared.json that it made."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = execute(NOTEBOOK, folder)
    yield notebook, json.loads((folder / "data" / "demo" / "prepared.json").read_text(encoding="utf-8"))


def rows(notebook: Any, name: str) -> list[dict[str, Any]]:
    """The rows of the first table of numbers that a cell shows, from its plain text; columns stand two spaces apart."""
    tables = [output.data["text/plain"] for output in outputs(notebook, name) if "text/html" in output.get("data", {})]
    head, _, *lines = tables[0].splitlines()
    columns = [column.strip() for column in head.split("  ") if column.strip()]
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    return [dict(zip(columns, map(number, line), strict=True)) for line in cells]


def number(cell: str) -> Any:
    try:
        return float(cell) if "." in cell else int(cell.replace(",", ""))
    except ValueError:
        return cell


def test_it_runs_by_this_interpreter(demo: tuple[Any, dict[str, Any]]) -> None:
    notebook, _ = demo
    assert printed(notebook, "interpreter").strip() == sys.executable
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    said = [out.text for cell in notebook.cells for out in cell.get("outputs", []) if out.get("name") == "stderr"]
    assert not [text for text in said if "Warning" in text]


def test_its_figures_show_something(demo: tuple[Any, dict[str, Any]]) -> None:
    pictures = {
        cell.id: out.data["image/png"]
        for cell in demo[0].cells
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    }
    assert pictures.keys() == FIGURES
    for name, png in pictures.items():
        pixels = imread(io.BytesIO(base64.b64decode(png)), format="png")
        ink = (pixels != pixels[0, 0]).any(axis=-1)
        assert ink.mean() > 0.02, name
        assert not ink[[0, -1]].any(), f"{name}: something is cut off above or below"
        assert not ink[:, [0, -1]].any(), f"{name}: something is cut off at a side"


def test_its_numbers_are_those_of_the_prepared_data(demo: tuple[Any, dict[str, Any]]) -> None:
    notebook, record = demo
    domains = {
        (split, name): domain for split, found in record["splits"].items() for name, domain in found["domains"].items()
    }
    raw = {(row["split"], row["domain"]): row for row in rows(notebook, "raw")}
    sizes = {(row["split"], row["domain"]): row for row in rows(notebook, "statistics")}
    assert raw.keys() == sizes.keys() == domains.keys()
    for key, domain in domains.items():
        assert (raw[key]["lines"], raw[key]["bytes"]) == (domain["effects"]["lines"], domain["effects"]["bytes_in"])
        assert {name: sizes[key][name] for name in ("documents", "words", "tokens", "bytes")} == {
            name: domain[name] for name in ("documents", "words", "tokens", "bytes")
        }
        assert sizes[key]["tokens/word"] == pytest.approx(domain["tokens"] / domain["words"], abs=0.005)
    for row in rows(notebook, "effects"):
        effects = domains["train", row.pop("train")]["effects"]
        assert row == {name: effects[name] for name in row}


def test_an_epoch_has_every_word_once(demo: tuple[Any, dict[str, Any]]) -> None:
    notebook, record = demo
    train = record["splits"]["train"]
    for row in rows(notebook, "epochs"):
        assert row["words"] == train["words"]
        assert row["windows"] * row["labels/window"] == pytest.approx(train["tokens"], rel=1e-3)


@pytest.mark.usefixtures("processes")
def test_it_takes_text_of_ones_own(tmp_path: Path) -> None:
    texts = {
        "train/childes.train": "*MOT:\twhere is [points] the ball?\n*CHI:\tthere it is.\n\n*CHI:\tmore.\n" * 9,
        "train/open_subtitles.train": "No end anywhere.\n",
        "dev/childes.dev": "*MOT:\tthe ball?\n",
        "dev/switchboard.dev": "A:\tthe quux,\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    settings = {"TRAIN": "train", "DEV": "dev", "NAME": "mine/small", "VOCAB_SIZE": "300"}
    notebook = execute(NOTEBOOK, tmp_path, **{f"PALENKA_NOTEBOOK_{name}": value for name, value in settings.items()})
    assert "data.name=mine/small" in printed(notebook, "next")
    new = {row["dev"]: row["new words"] for row in rows(notebook, "coverage")}
    assert new == {"childes": 0, "switchboard": 66.67}
    [said, _] = outputs(notebook, "documents")
    assert said.data["text/markdown"].endswith(": open_subtitles")


def test_the_repository_holds_it_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "clear all outputs before committing it"
    assert not any(cell.metadata for cell in notebook.cells)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}


def test_changes_are_marked_on_their_side_and_text_is_escaped() -> None:
    table = corpus_tables.changes([("*MOT:\ta <b> c", "MOT: a <b> c"), ("[x].", "")])
    assert table.text == "- *MOT:\ta <b> c\n+ MOT: a <b> c\n- [x].\n+ "
    gone, new = corpus_tables._GONE, corpus_tables._NEW
    assert f'<span style="{gone}">*</span>MOT:<span style="{gone}">⇥</span>a &lt;b&gt; c' in table.html
    assert f'MOT:<span style="{new}"> </span>a &lt;b&gt; c' in table.html
    assert f'<span style="{gone}">[x].</span>' in table.html
    assert "(nothing)" in table.html


def test_what_stays_is_shown_near_the_changes_only() -> None:
    long = "x " * 400
    [cell] = [c for c in corpus_tables.changes([(f"{long}[gone]{long}", long + long)]).html.split("<td") if "gone" in c]
    assert cell.count("x") < 2 * corpus_tables.CONTEXT
    assert cell.count("…") == 2


def test_changed_lines_differ_in_kind_and_headers_are_none() -> None:
    raw = ["= = = a.cha = = =\n", "*CHI:\tyes.\n", "*MOT:\tno.\n", "\n", "*CHI:\t[laughs].\n", "*CHI:\tgo [x] on.\n"]
    found = corpus_excerpts.changed_lines("childes", raw, 6)
    assert found == [("*CHI:\t[laughs].", ""), ("*MOT:\tno.", "MOT: no.")]
    assert corpus_excerpts.changed_lines("gutenberg", ["= = = PG1 = = =\n", "Plain text.\n"], 6) == []


def test_an_end_of_a_document_is_found_where_a_header_or_farewells_tell_it() -> None:
    wiki = ["= = = A = = =\n", "One.\n", "\n", "= = = B = = =\n", "Two.\n", "More.\n", "Still more.\n"]
    raw, clean = corpus_excerpts.document_end("simple_wiki", wiki) or ([], [])
    assert raw == ["= = = A = = =", "One.", "", "= = = B = = =", "Two.", "More."]
    assert clean == ["A", "One.", "", "B", "Two.", "More."]
    calls = ["A:\tBye.\n", "B:\tBye.\n", "A:\tHello.\n", "B:\tHi.\n", "A:\tSo.\n", "B:\tYes.\n", "A:\tGood.\n"]
    assert (corpus_excerpts.document_end("switchboard", calls) or ([], []))[1][:4] == [
        "A: Bye.", "B: Bye.", "", "A: Hello.",
    ]  # fmt: skip
    assert corpus_excerpts.document_end("open_subtitles", ["One.\n", "Two.\n"]) is None


def test_kinds_of_positions_are_those_of_the_tokens(tmp_path: Path) -> None:
    entries = ["<pad>", "<s>", "</s>", "<mask>", "Ċ", "Ġa", "b", "Ġc"]
    writer = SplitWriter(tmp_path / "train", 4, 2, np.array([entry.startswith("Ġ") for entry in entries]))
    writer.add(np.array([5, 6, 7, 7, 5], np.uint16), np.array([3, 1, 1]), [3, 1, 1], [True, False, True])
    writer.end_domain("text")
    writer.close()
    windows = TrainWindows(TokenSplit.open(tmp_path / "train"), WindowConfig(seq_length=16), 0, bos_id=1, pad_id=0)
    every = range(windows.epoch_size(0))
    first = int(np.argmin(windows.bounds(every)[0]))
    names = list(KINDS)
    [kinds] = corpus_excerpts.window_kinds(windows, [first], entries)
    end = int(windows.bounds([first])[1][0])
    text = [
        "begins a line", "goes on with a word", "begins a word", "newline", "begins a line", "</s>", "begins a line",
        "</s>",
    ]  # fmt: skip
    shown = [kind if place < end else "shown, but a label of the next window" for place, kind in enumerate(text)]
    assert [names[kind] for kind in kinds] == ["<s>", *shown, *["padding"] * 7]
