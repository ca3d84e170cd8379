"""Preparation: what the prepared folder holds, when it is built, and what stands in the way of it."""

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from palenka.data import holdout, readers
from palenka.data import prepare as preparation
from palenka.data.holdout import PIECE_LINES, HoldOut, Place
from palenka.data.prepare import prepare
from palenka.data.rows import TEXT_COLUMN
from palenka.data.tokenizer import load_tokenizer, tokenizer_sha256
from palenka.data.tokens import TokenSplit
from palenka.util.errors import UserError

VOCABULARY = 300
RAW = {
    "train": {
        "childes.train": "= = = a/b.cha = = =\n*MOT:\twhere is the ball?\n*CHI:\t[laughs].\n*CHI:\tthere it is.\n\n"
        "= = = a/c.cha = = =\n*CHI:\tmore   ball , please .\n",
        "simple_wiki.train.txt": "= = = Ball = = =\nA ball is round&nbsp;(). Café ½ ´x´ ¨ <s>no</s>.\n\n"
        "= = = Cat = = =\nCats sit.\n",
    },
    "dev": {"childes.dev": "*MOT:\tthe ball?\n\n*CHI:\tyes.\n", "bnc_spoken.dev": "Yes .\n\nNo .\n"},
}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders `train` and `dev` with raw text; PALENKA_DATA is an empty folder beside them."""
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    for split, files in RAW.items():
        (tmp_path / "raw" / split).mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / "raw" / split / name).write_text(text, encoding="utf-8")
    return tmp_path / "raw"


def run(raw: Path, name: str = "small", vocab_size: int = VOCABULARY) -> Path:
    return prepare(raw / "train", raw / "dev", None, name, vocab_size)


def nothing_was_built(raw: Path) -> bool:
    return not any((raw.parent / "data").rglob("*.json")) and not any((raw.parent / "data").rglob("*.partial"))


def test_text_is_clean_with_one_blank_line_between_documents(raw: Path) -> None:
    text = run(raw) / "text"
    assert (text / "train" / "childes.txt").read_text(encoding="utf-8") == (
        "MOT: where is the ball?\nCHI: there it is.\n\nCHI: more ball, please.\n"
    )
    assert (text / "train" / "simple_wiki.txt").read_text(encoding="utf-8").startswith("Ball\nA ball is round. Café ½")
    assert (text / "dev" / "bnc_spoken.txt").read_text(encoding="utf-8") == "Yes.\n\nNo.\n"


@pytest.mark.parametrize("split", ["train", "dev"])
def test_tokens_are_those_of_the_text(raw: Path, split: str) -> None:
    folder = run(raw)
    tokenizer = load_tokenizer(folder / "tokenizer")
    prepared = TokenSplit.open(folder / split)
    tokens, documents, lines = [], [], []
    for domain in prepared.domains:
        assert domain.start == len(tokens)
        text = (folder / "text" / split / f"{domain.name}.txt").read_text(encoding="utf-8").rstrip("\n")
        for document in text.split("\n\n"):
            documents.append(len(tokens))
            parts = [tokenizer(line, split_special_tokens=True)["input_ids"] for line in document.split("\n")]
            lines += [len(tokens) + sum(map(len, parts[:number])) + number for number in range(len(parts))]
            tokens += [*tokenizer(document, split_special_tokens=True)["input_ids"], tokenizer.eos_token_id]
        assert domain.end == len(tokens)
        assert domain.documents == len(text.split("\n\n"))
        assert domain.bytes == len(text.encode()) - 2 * (domain.documents - 1)
        assert domain.words == len(text.split())
    assert prepared.tokens.tolist() == tokens
    assert prepared.documents.tolist() == documents and prepared.lines.tolist() == lines
    assert len(prepared.words) == len(tokens) + 1 and (np.diff(prepared.words.astype(int)) <= 1).all()
    assert prepared.words[-1] == sum(domain.words for domain in prepared.domains)


def test_the_record_agrees_with_what_is_there(raw: Path) -> None:
    folder = run(raw)
    record = json.loads((folder / "prepared.json").read_text())
    assert folder == raw.parent / "data" / "small" and record["name"] == "small"
    assert record["vocab_size"] == len(load_tokenizer(folder / "tokenizer"))
    assert record["tokenizer_sha256"] == tokenizer_sha256(folder / "tokenizer")
    for split, sizes in record["splits"].items():
        index = json.loads((folder / split / "index.json").read_text())
        assert {key: sizes[key] for key in ("tokens", "words", "bytes")} == {
            key: index[key] for key in ("tokens", "words", "bytes")
        }
        assert sorted(sizes["domains"]) == [domain["name"] for domain in index["domains"]]
    childes = record["splits"]["train"]["domains"]["childes"]
    assert childes["documents"] == 2 and [file["name"] for file in childes["files"]] == ["childes.train"]
    assert childes["effects"]["lines"] == 7 and childes["effects"]["dropped"] == 1


def test_a_text_on_one_line_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing line in the middle of a book without line breaks once took all that followed."""
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    book = "The goat met a wolf. " * 200 + "End of the Project Gutenberg EBook of Goats " + "A tale of a hen. " * 1000
    (tmp_path / "gutenberg.train").write_text(book + "\n")
    (tmp_path / "gutenberg.dev").write_text("The goat met a wolf.\n")
    folder = prepare(tmp_path / "gutenberg.train", tmp_path / "gutenberg.dev", None, "small", VOCABULARY)
    assert (folder / "text" / "train" / "gutenberg.txt").read_text() == book.strip() + "\n"


