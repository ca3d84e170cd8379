"""The challenge's years side by side: which items are asked, what is compared, and what a file holds of equals."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_items import write_lines
from shared_fixtures import Call

from palenka.cli import main
from palenka.data import published
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.items import Task
from palenka.evaluation.official.pipelines import PIPELINES
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.tasks.choices import Choices
from palenka.util.errors import UserError

EWOK = {"Context1": "Ali is a boy.", "Target1": "He is male.", "Context2": "Ali is a girl.", "Target2": "He is female."}
BOXES = {"input_prefix": "Box 0 contains", "options": [" the cup.", " the hat."], "numops": 1}
PIQA = {
    "prompt": "To open a jar,", "solution0": "push it.", "solution1": "sing.", "solution2": "turn its lid around.",
    "label": 2, "example_id": "en_7",
}  # fmt: skip


def read(folder: Path, records: list[dict[str, Any]], protocol: str) -> Task:
    write_lines(folder / "items.jsonl", records)
    return Choices.read(folder, protocol)


def test_ewok_compares_targets_and_from_2026_contexts(tmp_path: Path) -> None:
    twin = {"Context1": EWOK["Context2"], "Context2": EWOK["Context1"], "Target1": EWOK["Target2"],
            "Target2": EWOK["Target1"]}  # fmt: skip
    for year in ("2024", "2025"):
        [item, _] = read(tmp_path, [EWOK, twin], year).items
        assert item.choices == (("Ali is a boy.", " He is male."), ("Ali is a boy.", " He is female."))
    item, other = read(tmp_path, [EWOK, twin], "2026").items
    assert item.choices == (("Ali is a boy.", " He is male."), ("Ali is a girl.", " He is male."))
    assert other.choices == (("Ali is a girl.", " He is female."), ("Ali is a boy.", " He is female."))
    assert item.cluster == other.cluster is not None
    with pytest.raises(UserError, match="line 1: 'Context2' is missing; expected a text"):
        read(tmp_path, [{key: text for key, text in EWOK.items() if key != "Context2"}], "2026")


def test_boxes_of_nothing_are_not_asked_in_2026(tmp_path: Path) -> None:
    records = [BOXES, {**BOXES, "options": [" the cup.", " nothing."]}, {**BOXES, "numops": 2}]
    folder = tmp_path / "entity_tracking"
    assert len(read(folder, records, "2025").items) == 3
    task = read(folder, records, "2026")
    assert (task.name, [item.line for item in task.items]) == ("entity_tracking_filtered", [1, 3])
    assert set(task.labels) == {"items_1_ops", "items_2_ops"}
    assert read(tmp_path / "entity_tracking_fast", records, "2026").name == "entity_tracking_fast"
    with pytest.raises(UserError, match="the 2026 protocol leaves out all of its items"):
        read(folder, records[1:2], "2026")


def test_global_piqa_puts_the_right_solution_first_and_asks_per_token(tmp_path: Path) -> None:
    task = read(tmp_path, [PIQA, {**PIQA, "label": 0, "solution2": None}], "2026")
    assert [[choice.text for choice in item.choices] for item in task.items] == [
        [" turn its lid around.", " push it.", " sing."], [" push it.", " sing."],
    ]  # fmt: skip
    assert [(item.name, item.choices[0].context) for item in task.items] == [("en_7", "To open a jar,")] * 2
    assert task.is_per_token
    with pytest.raises(UserError, match="'label' is 3; expected the number of the right one of 3 solutions"):
        read(tmp_path, [{**PIQA, "label": 3}], "2026")
    with pytest.raises(UserError, match="line 2: has a different shape"):
        read(tmp_path, [PIQA, BOXES], "2026")


def test_means_per_token_decide_global_piqa(teacher: Path, tmp_path: Path) -> None:
    """And the accuracy per token, which is another of other tasks, is the accuracy."""
    records = [{**PIQA, "example_id": str(label), "label": label} for label in range(3)]
    write_lines(tmp_path / "global_piqa_parallel" / "eng_latn.jsonl", records)
    evaluate([str(teacher)], tmp_path, ["global_piqa_parallel"], "2026")
    path = teacher / "evaluation" / "2026" / "global_piqa_parallel.json"
    kept = [json.loads(line) for line in path.with_suffix(".items.jsonl").read_text().splitlines()]
    by_text = [dict(zip((label, *({0, 1, 2} - {label})), of["scores"], strict=True)) for label, of in enumerate(kept)]
    assert by_text[0] == by_text[1] == by_text[2]
    found = json.loads(path.read_text())
    assert found["accuracy"] == found["accuracy_per_token"] == pytest.approx(1 / 3)
    write_lines(tmp_path / "plain" / "a.jsonl", [
        {"input_prefix": PIQA["prompt"], "options": [f" {PIQA[f'solution{n}']}" for n in range(3)], "numops": 0},
    ])  # fmt: skip
    evaluate([str(teacher)], tmp_path, ["plain"], "2026")
    [sums] = map(json.loads, (path.parent / "plain.items.jsonl").read_text().splitlines())
    assert [by_text[0][number] for number in range(3)] == pytest.approx(np.divide(sums["scores"], sums["tokens"]))


@pytest.mark.parametrize("year", ["2024", "2025"])
def test_the_first_of_equals_is_in_files_until_2025(year: str) -> None:
    assert PROTOCOLS[year].chosen([-3.0, -2.0, -2.0], 1, "blimp", "a", 4) == 1


def test_a_file_of_2026_breaks_ties_by_its_seed_alone() -> None:
    chosen = PROTOCOLS["2026"].chosen
    assert chosen([-3.0, -2.0, -4.0], 1, "blimp", "a", 4) == 1
    taken = [chosen([-2.0, -2.0, -3.0, -2.0], 1, "blimp", "a", line) for line in range(3000)]
    counts = Counter(taken)
    assert set(counts) == {0, 1, 3}
    assert all(abs(count - 1000) < 5 * math.sqrt(3000 * 1 / 3 * 2 / 3) for count in counts.values())
    assert taken == [chosen([-5.0, -5.0, -6.0, -5.0], 1, "blimp", "a", line) for line in range(3000)]
    assert taken != [chosen([-2.0, -2.0, -3.0, -2.0], 2, "blimp", "a", line) for line in range(3000)]


@pytest.mark.parametrize("year", PROTOCOLS)
def test_what_is_not_a_number_is_the_least_in_files(year: str) -> None:
    assert PROTOCOLS[year].chosen([math.nan, -700.0, math.nan], 1, "blimp", "a", 4) == 1


def test_published_numbers_of_items() -> None:
    """Totals as the challenge states them; of entity tracking in 2026 what its collate script counts by operations."""
    for protocol in PROTOCOLS.values():
        for name, task in (protocol.tasks | protocol.fast).items():
            if name != "reading" and not (protocol.year == "2026" and "entity" in name):
                assert sum(published.FILES[protocol.folder(name)].values()) == task.items
    regular = 517 + 409 + 405 + 425 + 388 + 94
    assert PROTOCOLS["2026"].fast["entity_tracking_fast"].items == regular == 2238
    assert PROTOCOLS["2026"].tasks["entity_tracking_filtered"].items == regular + 2315 + 2227
    assert all(set(PIPELINES[year].tasks) >= {*rules.tasks, *rules.fast} for year, rules in PROTOCOLS.items())


def test_how_to_get_what_is_gated_is_said(teacher: Path, tmp_path: Path, call: Call) -> None:
    write_lines(tmp_path / "blimp_filtered" / "a.jsonl", [{"sentence_good": "Dogs run.", "sentence_bad": "Dogs runs."}])
    code, output, _ = call(main, ["evaluate", str(teacher), "--data", str(tmp_path)])
    assert code == 0 and output.count("palenka download ewok fetches it with your own access") == 1
    code, _, errors = call(main, ["evaluate", str(teacher), "--data", str(tmp_path), "--tasks", "ewok_fast"])
    assert code == 2 and "no task 'ewok_fast'" in errors and "an archive with a password" in errors


def test_other_numbers_of_items_are_told_once(teacher: Path, tmp_path: Path, call: Call) -> None:
    pair = {"sentence_good": "Dogs run.", "sentence_bad": "Dogs runs."}
    for name, count in {"hypernym": 842, "qa_congruence_easy": 63, "turn_taking": 280}.items():
        write_lines(tmp_path / "supplement_filtered" / f"{name}.jsonl", [pair] * count)
    code, output, _ = call(
        main,
        ["evaluate", str(teacher), "--data", str(tmp_path), "--tasks", "supplement_filtered", "--protocol", "2026"],
    )
    assert code == 0
    assert output.count("not the published items") == 1
    assert (
        "(qa_congruence_easy.jsonl has 63 lines, not 64; qa_congruence_tricky.jsonl is not there; "
        "subject_aux_inversion.jsonl is not there)"
    ) in output
    for name, count in published.SUPPLEMENT.items():
        write_lines(tmp_path / "supplement_filtered" / f"{name}.jsonl", [pair] * count)
    assert not published.differences(tmp_path / "supplement_filtered")
    assert not published.differences(tmp_path / "a_folder_of_ones_own")
