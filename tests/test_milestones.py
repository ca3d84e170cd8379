"""Milestones: at which words they are left, on what they are scored, and that they change nothing else."""

import gc
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml
from commands import TORCHRUN, succeed
from killing import Killed, half_a_line, kill_at
from made_items import write_lines, write_pairs
from run_files import outcome, records
from shared_fixtures import Call, WriteConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

import palenka.runs.directory
import palenka.training.trainer
from palenka.cost.dry_run import describe
from palenka.evaluation.evaluate import evaluate
from palenka.evaluation.items import Choice, Item
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.statistics import task_accuracy
from palenka.evaluation.tasks.choices import Choices
from palenka.evaluation.texts import Text, encode
from palenka.runs.directory import Run
from palenka.runs.milestones import TRACKS, milestone_name, milestones_of, missing_of
from palenka.training.milestone_plan import MilestonePlan, Subset, evenly_spread
from palenka.training.milestones import EvaluationConfig
from palenka.training.plan import Plan, load_plan, make_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.training.student import Student
from palenka.training.trackers import scalars
from palenka.training.trainer import Trainer
from palenka.util.errors import UserError
from palenka.util.files import read_json
from palenka.util.paths import ROOT

WORDS = [100, 200, 300, 5_000_000]
SMALL: dict[str, Any] = {"tasks": ["pairs", "contexts"], "items": 4, "words": WORDS}


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(autouse=True)
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Evaluation data: a task of pairs in two files, with a tie, and one of EWoK's shape."""
    root = tmp_path / "items"
    nouns, verbs = tiny.NOUNS, tiny.VERBS
    agreement = [(f"The {noun} {verb}.", f"The {noun} {verb[:-1]}.") for noun, verb in zip(nouns, verbs, strict=False)]
    order = [("A boat.", "A boat."), ("One cat likes the river.", "Cat one likes the river."), ("The dog.", "Dog the.")]
    write_pairs(root / "pairs", {"agreement": agreement, "order": order})
    ewok = [{"Context1": f"Here is a {a}.", "Target1": f"It is a {a}.", "Target2": f"It is a {b}."}
            for a, b in pairwise(nouns)]  # fmt: skip
    write_lines(root / "contexts" / "things.jsonl", ewok)
    monkeypatch.setenv("PALENKA_EVAL", str(root))
    return root


def student(name: str = "student", evaluation: dict[str, Any] | None = SMALL, **training: Any) -> dict[str, Any]:
    """A student with dropout, whose steps draw random numbers that nothing may shift."""
    shape = {**tiny.GPT2, "hidden_size": 16, "resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.2}
    values = tiny.distill_values(name=name, student=shape, evaluation=evaluation)
    return values | {"training": values["training"] | {"checkpoint_steps": 1, **training}}


def test_milestones_of_a_masked_run_are_asked_as_its_evaluation_is(
    prepared: Path, runs_folder: Path, items: Path
) -> None:
    """Under the protocol that leaves a causal text's first token out, and no other's."""
    asked = SMALL | {"tasks": ["pairs"], "items": 200, "protocol": "2025", "words": [200]}
    values = tiny.train_values(name="masked", paradigm="masked", evaluation=asked)
    plan = make_plan(TrainConfig.model_validate(values), "test")
    longest = max(len(text.context) + len(text.continuation) for text in plan.milestones.subsets[0].texts)
    short = values | {"data": values["data"] | {"seq_length": 8}}
    short["model"] = values["model"] | {"max_position_embeddings": longest + 1}
    with pytest.raises(UserError, match=f"{longest + 2} tokens, but masked has {longest + 1} positions"):
        make_plan(TrainConfig.model_validate(short), "test")
    run = tiny.train(plan)
    [record] = records(run, "evaluation")
    milestone = run / "revisions" / record["revision"]
    evaluate([str(milestone)], items, ["pairs"], "2025")
    result = read_json(milestone / "evaluation" / "2025" / "pairs.json")
    assert (result["way"], result["accuracy"]) == ("mlm", pytest.approx(record["pairs (mlm)"]))
    scores = [json.loads(line)["scores"] for line in (milestone / "evaluation/2025/pairs.items.jsonl").open()]
    [subset] = plan.milestones.subsets
    found = subset.scores(Scorer.load(milestone), 0, 1)
    np.testing.assert_allclose(found, [score for each in scores for score in each], atol=1e-4)


def plan_of(values: dict[str, Any]) -> Plan:
    return make_plan(DistillConfig.model_validate(values), "test")


def train_student(values: dict[str, Any]) -> Path:
    return tiny.train(plan_of(values))


def weights(run: Path, milestone: str) -> bytes:
    return (run / "revisions" / milestone / "model.safetensors").read_bytes()


# Points and names


def test_points_are_those_that_the_tracks_of_babylm_want() -> None:
    wanted = {
        "strict-small": [*range(1, 11), 20, 30, 40, 50, 60, 70, 80, 90, 100],
        "strict": [*range(1, 11), *(10 * n for n in range(2, 11)), 200, 300, 400, 500, 600, 700, 800, 900, 1000],
    }
    assert {track: [point / 10**6 for point in points] for track, points in TRACKS.items()} == wanted
    assert [len(points) for points in TRACKS.values()] == [19, 28]
    for track, points in TRACKS.items():
        assert tuple(EvaluationConfig.model_validate({"words": track}).words or ()) == points


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (1_000_000, "chck_1M"), (10_000_000, "chck_10M"), (1_000_000_000, "chck_1000M"), (500_000, "chck_500K"),
        (1_500_000, "chck_1500K"), (1_500, "chck_1500"), (20_000, "chck_20K"), (7, "chck_7"),
    ],
)  # fmt: skip
def test_names(words: int, name: str) -> None:
    assert milestone_name(words) == name


