"""The data card: its numbers are those of prepared.json, its front matter is what the hub reads, it quotes no text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from palenka.data.card import LICENCES, NOT_KNOWN
from palenka.data.clean import DOMAINS
from palenka.data.prepare import prepare

TEXTS = {
    "train": {
        "childes": "*MOT:\twhere is the ball?\n*CHI:\t[laughs].\n",
        "notes": "Some words &amp; more.\n\nThe end.\n",
    },
    "dev": {"childes": "*MOT:\tthe ball?\n"},
}


def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domains: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """(card, record) of a small preparation."""
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    for split, texts in TEXTS.items():
        (tmp_path / split).mkdir()
        for domain in set(domains) & set(texts):
            (tmp_path / split / f"{domain}.{split}").write_text(texts[domain])
    folder = prepare(tmp_path / "train", tmp_path / "dev", None, "small", 300)
    return (folder / "README.md").read_text(), json.loads((folder / "prepared.json").read_text())


def table(card: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = card.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def number(cell: str) -> int:
    return int(cell.replace(",", ""))


def test_its_numbers_are_those_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, record = make(tmp_path, monkeypatch, ("childes", "notes"))
    sizes = {(row[0], row[1]): row[2:] for row in table(card, "Sizes")}
    cleaning = {(row[0], row[1]): row[2:] for row in table(card, "Cleaning")}
    sources = {(row[0], row[1]): row[2:] for row in table(card, "Sources")}
    for split, record_of_split in record["splits"].items():
        for name, there in [*record_of_split["domains"].items(), ("**all**", record_of_split)]:
            row, keys = sizes.pop((split, name)), ("documents", "words", "tokens", "bytes")
            assert [number(cell) for cell in row[:4]] == [there[key] for key in keys]
            assert row[4:] == [f"{there['tokens'] / there['words']:.3f}", f"{there['bytes'] / there['tokens']:.3f}"]
        for name, domain in record_of_split["domains"].items():
            row, effects = cleaning.pop((split, name)), domain["effects"]
            keys = ("lines", "dropped", "changed", "bytes_in", "bytes_out")
            assert row[0] == domain["cleaner"]
            assert [number(cell) for cell in row[1:-1]] == [effects[key] for key in keys]
            most = {"train": "bracketed comments", "dev": "speaker marks"}[split]
            assert row[-1] == f"{100 * effects['share']:.1f} %" + (f", mostly {most}" if name == "childes" else "")
            (file,) = domain["files"]
            expected = [f"`{file['name']}`", f"{file['bytes']:,}", f"`{file['sha256']}`"]
            assert sources.pop((split, name)) == expected
    assert not sizes and not cleaning and not sources
    assert f"{record['vocab_size']} entries" in card and record["tokenizer_sha256"] in card
    assert f"{record['splits']['train']['words']} words of training text" in card
    assert "data.name=small" in card


def test_licences_are_those_of_known_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, _ = make(tmp_path, monkeypatch, ("childes", "notes"))
    assert table(card, "Licences") == [["childes", LICENCES["childes"]], ["notes", NOT_KNOWN]]
    assert set(LICENCES) == set(DOMAINS)


@pytest.mark.parametrize(("domains", "known"), [(("childes",), True), (("childes", "notes"), False)])
def test_front_matter_claims_english_for_known_domains_alone(
    domains: tuple[str, ...], known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, _ = make(tmp_path, monkeypatch, domains)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "other" and front["size_categories"] == ["n<1K"]
    assert front.get("language") == (["en"] if known else None) and ("babylm" in front["tags"]) == known


def test_it_quotes_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, _ = make(tmp_path, monkeypatch, ("childes", "notes"))
    assert not re.search("where is|ball|Some words|The end", card)


def test_what_was_held_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    (tmp_path / "mine.txt").write_text("".join(f"Text {number}.\n\n" for number in range(100)))
    card = (prepare(tmp_path / "mine.txt", None, None, "mine", 300, dev_fraction=0.25) / "README.md").read_text()
    assert "smallest 25 %" in card
    for heading in ("Sources", "Cleaning"):
        assert [row[:2] for row in table(card, heading)] == [["train", "mine"]]
    assert {row[0] for row in table(card, "Sizes")} == {"train", "dev"}