def test_what_cleaning_removed_is_told_from_a_twentieth_on(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "train" / "childes.train").write_text("*MOT:\twhere is it? [points to the ball]\n" * 10)
    line = "A:\tI see it over there, by the door, which was open all day long, I think. *y\n"
    (raw / "train" / "switchboard.train").write_text(line * 20)
    folder = run(raw)
    effects = json.loads((folder / "prepared.json").read_text())["splits"]["train"]["domains"]["childes"]["effects"]
    told = capsys.readouterr()
    assert f" entries; in {folder}, README.md is its card\n" in told.out and (folder / "README.md").exists()
    share = (170 + 10) / 400
    assert effects["share"] == round(share, 4) and effects["removed"]["bracketed_comments"] == 170
    assert f"train/childes (childes.train): cleaning removed {100 * share:.1f} % of the text" in told.err
    assert "42.5 % bracketed comments, such as: [points to the ball]" in told.err
    assert re.search(rf"train childes .* {100 * share:.1f} %", told.out)
    assert "train/switchboard (" not in told.err


def test_the_same_content_is_prepared_once(
    raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(raw)
    monkeypatch.setattr(preparation, "_build", lambda *_: pytest.fail("built twice"))
    (raw / "train").rename(raw / "moved")  # where the files lie does not matter
    assert prepare(raw / "moved", raw / "dev", None, "small", VOCABULARY) == folder
    assert "already prepared" in capsys.readouterr().err


def test_the_same_content_gives_the_same_bytes(raw: Path) -> None:
    one, two = run(raw, "one"), run(raw, "nested/two")
    for file in ("tokenizer/tokenizer.json", "train/tokens.bin", "train/words.bin", "dev/tokens.bin"):
        assert (one / file).read_bytes() == (two / file).read_bytes()
    keys = [json.loads((folder / "prepared.json").read_text())["key"] for folder in (one, two)]
    assert keys[0] == keys[1] and len(keys[0]) == 64


def test_other_content_under_the_name_is_refused_and_named(raw: Path) -> None:
    folder = run(raw)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="vocab_size: 300 there, 310 now"):
        run(raw, vocab_size=310)
    (raw / "train" / "childes.train").write_text("*MOT:\tother words.\n")
    with pytest.raises(UserError, match="train/childes: other text"):
        run(raw)
    (raw / "train" / "childes.train").unlink()
    (raw / "train" / "switchboard.train").write_text("A:\thi.\n")
    with pytest.raises(UserError, match="(?s)train/childes: only in that folder.*train/switchboard: only in the new"):
        run(raw)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_changed_version_of_the_code_is_other_content(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(raw)
    monkeypatch.setattr(preparation.cleaning, "VERSION", preparation.cleaning.VERSION + 1)
    with pytest.raises(UserError, match="cleaning version"):
        run(raw)


def test_a_folder_that_is_no_prepared_data_is_left_alone(raw: Path) -> None:
    mine = raw.parent / "data" / "small" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match="something else than prepared data"):
        run(raw)
    assert mine.read_text() == "mine"


