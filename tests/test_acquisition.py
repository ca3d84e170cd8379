"""Ages of acquisition of a run: surprisals against whole logits, the ages' way into files, and what is refused."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from made_items import write_lines, write_pairs, write_reading, write_words
from page_charts import texts
from shared_fixtures import Call
from transformers import AutoModelForCausalLM, AutoTokenizer

from palenka.cli import main
from palenka.evaluation.acquisition import Followed, figures, score, surprisals, token_counts, word_ages
from palenka.evaluation.learning_curves import sigmoid
from palenka.evaluation.tasks.acquisition import Acquisition
from palenka.models.standalone import export_folder
from palenka.report import figures as figures_of_report
from palenka.report import results as read
from palenka.runs.milestones import TRACKS, Milestone, milestone_name
from palenka.util.errors import UserError

POINTS = (1, 2, 3, 5, 10)
CONTEXTS: dict[str, list[Any]] = {
    "dog": [{"context": "the cat sees a"}, {"context": " this boat likes every "}],
    "boat": [{"context": "a"}, {"context": "the cat sees a"}, {"context": ""}],
    "unbelievable letter": [{"context": "the farmer finds one"}],
    "river": [],
    "a": [{"context": "the cat sees"}],
    "window": [{"context": "one"}],
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(contexts) writes the folder aoa, with the children's ages; returns the folder of tasks."""

    return lambda contexts=CONTEXTS, month=22.0: write_words(tmp_path / "items", contexts, month)