def test_points_may_be_written_short() -> None:
    config = EvaluationConfig(tasks=["pairs"], words=[1_500, "2K", 2.5e3, "500K", "1M", "0010M"])  # type: ignore[list-item]
    assert config.words == [1_500, 2_000, 2_500, 500_000, 1_000_000, 10_000_000]


@pytest.mark.parametrize(
    ("before", "now", "point"),
    [(0, 99, None), (0, 100, 100), (99, 150, 100), (100, 199, None), (150, 350, 300), (300, 900, None)],
)
def test_a_step_passes_a_point_once_and_of_several_the_last(before: int, now: int, point: int | None) -> None:
    assert MilestonePlan((100, 200, 300)).passed(before, now) == point


def test_without_a_section_no_step_passes_a_point(teacher: Path) -> None:
    plan = plan_of(student(evaluation=None))
    assert plan.milestones.passed(0, 10**12) is None
    assert "milestones" not in describe(plan)


# The items


def made_items(**sizes: int) -> list[Item]:
    choices = (Choice("", "a"), Choice("", "b"))
    return [Item(name, line, choices) for name, size in sizes.items() for line in range(1, size + 1)]


def test_subset_by_hand() -> None:
    chosen = evenly_spread(made_items(long=10, short=3, even=4), 4)
    lines = {name: [item.line for item in chosen if item.subtask == name] for name in ("long", "short", "even")}
    assert lines == {"long": [1, 3, 6, 8], "short": [1, 2, 3], "even": [1, 2, 3, 4]}