def test_a_build_that_dies_leaves_nothing_that_is_taken_for_whole(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(preparation.tokenizer, "save_tokenizer", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        run(raw)
    left = raw.parent / "data" / ".small.partial"
    assert left.exists() and not (raw.parent / "data" / "small").exists()
    (left / "text" / "train" / "gutenberg.txt").write_text("from the dead\n")
    folder = run(raw)
    assert not left.exists() and not (folder / "text" / "train" / "gutenberg.txt").exists()


def test_processes_that_start_together_build_once(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of one process' threads exclude each other as those of processes do."""
    waiting, builds, said = threading.Event(), [], []
    build = preparation._build

    def build_when_another_waits(*arguments: object) -> dict[str, object]:
        builds.append(1)
        assert waiting.wait(30)
        return build(*arguments)  # type: ignore[arg-type]

    def say(message: str) -> None:
        said.append(message)
        if "waiting" in message:
            waiting.set()

    monkeypatch.setattr(preparation, "_build", build_when_another_waits)
    monkeypatch.setattr(preparation, "_say", say)
    threads = [threading.Thread(target=run, args=(raw,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert builds == [1]
    assert sum("already prepared" in message for message in said) == 2
    assert (raw.parent / "data" / "small" / "prepared.json").exists()


@pytest.mark.parametrize(
    ("split", "name", "content", "message"),
    [
        ("train", "notes.txt", b"text\n", "notes.txt: expected <domain>.train, as the other files"),
        ("train", "notes.csv", b"text\n", "notes.csv: expected <domain>.train"),
        ("dev", "gutenberg.dev", b" \n\n", "gutenberg.dev: the file holds no text"),
        ("dev", "gutenberg.dev", b"", "gutenberg.dev: the file holds no text"),
        ("train", "gutenberg.train", b"one\ntwo \xff\n", r"gutenberg.train, line 2 \(byte 8\): not UTF-8"),
        ("train", "gutenberg.train", b"one\ntwo\nbl\xc3", "gutenberg.train, line 3: not UTF-8 .*cut off"),
        ("train", "childes.train.txt", b"*MOT:\thi.\n", "childes.train holds the same domain"),
    ],
)
@pytest.mark.parametrize("chunk", [1 << 20, 3])
def test_wrong_files_are_named_before_any_work(
    raw: Path, split: str, name: str, content: bytes, message: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_READ_BYTES", chunk)
    (raw / split / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        run(raw)
    assert nothing_was_built(raw)


def test_characters_cut_by_the_reading_buffer_are_text(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (raw / "dev" / "gutenberg.dev").write_text("é東🙂" * 5, encoding="utf-8")
    monkeypatch.setattr(readers, "_READ_BYTES", 2)
    assert readers.find_texts(raw / "dev", "dev", TEXT_COLUMN)["gutenberg"].bytes == 45


def test_text_of_annotations_alone_is_an_error(raw: Path) -> None:
    (raw / "dev" / "childes.dev").write_text("*MOT:\t[laughs].\n")
    with pytest.raises(UserError, match="childes.dev: nothing is left"):
        run(raw)
    assert not (raw.parent / "data" / "small").exists()


def test_missing_and_empty_folders_are_named(raw: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder or file .--dev"):
        prepare(raw / "train", raw / "nowhere", None, "small", VOCABULARY)
    (raw / "empty").mkdir()
    (raw / "empty" / "README.md").write_text("nothing here")
    with pytest.raises(UserError, match="empty: no files named <domain>.test"):
        prepare(raw / "train", raw / "dev", raw / "empty", "small", VOCABULARY)
    assert nothing_was_built(raw)


def test_one_folder_may_hold_all_splits(raw: Path) -> None:
    for file in (raw / "dev").iterdir():
        file.rename(raw / "train" / file.name)
    (raw / "train" / "childes.test.txt").write_text("*MOT:\tbye.\n")
    folder = prepare(raw / "train", raw / "train", raw / "train", "small", VOCABULARY)
    record = json.loads((folder / "prepared.json").read_text())
    assert {split: sorted(sizes["domains"]) for split, sizes in record["splits"].items()} == {
        "train": ["childes", "simple_wiki"],
        "dev": ["bnc_spoken", "childes"],
        "test": ["childes"],
    }


@pytest.mark.parametrize("name", ["", "../up", "/abs", ".hidden", "a/../b", "a b"])
def test_names_that_lead_elsewhere_are_refused(raw: Path, name: str) -> None:
    with pytest.raises(UserError, match="--name"):
        run(raw, name)


@pytest.mark.parametrize("vocab_size", [10, 70000])
def test_impossible_vocabularies_are_refused(raw: Path, vocab_size: int) -> None:
    with pytest.raises(UserError, match=f"--vocab-size {vocab_size}"):
        run(raw, vocab_size=vocab_size)


def test_a_table_and_what_is_new_in_dev_are_told(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(raw)
    out = capsys.readouterr().out
    assert "tokens/word" in out and "train total" in out and "dev bnc_spoken" in out
    assert "Not in the training text: bnc_spoken" in out


OLD = {
    "aochildes": "where 's the ball ?\nyou do n't know .\n",
    "bnc_spoken": "Yes .\n\nNo .\n",
    "cbt": "_BOOK_TITLE_ : A_B___Tales.txt.out\n`` Stay , '' said the fox .\n",
    "children_stories": "The Fox\n\nOnce there was a fox.\nIt slept.\n",
    "gutenberg": "A tale.\n\nIt ends.\n",
    "open_subtitles": "- Who is there?\nMe.\n",
    "qed": "So let's see. \n(Laughter) \n",
    "simple_wikipedia": "Ball\nA ball is round.\n\nCat\nCats sit.\n",
    "switchboard": "Uh-huh.\nRight, .\n",
    "wikipedia": "= = = Ball = = =\nA [[ball]] is round.\n= = = Cat = = =\nCats sit.\n",
}
NEW = {
    "bnc_spoken": "Yes .\n\nNo .\n",
    "childes": "= = = a/b.cha = = =\n*MOT:\twhere is the ball?\n",
    "gutenberg": "= = = PG1 = = =\nA tale.\nIt ends.\n",
    "open_subtitles": "- Who is there?\nMe.\n",
    "simple_wiki": "= = = Ball = = =\nA ball is round.\n\n= = = Cat = = =\nCats sit.\n",
    "switchboard": "A:\tUh-huh.\nB:\tRight, .\n",
}
LAYOUTS = {
    "2023": ("babylm_10M", "babylm_dev", "", OLD),
    "2024": ("train_10M", "dev", "", NEW),
    "2026": ("strict_small", "strict_small", ".txt", NEW),
}


@pytest.mark.parametrize("year", LAYOUTS)
def test_the_layouts_of_the_official_texts(year: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    train, dev, suffix, texts = LAYOUTS[year]
    for folder, split in ((train, "train"), (dev, "dev")):
        (tmp_path / folder).mkdir(exist_ok=True)
        for domain, text in texts.items():
            (tmp_path / folder / f"{domain}.{split}{suffix}").write_text(text + f"In {split} .\n")
    folder = prepare(tmp_path / train, tmp_path / dev, None, year, VOCABULARY)
    record = json.loads((folder / "prepared.json").read_text())
    for split in ("train", "dev"):
        domains = record["splits"][split]["domains"]
        assert list(domains) == sorted(texts)
        assert {name: domain["cleaner"] for name, domain in domains.items()} == {name: name for name in texts}
        two = {"bnc_spoken", "simple_wiki", "simple_wikipedia", "wikipedia"}
        assert {name for name, domain in domains.items() if domain["documents"] == 2} == two & set(texts)
        clean = "\n".join(path.read_text() for path in sorted((folder / "text" / split).iterdir()))
        assert not re.search(r" [.?,]|= =|\t|_BOOK|``|\[\[|Laughter", clean)


def test_ones_own_domains_are_cleaned_by_the_plain_rules_and_that_is_said(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "dev"):
        (raw / split / f"notes.{split}").write_text(f"In  {split} &amp; all .\n\nMore .\n")
        (raw / split / f"childs.{split}").write_text(f"*MOT:\t{split} .\n")
    folder = run(raw)
    said = capsys.readouterr().err
    assert "childs: not a domain that Palenka knows; cleaned by the plain rules; did you mean 'childes'?" in said
    assert "warning: childs" in said and "warning: notes" not in said
    assert re.search("^notes: not a domain that Palenka knows; cleaned by the plain rules$", said, re.MULTILINE)
    assert (folder / "text" / "train" / "notes.txt").read_text() == "In train & all .\n\nMore .\n"
    domains = json.loads((folder / "prepared.json").read_text())["splits"]["train"]["domains"]
    assert {name: domain["cleaner"] for name, domain in domains.items()} == {
        "childes": "childes", "childs": "plain", "notes": "plain", "simple_wiki": "simple_wiki",
    }  # fmt: skip


def texts_of(folder: Path, split: str) -> set[str]:
    """The clean documents of a split."""
    return set("\n\n".join(path.read_text().rstrip("\n") for path in (folder / "text" / split).iterdir()).split("\n\n"))


@pytest.fixture
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    return [f"Document {number} says\nsomething about {number * number}." for number in range(300)]


def held_out(
    tmp_path: Path, documents: list[str], name: str, fraction: float = 0.2, place: Place = "documents"
) -> Path:
    file = tmp_path / f"{name}.txt"
    file.write_text("\n\n".join(documents) + "\n")
    return prepare(file, None, None, name, VOCABULARY, dev_fraction=fraction, dev_from=place)


def test_dev_is_held_out_by_documents_whatever_their_order(tmp_path: Path, documents: list[str]) -> None:
    one = held_out(tmp_path, documents, "one")
    dev, train = texts_of(one, "dev"), texts_of(one, "train")
    assert not dev & train and dev | train == set(documents)
    assert 30 < len(dev) < 90
    assert texts_of(held_out(tmp_path, documents[::-1], "two"), "dev") == dev
    assert texts_of(held_out(tmp_path, documents[:100] * 2, "three"), "dev") == dev & set(documents[:100])
    assert dev < texts_of(held_out(tmp_path, documents, "four", 0.5), "dev")
    record = json.loads((one / "prepared.json").read_text())
    assert record["dev_fraction"] == record["identity"]["dev_fraction"] == 0.2
    assert record["splits"]["dev"]["documents"] == len(dev) and record["splits"]["train"]["documents"] == len(train)
    assert "effects" not in record["splits"]["dev"]["domains"]["one"]
    assert record["splits"]["train"]["domains"]["one"]["effects"]["documents"] == 300


@pytest.mark.slow
def test_long_documents_are_held_out_by_pieces_that_lose_nothing(tmp_path: Path, documents: list[str]) -> None:
    lines = [f"Line {number} of a film." for number in range(40 * PIECE_LINES + 7)]
    folder = held_out(tmp_path, ["\n".join(lines)], "film")
    parts = {split: (folder / "text" / split / "film.txt").read_text().splitlines() for split in ("train", "dev")}
    assert sorted(filter(None, parts["train"] + parts["dev"])) == sorted(lines)
    number = {line: place for place, line in enumerate(lines)}
    for part in parts.values():
        for before, line in zip(part, part[1:], strict=False):
            if before and line:  # what stands together stood together
                assert number[line] == number[before] + 1
            elif before:
                assert (number[before] + 1) % PIECE_LINES == 0
    assert [] != parts["dev"] != parts["train"]


@pytest.mark.parametrize(
    ("fraction", "kept", "out"),
    [
        (0.25, "a\nb\n\nc\nd\n\ne\nf\n", "g\n\nh\n"),  # 2 of 8 lines; within a document
        (0.5, "a\nb\n\nc\nd\n", "e\nf\ng\n\nh\n"),  # the boundary at the cut is on neither side
        (0.1, "a\nb\n\nc\nd\n\ne\nf\ng\n", "h\n"),  # 0.8 lines are one
        (0.06, "a\nb\n\nc\nd\n\ne\nf\ng\n\nh\n", None),  # 0.48 lines are none
        (0.95, None, "a\nb\n\nc\nd\n\ne\nf\ng\n\nh\n"),
    ],
)
def test_the_last_lines_of_a_text(tmp_path: Path, fraction: float, kept: str | None, out: str | None) -> None:
    """Blank lines part documents, and are not counted."""
    files = tmp_path / "kept", tmp_path / "out"
    holdout.part(["a", "b", "", "c", "d", "", "e", "f", "g", "", "h"], *files, HoldOut(fraction, "end"))
    assert [file.read_text() if file.exists() else None for file in files] == [kept, out]


def test_the_last_lines_of_each_file_are_held_out_of_it_and_of_the_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    (tmp_path / "raw").mkdir()
    lines = {name: [f"{name} {number}." for number in range(count)] for name, count in (("ants", 40), ("bees", 100))}
    lines["bees"][95:] = ["Zyzzyva zyzzyva zyzzyva."] * 5
    for name, text in lines.items():
        (tmp_path / "raw" / f"{name}.train").write_text("\n".join(text) + "\n")
    folder = prepare(tmp_path / "raw", None, None, "mine", VOCABULARY, dev_fraction=0.05, dev_from="end")
    for name, text in lines.items():
        written = [(folder / "text" / split / f"{name}.txt").read_text().splitlines() for split in ("train", "dev")]
        count = {"ants": 2, "bees": 5}[name]
        assert written == [text[:-count], text[-count:]]
    entries = load_tokenizer(folder / "tokenizer").get_vocab()
    assert "ants" in " ".join(entries) and not [entry for entry in entries if "yz" in entry]
    record = json.loads((folder / "prepared.json").read_text())
    assert (record["dev_fraction"], record["dev_from"]) == (0.05, "end")
    assert record["splits"]["dev"]["words"] == 4 + 15
    assert "the last 5 % of the lines of each domain." in (folder / "README.md").read_text()


def test_a_dev_text_from_the_end_is_other_content(tmp_path: Path, documents: list[str]) -> None:
    held_out(tmp_path, documents, "one")
    with pytest.raises(UserError, match="dev_from: only in the new content"):
        held_out(tmp_path, documents, "one", place="end")
    with pytest.raises(UserError, match="no line of two.txt is held out; give --dev instead"):
        held_out(tmp_path, documents, "two", 1e-9, "end")
    with pytest.raises(UserError, match="no document of two.txt is held out; --dev-from end holds out the last lines"):
        held_out(tmp_path, documents, "two", 1e-9)
    with pytest.raises(UserError, match="--dev-from end: .* there is none"):
        prepare(tmp_path / "one.txt", tmp_path / "two.txt", None, "three", VOCABULARY, dev_from="end")


def test_another_fraction_is_other_content(tmp_path: Path, documents: list[str]) -> None:
    held_out(tmp_path, documents, "one")
    with pytest.raises(UserError, match="dev_fraction: 0.2 there, 0.3 now"):
        held_out(tmp_path, documents, "one", 0.3)


@pytest.mark.parametrize(
    ("number", "fraction", "message"),
    [(1, 1e-9, "no document of one.txt is held"), (1, 1 - 1e-9, "every document of one.txt"), (1, 1.5, "between 0")],
)
def test_fractions_that_leave_nothing(
    tmp_path: Path, documents: list[str], number: int, fraction: float, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        held_out(tmp_path, documents[:number], "one", fraction)
    assert not (tmp_path / "data" / "one").exists()


def test_either_dev_or_a_fraction_is_needed(raw: Path) -> None:
    for dev, fraction in ((None, None), (raw / "dev", 0.1)):
        with pytest.raises(UserError, match="either --dev, .* or --dev-fraction"):
            prepare(raw / "train", dev, None, "small", VOCABULARY, dev_fraction=fraction)


def test_the_same_text_in_two_splits_is_refused(tmp_path: Path, documents: list[str]) -> None:
    (tmp_path / "mine.txt").write_text("Mine.\n")
    with pytest.raises(UserError, match="mine.txt .--dev, mine.: the same text is in --train"):
        prepare(tmp_path / "mine.txt", tmp_path / "mine.txt", None, "small", VOCABULARY)


def test_rows_that_are_lines_are_warned_of(
    tmp_path: Path, documents: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    held_out(tmp_path, [f"Line {number}." for number in range(1500)], "lines")
    assert re.search(r"warning: train/lines: documents of \d+ bytes on average", capsys.readouterr().err)
    held_out(tmp_path, documents, "documents")
    assert "on average" not in capsys.readouterr().err