@pytest.fixture
def run(teacher: Path) -> Path:
    """A run with five milestones, models of different seeds; its record knows that the last one was passed late."""
    for number, point in enumerate(POINTS):
        made = tiny.write_finished_run(teacher / "revisions" / f"chck_{point}M", tiny.GPT2, teacher, seed=number)
        (made / "result.json").unlink()
    record = {"step": 9, "words": 10_400_000, "split": "evaluation", "revision": "chck_10M"}
    (teacher / "metrics.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    return teacher


def surprisal(folder: Path, context: str, word: str) -> float:
    """From the whole logits of the text: what follows its first token and ends behind the context."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = f"{context.strip()} {word}"
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids = torch.tensor(encoded["input_ids"])
    with torch.no_grad():
        chances = model(ids[None]).logits[0].double().log_softmax(-1)
    start = len(text) - len(word)
    places = [place for place, (_, end) in enumerate(encoded["offset_mapping"]) if end > start and place > 0]
    return -sum(float(chances[place - 1, ids[place]]) for place in places)


# Of a run


@pytest.mark.slow
def test_surprisals_are_those_of_whole_logits_and_are_known_afterwards(
    run: Path, write: Write, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write()
    arguments = ["acquisition", "teacher", "--data", str(root)]
    code, out, errors = call(main, arguments)
    assert code == 0, errors
    assert "5 milestones, chck_1M … chck_10M" in out
    assert "7 contexts of 4 words, where the challenge has 8,005 of 504" in out
    words = ("dog", "boat", "unbelievable letter", "window")
    expected = [(word, number) for word in words for number in range(len(CONTEXTS[word]))]
    for folder in (*(run / "revisions").iterdir(), run):
        lines = (folder / "evaluation" / "2026" / "aoa.items.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        assert [(record["word"], record["context"]) for record in records] == expected
        for record in records:
            whole = surprisal(folder, CONTEXTS[record["word"]][record["context"]]["context"], record["word"])
            assert record["surprisal"] == pytest.approx(whole, abs=1e-4)
    shown = read.read_evaluated(run, "2026").predictions["acquisition"]
    assert isinstance(shown, read.Acquisition) and shown.n == len(shown.words) == 4

    result = json.loads((run / "evaluation" / "2026" / "acquisition.json").read_text(encoding="utf-8"))
    assert [one["words"] for one in result["milestones"]] == [10**6 * point for point in POINTS]
    assert [one["seen"] for one in result["milestones"]] == [10**6, 2 * 10**6, 3 * 10**6, 5 * 10**6, 10_400_000]
    shown_alone = call(main, ["evaluate", "teacher", "--tasks", "aoa", "--protocol", "2026", "--data", str(root)])[1]
    assert ["aoa", f"{result['last']:.3f}", "±"] == shown_alone.split()[-5:-2]
    monkeypatch.setattr("palenka.evaluation.scoring.Scorer.score", None)
    assert call(main, arguments)[:2] == (0, out)


@pytest.mark.slow
def test_files_are_what_the_pipeline_writes(run: Path, write: Write, call: Call) -> None:
    root = write()
    followed = Followed.find("teacher", "2026", root)
    with pytest.raises(UserError, match="aoa.json: missing: palenka acquisition measures it"):
        surprisals(followed, "ours")
    with pytest.raises(UserError, match="acquisition.json: missing: palenka acquisition .*teacher makes it"):
        score(followed)
    assert call(main, ["acquisition", "teacher", "--data", str(root)])[0] == 0
    content = surprisals(followed, "ours")
    assert content["metadata"] == {
        "model_name": "ours", "use_bos_only": False, "total_steps": 5, "completed_steps": 5,
    }  # fmt: skip
    assert len(content["results"]) == 5 * 7
    first, last = content["results"][1], content["results"][-1]
    assert first == {
        "step": "chck_1M", "word_count": 10**6, "target_word": "dog", "context_id": 1,
        "context": " this boat likes every ", "surprisal": first["surprisal"],
    }  # fmt: skip
    assert first["surprisal"] == pytest.approx(surprisal(run / "revisions" / "chck_1M", "this boat likes every", "dog"))
    assert (last["step"], last["word_count"], last["target_word"]) == ("chck_10M", 10**7, "window")
    assert score(followed) == {"aoa": 0.0}  # of untrained models

    shutil.rmtree(run / "revisions" / "chck_10M")
    fewer = Followed.find("teacher", "2026", root)
    with pytest.raises(UserError, match="is of 5 milestones, wanted are 4, chck_1M … chck_5M"):
        score(fewer)
    weights = run / "revisions" / "chck_2M" / "model.safetensors"
    other = (run / "revisions" / "chck_1M" / "model.safetensors").read_bytes()
    weights.write_bytes(other)
    with pytest.raises(UserError, match="chck_2M.*of other weights or items"):
        surprisals(fewer, "ours")
    (run / "model.safetensors").write_bytes(other)
    with pytest.raises(UserError, match="acquisition.json: of other weights or items"):
        score(Followed.find("teacher", "2026", root))


def test_a_run_without_what_is_wanted_is_refused(run: Path, write: Write, call: Call) -> None:
    root = write()
    asked = ["acquisition", "teacher", "--data", str(root)]
    code, _, errors = call(main, [*asked, "--track", "strict-small"])
    assert code == 2 and "track strict-small wants 19 milestones, and there is no chck_4M, chck_6M" in errors
    code, _, errors = call(main, [*asked, "--way", "mlm"])
    assert code == 2 and "cannot be asked in the way 'mlm'" in errors
    code, _, errors = call(main, ["acquisition", "teacher", "--data", str(root / "nowhere")])
    assert code == 2 and f"looked for the folder {root / 'nowhere' / 'aoa'}" in errors
    (root / "aoa" / "cdi_childes.json").unlink()
    write_pairs(root / "aoa")
    assert "holds no words in contexts" in call(main, asked)[2]
    shutil.rmtree(run / "revisions")
    assert "0 milestones in revisions/, and a curve needs 3" in call(main, asked)[2]


@pytest.mark.parametrize(
    ("contexts", "problem"),
    [
        ({"dog": ["the cat"]}, "'dog', number 0: no text at \"context\""),
        ({"dog": [{"context": "a"}, {"text": "a"}]}, "'dog', number 1: no text at \"context\""),
        ({"dog": {"context": "a"}}, "'dog': expected a list of contexts, found dict"),
        ({"dog": [], "a": [{"context": "the"}]}, "no word in it has a context"),
    ],
)
def test_words_without_contexts_are_named(write: Write, contexts: Any, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        Acquisition.read(write(contexts) / "aoa")


def test_children_s_ages_must_be_there(write: Write) -> None:
    folder = write() / "aoa"
    path = folder / "cdi_human.csv"
    whole = path.read_text(encoding="utf-8")
    for content, problem in (
        (whole.replace("word", "item", 1), "no column 'word', or none for an age"),
        (whole.replace("animals,0", "animals,many", 1), "line 2: a share of children is no number"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=problem):
            Acquisition.read(folder)
    path.unlink()
    with pytest.raises(UserError, match="missing: the shares of children"):
        Acquisition.read(folder)
    path.write_text(whole.replace(",0.5,", ",NA,") + whole.partition("\n")[2].replace("0.", "1."), encoding="utf-8")
    task = Acquisition.read(folder)
    assert any(map(math.isnan, task.children["dog"])) and max(task.children["dog"]) <= 1  # the first row of a word


# Ages


def milestones(*late: int) -> list[Milestone]:
    points = TRACKS["strict-small"]
    return [Milestone(milestone_name(words), Path(), words, words + sum(late)) for words in points]


def test_a_run_that_learns_as_children_do_is_found_to(write: Write, teacher: Path) -> None:
    """12 words, known to be learned one after the other by the model and by children alike."""
    words = [f"{noun}s" for noun in tiny.NOUNS] + ["early", "never"]
    root = write({word: [{"context": "the"}] for word in words}, month=18.0)
    task = Acquisition.read(root / "aoa")
    lengths = token_counts(words, AutoTokenizer.from_pretrained(teacher))
    guessing, x = math.log(tiny.VOCABULARY), np.log10(np.array(TRACKS["strict-small"]) + 1)
    curves = [
        (length * guessing - sigmoid(x, 3.0, 9.0, 6.4 + 0.1 * number, 0.0)).tolist()
        for number, length in enumerate(lengths[:10])
    ]
    curves += [[1.0] * 19, [lengths[-1] * guessing] * 19]
    records = word_ages(task, milestones(), curves, lengths, guessing)
    found = figures(records)
    assert found["pipeline"]["r"] > 0.99 and found["pipeline"]["score"] == found["pipeline"]["r"]
    assert found["pipeline"]["n"] == found["determined"]["n"] == 10
    assert found["determined"]["low"] < found["determined"]["r"] <= found["determined"]["high"]
    assert found["left_out"] == {"no age": 2}
    assert [record["pipeline"] for record in records] == [record["age"] for record in records]

    points = [{"name": one.name, "seen": one.seen} for one in milestones()]
    acquired = read.Acquisition.model_validate(
        {"task": "acquisition", "convention": "2026", "scores": {}, "milestones": points, "words": records, **found}
    )
    shown = texts(figures_of_report.curves_figure(acquired))
    assert {words[0], words[9]} <= {*shown} and "never" not in shown
    assert "words seen by the model" in texts(figures_of_report.ages_figure(acquired))
    ageless = acquired.model_copy(update={"words": acquired.words[-1:]})
    assert figures_of_report.ages_figure(ageless) is figures_of_report.curves_figure(ageless) is None

    late = word_ages(task, milestones(10**6), curves, lengths, guessing)
    assert late[3]["pipeline"] == records[3]["pipeline"] and late[3]["age"] > records[3]["age"]


def test_words_count_their_tokens_behind_another(teacher: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    words = ["dog", "unbelievable letter", "😀"]
    ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    assert token_counts(words, tokenizer) == [len(each) for each in ids]


# The pipeline itself


with_checkout = pytest.mark.skipif(
    "PALENKA_PIPELINE_2026" not in os.environ, reason="PALENKA_PIPELINE_2026 names no checkout"
)


def pipeline(*arguments: str, folder: Path) -> str:
    """What its Python prints, offline, with a hub of the test's own in `folder`."""
    root = Path(os.environ["PALENKA_PIPELINE_2026"], "strict").absolute()
    environment = os.environ | {
        "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    python = os.environ.get("PALENKA_PIPELINE_2026_PYTHON", sys.executable)
    ended = subprocess.run([python, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def exported(milestone: Path, paradigm: str, tokenizer: Path) -> Path:
    """A milestone that learned to see all of a text, and what the pipeline can load of it: a folder with code."""
    shutil.rmtree(milestone, ignore_errors=True)
    tiny.write_finished_run(milestone, tiny.LLAMA, tokenizer, seed=int(milestone.name[5:-1]))
    (milestone / "result.json").unlink()
    (milestone / "config.yaml").write_text(f"paradigm: {paradigm}\n")
    out = milestone.parent.parent / "exported" / milestone.name
    export_folder(milestone, out, with_code=True)
    return out


@with_checkout
@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("way", ["causal", "mlm", "mntp"])
def test_the_pipeline_writes_the_same_surprisals(
    way: str, run: Path, prepared: Path, write: Write, call: Call, tmp_path: Path
) -> None:
    """Its milestones are revisions of a hub's model; without the children's ages beside the words it finds no score."""
    paradigm = {"mlm": "masked"}.get(way, way)
    (run / "config.yaml").write_text(f"paradigm: {paradigm}\n")
    home = tmp_path / "hub" / "hub" / "models--made--run"
    for folder in ("refs", "snapshots"):
        (home / folder).mkdir(parents=True)
    for number, words in enumerate(TRACKS["strict-small"]):
        milestone = run / "revisions" / milestone_name(words)
        if not milestone.exists():
            shutil.copytree(run / "revisions" / f"chck_{POINTS[number % len(POINTS)]}M", milestone)
        if way != "causal":
            milestone = exported(milestone, paradigm, prepared / "tokenizer")
        (home / "refs" / milestone.name).write_text(f"{number:040}")
        (home / "snapshots" / f"{number:040}").symlink_to(milestone)
    root, words_path = write(), tmp_path / "alone" / "words.json"
    words_path.parent.mkdir()
    shutil.copy(root / "aoa" / "cdi_childes.json", words_path)
    pipeline(
        "-m", "evaluation_pipeline.AoA_word.run", "--model_name", "made/run", "--backend", way,
        "--track_name", "strict-small", "--word_path", str(words_path), "--output_dir", str(tmp_path / "theirs"),
        folder=tmp_path,
    )  # fmt: skip
    [path] = (tmp_path / "theirs").rglob("surprisal.json")
    theirs = json.loads(path.read_text(encoding="utf-8"))

    followed = Followed.find("teacher", "2026", root, track="strict-small")
    followed.measure()
    ours = surprisals(followed, "made/run")
    for mine, other in zip(ours["results"], theirs["results"], strict=True):
        assert mine.pop("surprisal") == pytest.approx(other.pop("surprisal"), abs=1e-4)
    assert ours == theirs


@with_checkout
@pytest.mark.usefixtures("processes")
def test_the_pipeline_finds_the_same_ages(teacher: Path, write: Write, tmp_path: Path) -> None:
    words = [*tiny.NOUNS, *tiny.VERBS]
    root = write({word: [{"context": "the"}] for word in words}, month=17.0)
    task, generator = Acquisition.read(root / "aoa"), np.random.default_rng(0)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    lengths, guessing = token_counts(words, tokenizer), math.log(tokenizer.vocab_size)
    x = np.log10(np.array(TRACKS["strict-small"]) + 1)
    curves = [
        (length * guessing - sigmoid(x, 3.0, 6.0, 6.2 + 0.1 * number, 0.0) + generator.normal(0, 0.1, len(x))).tolist()
        for number, length in enumerate(lengths)
    ]
    records = word_ages(task, milestones(), curves, lengths, guessing)
    results = [
        {"target_word": word, "step": milestone.name, "surprisal": value}
        for word, curve in zip(words, curves, strict=True)
        for milestone, value in zip(milestones(), curve, strict=True)
    ]
    (tmp_path / "results.json").write_text(json.dumps({"results": results}), encoding="utf-8")
    code = f"""
import json
from transformers import AutoTokenizer
from evaluation_pipeline.utils import AoAEvaluator
found = AoAEvaluator({str(root / "aoa" / "cdi_human.csv")!r}).compute_curve_fitness(
    json.load(open("results.json")), AutoTokenizer.from_pretrained({str(teacher)!r}))
print(json.dumps({{key: list(map(float, value)) if key.endswith("aoas") else value for key, value in found.items()}}))
"""
    theirs = json.loads(pipeline("-c", code, folder=tmp_path).splitlines()[-1])
    aged = [record for record in records if record["child"] is not None and record["pipeline"] is not None]
    assert [record["word"] for record in aged] == theirs["valid_words"] and len(aged) < len(words)
    assert [record["pipeline"] for record in aged] == pytest.approx(theirs["model_aoas"], abs=1e-6)
    assert [record["child"] for record in aged] == pytest.approx(theirs["child_aoas"], abs=1e-6)
    found = figures(records)["pipeline"]
    assert (found["score"], found["p"]) == pytest.approx((theirs["curve_fitness"], theirs["p_value"]), abs=1e-6)


# Fast evaluation


@pytest.mark.slow
def test_every_milestone_is_asked_the_fast_sets_in_one_call(run: Path, tmp_path: Path, call: Call) -> None:
    root = tmp_path / "fast"
    write_pairs(root / "blimp_fast")
    write_pairs(root / "supplement_fast")
    boxes = {"input_prefix": "Box 0 has", "options": [" a dog.", " a boat."]}
    nothing = {**boxes, "options": [" a dog.", " nothing."]}
    write_lines(root / "entity_tracking_fast" / "regular.jsonl", [boxes | {"numops": 0}, nothing | {"numops": 1}])
    piqa = {"prompt": "A dog", "solution0": "sees.", "solution1": "boats.", "label": 1, "example_id": "en_1"}
    write_lines(root / "global_piqa_parallel" / "eng_latn.jsonl", [piqa])
    write_reading(root / "reading", 20)
    asked = ["evaluate", "teacher", "--fast", "--data", str(root)]
    code, _, errors = call(main, asked)
    assert code == 2 and "there are no fast sets in 2024" in errors
    (tmp_path / "empty").mkdir()
    code, _, errors = call(main, [*asked[:-1], str(tmp_path / "empty"), "--protocol", "2026"])
    assert code == 2 and "empty: holds no fast set; palenka download evals-2026 fetches them" in errors
    code, out, errors = call(main, [*asked, "--protocol", "2026"])
    assert code == 0, errors
    assert f"skipped, no such folders in {root}: ewok_fast, global_piqa_nonparallel" in out
    assert out.count("(2026 protocol") == 5 and "cross-entropy" not in out
    assert out.index("chck_5M") < out.index("chck_10M")
    assert not (run / "evaluation" / "2026").exists()

    blimp = run / "revisions" / "chck_1M" / "evaluation" / "2026" / "blimp_fast.json"
    assert json.loads(blimp.read_text(encoding="utf-8"))["n"] == 4

    shutil.rmtree(run / "revisions")
    code, _, errors = call(main, [*asked, "--protocol", "2026"])
    assert code == 2 and "has no milestones" in errors