@pytest.mark.parametrize("size", [1, 7, 199, 200, 201, 399, 1000])
@pytest.mark.parametrize("most", [1, 3, 200])
def test_subsets_are_fixed_parts_spread_over_the_whole_file(size: int, most: int) -> None:
    items = made_items(one=size)
    lines = [item.line for item in evenly_spread(items, most)]
    assert evenly_spread(items, most) == evenly_spread(items, most)
    assert len(lines) == min(size, most)
    gaps = [after - before for before, after in pairwise([*lines, size + 1])]
    assert lines[0] == 1
    assert min(gaps) >= max(1, size // most)
    assert max(gaps) <= -(-size // min(size, most))


def test_shares_add_up_to_the_whole_and_split_no_item() -> None:
    class Lengths:
        """Scores a text by its token."""

        def score(self, texts: list[Text]) -> np.ndarray:
            return np.array([text.continuation[0] for text in texts], dtype=float)

    items = [Item("one", line, (Choice("", "x"),) * choices) for line, choices in enumerate((2, 5, 2, 3, 2))]
    subset = Subset("task", items, [Text((), (number,)) for number in range(1, 15)])
    for shares in (1, 2, 3, 7):
        parts = [subset.scores(Lengths(), share, shares) for share in range(shares)]  # type: ignore[arg-type]
        assert np.array_equal(sum(parts), np.arange(1, 15))
        for first, last in pairwise([0, 2, 7, 9, 12, 14]):
            assert sum(bool(part[first:last].any()) for part in parts) == 1


# Checked before long work


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["evaluation.tasks=[nothing]"], "evaluation.tasks: no task 'nothing': looked for the folder "),
        (["evaluation.words=strictest"], "a list of numbers of words, or strict-small or strict, got 'strictest'"),
        (["evaluation.tasks=[pairs,pairs]"], "evaluation.tasks (command line): 'pairs' appears twice"),
        (["evaluation.words=[2K,1K]"], "expected rising numbers of words, got 1000 after 2000"),
        (["evaluation.words=[1K,1000]"], "expected rising numbers of words, got 1000 after 1000"),
        (["evaluation.words=[1K,0]"], "evaluation.words.1 (command line): expected a number of words above 0"),
        (["evaluation.words=[-5]"], "such as 250000, 500K or 1M, got -5"),
        (["evaluation.words=[1G]"], "such as 250000, 500K or 1M, got '1G'"),
        (["evaluation.words=[]"], "evaluation.words (command line): list should have at least 1 item"),
        (["evaluation.items=0"], "evaluation.items (command line): input should be greater than or equal to 1"),
        (["evaluation.protocol=2023"], "evaluation.protocol (command line): input should be '2024', '2025' or '2026'"),
        (["evaluation.task=pairs"], "unknown key; did you mean 'tasks'?"),
        (["paths.evaluation=nowhere"], f"looked for the folder {ROOT / 'nowhere' / 'pairs'}"),
        (["student.max_position_embeddings=16", "evaluation.tasks=[long]"], "tokens, but student has 16 positions"),
        (["evaluation.tasks=[broken]"], "broken/one.jsonl, line 2: "),
        (["evaluation.tasks=[people]"], "people: asks what people prefer"),
    ],
)
def test_what_cannot_be_scored_is_said_before_any_model(
    teacher: Path, items: Path, write_config: WriteConfig, overrides: list[str], expected: str
) -> None:
    pair = {"sentence_good": "The cat sees a dog.", "sentence_bad": "The cat see a dog."}
    write_lines(items / "broken" / "one.jsonl", [pair, {"sentence_good": "The cat."}])
    write_lines(items / "long" / "one.jsonl", [pair, {**pair, "sentence_good": 20 * "the cat sees a dog and "}])
    write_lines(items / "people" / "one.jsonl", [{"sentences": "a wug\ta wugs", "ratio": 0.9}])
    with pytest.raises(UserError) as problem:
        load_plan(write_config(student()), overrides, DistillConfig)
    assert expected in str(problem.value)


def test_problems_of_items_come_with_the_others(teacher: Path, write_config: WriteConfig) -> None:
    with pytest.raises(UserError, match="2 problems") as problem:
        load_plan(write_config(student()), ["evaluation.tasks=[nothing]", "training.micro_batch_size=3"], DistillConfig)
    assert "training.batch_size" in str(problem.value)


def test_the_2025_protocol_is_its_encoding(teacher: Path, items: Path) -> None:
    [subset] = plan_of(student(evaluation={"tasks": ["pairs"], "protocol": 2025})).milestones.subsets
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    assert subset.texts == encode(Choices.read(items / "pairs").items, tokenizer, "2025")
    assert subset.texts != encode(Choices.read(items / "pairs").items, tokenizer, "2024")


def test_evaluation_is_no_part_of_what_a_run_is(teacher: Path, items: Path) -> None:
    moved = student() | {"paths": {"evaluation": str(items)}}
    assert plan_of(student()).identity() == plan_of(moved).identity() == plan_of(student(evaluation=None)).identity()


