"""Words counted by hand: of a model's text, of its teachers' and of theirs, and what BabyLM's tracks say of them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from shared_fixtures import WriteConfig

from palenka.cost.dry_run import describe
from palenka.data.prepare import prepare
from palenka.models.standalone import export_folder
from palenka.runs.ledger import LEDGER, Account, Ledger, account_of, ledger_of, read_ledger
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.files import read_json, write_json

CATS = "the cat sees a dog\nevery dog likes the river bank\n"  # 5 + 6 words
BOATS = "a boat\none boat finds this garden\n"  # 2 + 5 words
DEV = "the teacher reads one letter\n"

Prepare = Callable[..., Path]


@pytest.fixture
def prepared_texts(tmp_path: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """prepared_texts("name", domain=text, …) prepares texts, each the training text of a domain."""
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))

    def make(name: str, vocabulary: int = 300, **texts: str) -> Path:
        raw = tmp_path / "raw" / name
        raw.mkdir(parents=True)
        for domain, text in texts.items():
            (raw / f"{domain}.train").write_text(text)
        (raw / "held.dev").write_text(DEV)
        return prepare(raw, raw, None, name, vocabulary)

    return make


def config(data: str, *teachers: str, **more: Any) -> dict[str, Any]:
    return {"name": "run", "data": {"name": data} | more, "teachers": [{"run": run} for run in teachers]}


def former_run(runs: Path, name: str, key: str, values: dict[str, Any]) -> Path:
    """What a run looks like that was trained before there were ledgers."""
    folder = runs / name
    folder.mkdir()
    write_json(folder / "identity.json", {"data": key})
    write_json(folder / "result.json", {"words": 70, "epochs": 10.0})
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_all_of_the_training_text_counts_and_nothing_else(prepared_texts: Prepare) -> None:
    prepared_texts("both", cats=CATS, boats=BOATS)
    for part in ({}, {"fraction": 0.1}):  # the tokenizer saw all of it
        found = ledger_of(config("both", **part))
        assert (found.own_words, found.unique_words, found.unknown) == (18, 18, {})
        assert {text["name"]: text["words"] for text in found.texts.values()} == {"both/cats": 11, "both/boats": 7}


def test_one_text_counts_once_wherever_it_was_prepared(prepared_texts: Prepare, runs_folder: Path) -> None:
    prepared_texts("both", cats=CATS, boats=BOATS)
    other = prepared_texts("again", 310, animals=CATS, more="one more river\n")
    former_run(runs_folder, "teacher", read_json(other / "prepared.json")["key"], config("again"))
    found = ledger_of(config("both", "teacher"))
    assert (found.own_words, found.unique_words) == (18, 21)
    assert "and 3 besides of teachers" in Account(found, 0, 1.0).lines[0]


def test_of_a_text_with_held_out_parts_the_largest_rest_counts(
    prepared_texts: Prepare, runs_folder: Path, tmp_path: Path
) -> None:
    whole = "".join(f"line {number} of ten\n" for number in range(10))
    prepared_texts("whole", lines=whole)
    (tmp_path / "lines.txt").write_text(whole)
    for name, fraction in (("most", 0.1), ("half", 0.5)):
        part = prepare(tmp_path / "lines.txt", None, None, name, 300, dev_fraction=fraction, dev_from="end")
        former_run(runs_folder, name, read_json(part / "prepared.json")["key"], config(name))
    assert [ledger_of(config(name)).unique_words for name in ("whole", "most", "half")] == [40, 36, 20]
    assert ledger_of(config("half", "most")).unique_words == 36
    assert ledger_of(config("most", "half")).unique_words == 36
    assert ledger_of(config("whole", "most", "half")).unique_words == 40


def test_the_teachers_of_teachers_count(prepared_texts: Prepare, runs_folder: Path) -> None:
    prepared_texts("cats", cats=CATS)
    prepared_texts("boats", boats=BOATS)
    grandparent = prepared_texts("more", third="one more river\n")
    former_run(runs_folder, "grandparent", read_json(grandparent / "prepared.json")["key"], config("more"))
    (runs_folder / "parent").mkdir()
    write_json(runs_folder / "parent" / LEDGER, asdict(ledger_of(config("boats", "grandparent"))))
    found = ledger_of(config("cats", "parent", "grandparent"))
    assert (found.own_words, found.unique_words, found.unknown) == (11, 11 + 7 + 3, {})


def test_what_is_not_known_is_said_and_not_eligible(prepared_texts: Prepare, runs_folder: Path) -> None:
    prepared_texts("cats", cats=CATS)
    (runs_folder / "foreign").mkdir()
    former_run(runs_folder, "changed", "0" * 64, config("cats"))
    former_run(runs_folder, "moved", "0" * 64, config("gone"))
    former_run(runs_folder, "pupil", "0" * 64, config("cats", "lost"))
    found = ledger_of(config("cats", "foreign", "changed", "moved", "pupil", "absent"))
    assert found.unique_words == 11
    assert {name: why.split()[-1] for name, why in found.unknown.items()} == {
        "foreign": "here", "the data cats": "now", "the data gone": "gone", "lost": "there", "absent": "there",
    }  # fmt: skip
    refusals = Account(found, 110, 10.0).refusals
    assert refusals["strict"] == refusals["strict-small"] and len(refusals["strict"]) == 5
    assert "the words of foreign are not known (it has no ledger.json" in refusals["strict"][0]
    assert "at least 11" in Account(found, 110, 10.0).lines[0]


TOO_LONG = "12 epochs, of at most 10 (2026)"


def of_words(own: int, teachers: int = 0) -> Ledger:
    return Ledger({"a": {"name": "own", "words": own}}, {"b": {"name": "other", "words": teachers}})


@pytest.mark.parametrize(
    ("ledger", "seen", "epochs", "small", "strict"),
    [
        (of_words(10_000_000), 100_000_000, 10.0, [], []),
        (of_words(10_000_001), 100_000_000, 9.9, ["10,000,001 words of text, of at most 10,000,000"], []),
        (of_words(9_000_000, 2_000_000), 9, 1.0, ["11,000,000 words of text, of at most 10,000,000"], []),
        (of_words(5_000_000), 60_000_000, 12.0, [TOO_LONG], [TOO_LONG]),
        (of_words(10**8), 10**9 + 1, 10.0,
         ["100,000,000 words of text, of at most 10,000,000",
          "1,000,000,001 words seen, of at most 100,000,000 (2025)"],
         ["1,000,000,001 words seen, of at most 1,000,000,000 (2025)"]),
    ],
)  # fmt: skip
def test_the_limits_of_the_tracks(
    ledger: Ledger, seen: int, epochs: float, small: list[str], strict: list[str]
) -> None:
    account = Account(ledger, seen, epochs)
    assert account.refusals == {"strict-small": small, "strict": strict}
    assert account.lines[1].endswith(small[-1] if small else "within its limits")
    assert account.record()["not_eligible"]["strict"] == strict


def test_a_former_run_is_accounted_for_by_what_it_recorded(prepared_texts: Prepare, runs_folder: Path) -> None:
    key = read_json(prepared_texts("boats", boats=BOATS) / "prepared.json")["key"]
    found = account_of(former_run(runs_folder, "former", key, config("boats")))
    assert (found.ledger.unique_words, found.words_seen, found.epochs) == (7, 70, 10.0)


def words_of(data: Path) -> int:
    return int(read_json(data / "prepared.json")["splits"]["train"]["words"])


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_training_keeps_its_ledger(
    prepared: Path, runs_folder: Path, write_config: WriteConfig, tmp_path: Path
) -> None:
    values = tiny.train_values()
    values["evaluation"] = {"tasks": ["pairs"], "words": [50], "protocol": "2024"}
    pairs = tmp_path / "items" / "pairs"
    pairs.mkdir(parents=True)
    (pairs / "order.jsonl").write_text(json.dumps({"sentence_good": "the cat sees", "sentence_bad": "cat the sees"}))
    values["paths"] = {"evaluation": str(tmp_path / "items")}
    run = tiny.train(load_plan(write_config(values), [], TrainConfig))
    result, words = read_json(run / "result.json"), words_of(prepared)
    assert result["ledger"] == {
        "own_words": words, "unique_words": words, "unknown": {}, "not_eligible": {"strict-small": [], "strict": []},
    }  # fmt: skip
    assert account_of(run).record() == result["ledger"]
    export_folder(run, tmp_path / "copy", with_code=False)
    for place in (run / "revisions" / "chck_50", tmp_path / "copy"):
        assert read_ledger(place) == read_ledger(run)
        assert ledger_of(config("tiny", str(place))).unique_words == words


@pytest.mark.slow
def test_a_dry_run_counts_teachers_that_are_yet_to_be_trained(
    prepared: Path, runs_folder: Path, write_config: WriteConfig
) -> None:
    values = tiny.distill_values(teachers=[{"run": "demo/teacher-gpt2"}])
    values["training"]["num_epochs"] = 3
    values["student"]["hidden_size"] = 32
    del values["training"]["max_steps"]
    text = describe(load_plan(write_config(values), [], DistillConfig, dry_run=True))
    line = next(line for line in text.splitlines() if "words of text" in line)
    words = words_of(prepared)
    assert line.startswith(f"  words of text: {words:,}; ") and "besides" not in line
    seen, epochs = (float(part.replace(",", "")) for part in line.split("; ")[1].split() if part[0].isdigit())
    assert epochs == pytest.approx(3, abs=0.05) and seen == pytest.approx(words * epochs, rel=1e-4)
    assert "  BabyLM strict-small: within its limits" in text