def test_a_dry_run_says_what_will_be_scored_and_when(teacher: Path) -> None:
    plan = plan_of(student())
    described = describe(plan)
    words = plan.windows().words(range(plan.total_windows))
    assert f"{words:,} words seen; 3 of 4 milestones lie within: 100, 200, 300; " in described
    assert f"; {words:,} seen in " in described, "the same number wherever it stands"
    assert "missing, for the run ends before: 5M\n" in described
    assert "each is scored on pairs: 7 items, 14 texts" in described
    assert "each is scored on contexts: 4 items, 8 texts" in described
    assert yaml.safe_load(described.split("\n\n")[0])["evaluation"] == {**SMALL, "protocol": "2024"}


def test_a_dry_run_says_what_is_missing_of_a_track(teacher: Path) -> None:
    described = describe(plan_of(student(evaluation={"words": "strict-small"})))
    assert "0 of 19 milestones of track strict-small lie within: none" in described
    assert "missing, for the run ends before: 1M, 2M, 3M, 4M, 5M, 6M, 7M, 8M, 9M, 10M, 20M, " in described


# Training


def test_records_are_what_the_folders_score_and_no_weight_changes(teacher: Path, items: Path) -> None:
    plain = train_student(student("plain", evaluation=None))
    run = train_student(student())
    assert not (plain / "revisions").exists()
    assert (run / "model.safetensors").read_bytes() == (plain / "model.safetensors").read_bytes()
    others = [record for record in outcome(run)["metrics"] if record["split"] != "evaluation"]
    assert others == outcome(plain)["metrics"]

    found = records(run, "evaluation")
    assert [record["revision"] for record in found] == ["chck_100", "chck_200", "chck_300"]
    words_at = {0: 0} | {record["step"]: record["words"] for record in records(run, "train")}
    for record, point in zip(found, WORDS, strict=False):
        assert words_at[record["step"] - 1] < point <= record["words"] == words_at[record["step"]]
        folder = run / "revisions" / record["revision"]
        for name in SMALL["tasks"]:
            chosen = evenly_spread(Choices.read(items / name).items, 4)
            assert record[name] == pytest.approx(plain_accuracy(folder, chosen), abs=1e-12)
            scores = Scorer.load(folder).score(encode(chosen, AutoTokenizer.from_pretrained(folder)))
            assert record[f"{name}_stderr"] == task_accuracy(chosen, scores)[0].stderr
    assert len({weights(run, record["revision"]) for record in found}) == 3
    assert scalars(found[0]) == {
        f"evaluation/{name}{kind}": found[0][f"{name}{kind}"] for name in SMALL["tasks"] for kind in ("", "_stderr")
    }


def plain_accuracy(folder: Path, items: list[Item]) -> float:
    """Mean over subtasks, a tie being a half, from the whole logits of one text at a time."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    found: dict[str, list[float]] = {}
    for item in items:
        scores = []
        for context, text in item.choices:
            before = tokenizer(context, add_special_tokens=False)["input_ids"] if context else [tokenizer.bos_token_id]
            whole = tokenizer(context + text if context else f" {text}", add_special_tokens=False)["input_ids"]
            ids = torch.tensor(whole if context else before + whole)
            with torch.no_grad():
                chances = model(ids[None]).logits[0].double().log_softmax(-1)
            scores.append(float(chances[torch.arange(len(ids) - 1), ids[1:]][len(before) - 1 :].sum()))
        found.setdefault(item.subtask, []).append(0.5 if scores[0] == scores[1] else float(scores[0] > scores[1]))
    return float(np.mean([np.mean(values) for values in found.values()]))


def test_a_milestone_at_the_last_step_is_the_model_as_it_ends(teacher: Path, runs_folder: Path) -> None:
    plan = plan_of(student())
    words = plan.windows().words(range(plan.total_windows))
    run = train_student(student(evaluation={"tasks": ["pairs"], "words": [words]}, eval_steps=8))
    assert weights(run, milestone_name(words)) == (run / "model.safetensors").read_bytes()
    assert sorted(path.name for path in (run / "revisions").iterdir()) == [milestone_name(words)]


def test_milestones_that_are_not_scored_are_left_and_recorded(teacher: Path, runs_folder: Path) -> None:
    run = train_student(student(evaluation={"words": WORDS}))
    found = milestones_of(run, records(run))
    assert [(one.name, one.words) for one in found] == [(milestone_name(words), words) for words in WORDS[:3]]
    assert [one.seen for one in found] == [record["words"] for record in records(run, "evaluation")]
    assert all(one.seen >= one.words and (one.folder / "model.safetensors").exists() for one in found)
    assert missing_of(found, "strict-small") == [milestone_name(words) for words in TRACKS["strict-small"]]


def test_evaluation_may_begin_in_the_middle_of_a_run(teacher: Path, runs_folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Student, "_clip", 4)
        train_student(student(evaluation=None))
    gc.collect()
    seen = records(runs_folder / "student")[-1]["words"]
    run = train_student(student())
    assert [record["revision"] for record in records(run, "evaluation")] == [
        milestone_name(point) for point in WORDS if seen < point < 10**6
    ]


POINTS_OF_DEATH: dict[str, tuple[Any, ...]] = {
    "before the export": (Run, "save_milestone", 2),
    "while the export is written": (shutil, "copy", 2, lambda source, folder: (folder / "config.json").unlink()),
    "before it gets its name": (palenka.runs.directory, "sync_tree", 3),
    "while it is scored": (Scorer, "score", 3),
    "while the record is written": (Run, "log", 4, half_a_line),
    "before the checkpoint behind it": (Trainer, "_checkpoint", 3),
}


@pytest.fixture(scope="module")
def unkilled() -> dict[str, Any]:
    """The outcome of the whole run, once it was made."""
    return {}


@pytest.mark.parametrize("point", POINTS_OF_DEATH.values(), ids=POINTS_OF_DEATH.keys())
def test_killed_and_resumed_equals_unkilled(teacher: Path, unkilled: dict[str, Any], point: tuple[Any, ...]) -> None:
    names = [milestone_name(words) for words in WORDS[:3]]
    if not unkilled:
        whole = train_student(student("whole"))
        unkilled |= outcome(whole) | {name: weights(whole, name) for name in names}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, *point)
        train_student(student())
    gc.collect()
    run = train_student(student())
    assert outcome(run) | {name: weights(run, name) for name in names} == unkilled
    assert sorted(path.name for path in (run / "revisions").iterdir()) == sorted(names)


@pytest.mark.usefixtures("processes")
def test_two_processes_score_as_one(teacher: Path, write_config: WriteConfig, runs_folder: Path) -> None:
    shape = {**tiny.LLAMA, "tie_word_embeddings": True}
    values = student() | {"student": shape}
    values["training"] |= {"adam_epsilon": 1e-3, "micro_batch_size": 4, "precision": "fp32"}
    succeed(*TORCHRUN, ROOT / "distill.py", "--config", write_config(values))
    one = records(train_student(values | {"name": "one"}), "evaluation")
    two = records(runs_folder / "student", "evaluation")
    assert len(one) == 3
    assert one == two


# Evaluated later


def test_a_milestone_is_evaluated_like_a_run(teacher: Path, items: Path, runs_folder: Path, call: Call) -> None:
    from palenka.cli import main
    from palenka.report.results import read_runs

    run = train_student(student(evaluation=SMALL | {"items": 1000}))
    folders = sorted(str(folder) for folder in (run / "revisions").iterdir())
    code, out, errors = call(main, ["evaluate", *folders, "--tasks", "pairs,cross_entropy"])
    assert code == 0, errors
    for record in records(run, "evaluation"):
        found = json.loads((run / "revisions" / record["revision"] / "evaluation" / "pairs.json").read_text())
        assert (found["accuracy"], found["stderr"]) == (record["pairs"], record["pairs_stderr"])
        assert found["floors"]["ngram"] is not None
    assert [found.name for found in read_runs([str(run)])] == ["student"]
    assert len(re.findall(r"^dev +\d", out, re.MULTILINE)) == 3
    weights_file = Path(folders[0], "model.safetensors")
    weights_file.write_bytes(weights_file.read_bytes()[:-64] + bytes(64))
    code, _, errors = call(main, ["evaluate", folders[0], "--tasks", "pairs"])
    assert code == 2 and f"{weights_file}: not the weights that the training exported" in errors
