"""Whole evaluations by our scorer, by lm-eval and by minicons: how long they take, and whether they say the same.

    python benchmarks/evaluate.py gpt2-5.8M llama-58M cpu/teacher-gpt2-6M --lm-eval .venv-lm-eval/bin/python

A call is whole: it loads the model, reads the items, tokenises, scores and averages; imports count for nobody. All
score in float32 on as many threads, under the 2024 protocol, and take turns within each round. The rivals use their
best batch size, found first on a few items of each file, and minicons gets its texts by length. These first calls also
warm everybody up: lm-eval keeps the data sets it has built. On a machine that others use, too, `--clock process_time`
counts the seconds of the process alone, those of its threads added up.

A masked model is asked in the first way that it learned, mlm or mntp; its rival is minicons, with transformers 4:

    python benchmarks/evaluate.py llama-3M-mntp --batch-sizes 2 4 8 --transformers-4 .venv-transformers4/bin/python

It takes each sentence as many times as that has tokens, so that its best batches are of few. A GPT-2 has no rival: that
of transformers 4 takes no mask by which it sees all.

Models named in MODELS are built with random weights, and a tokenizer trained on --text or on the demo's text; every
other name is a run or a model folder. Each call is a JSON line in --out as soon as it ends; a table follows.
`benchmarks/lm_eval_scores.py` and `benchmarks/minicons_masked_scores.py` say what to install for rivals.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palenka.cli import command
from palenka.data.demo.grammar import write_demo
from palenka.data.tokenizer import save_tokenizer, train_tokenizer
from palenka.evaluation.items import Task
from palenka.evaluation.official.minicons_scorer import MiniconsScorer
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.scoring import Scorer
from palenka.evaluation.statistics import outcomes
from palenka.evaluation.tasks.choices import Choices, summary
from palenka.evaluation.texts import check_texts, encode, encode_masked
from palenka.models.config import ARCHITECTURES, ModelConfig
from palenka.models.huggingface import build_model
from palenka.models.standalone import export_folder
from palenka.paradigms._learned import learned
from palenka.runs.directory import find_run
from palenka.util.paths import ROOT, evaluation_root

SMALL = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4}
MODELS: dict[str, tuple[int, dict[str, Any], str]] = {
    "gpt2-5.8M": (4096, {
        "architecture": "gpt2", "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6,
        "num_attention_heads": 4,
    }, "causal"),
    "llama-58M": (16000, {
        "architecture": "llama", "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 16,
        "num_attention_heads": 8,
    }, "causal"),
    "llama-3M-mntp": (16000, {"architecture": "llama", **SMALL, "tie_word_embeddings": True}, "mntp"),
    "ltg-bert-3M": (16000, {"architecture": "ltg_bert", **SMALL, "intermediate_size": 384}, "masked"),
    "ltg-bert-12x384": (16000, {
        "architecture": "ltg_bert", "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12,
        "num_attention_heads": 6,
    }, "masked"),
}  # fmt: skip
"""Entries of the vocabulary, shape, and paradigm."""
OURS = "palenka"
CLOCKS = ("perf_counter", "process_time")
Scores = dict[str, list[float]]
Call = Callable[[Path, Path, list[str], int], tuple[float, Scores]]
"""Model folder, items, tasks and batch size → seconds, and by task the score of each choice in order."""


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help=f"{', '.join(MODELS)}, a run or a model folder")
    parser.add_argument("--data", type=Path, default=evaluation_root(), help="items (default: PALENKA_EVAL)")
    parser.add_argument("--lm-eval", metavar="PYTHON", help="a Python with lm-eval (default: leave lm-eval out)")
    parser.add_argument("--transformers-4", metavar="PYTHON", help="a Python with transformers 4 and minicons")
    parser.add_argument("--text", type=Path, nargs="*", help="text files for the tokenizers of models that are built")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default=CLOCKS[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--search", type=int, default=20, metavar="N", help="items of each file in that search")
    parser.add_argument("--subset", type=int, metavar="N", help="no more items of each file than these")
    parser.add_argument("--out", type=Path, default=Path("evaluate.jsonl"), help="where each call is written")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tasks = [name for name in PROTOCOLS["2024"].tasks if (arguments.data / name).is_dir()]
        few = first_items(arguments.data, tasks, arguments.search, folder / "few")
        items = first_items(arguments.data, tasks, arguments.subset, folder / "items")
        threads, clock = arguments.threads, arguments.clock
        causal: dict[str, Call] = {
            OURS: timed_call(Scorer.load, score_ours, clock),
        }
        if find_spec("minicons"):
            causal["minicons"] = timed_call(MiniconsScorer.load, score_by_minicons, clock)
        masked: dict[str, Call] = {OURS: timed_call(Scorer.load, score_ours_masked, clock)}
        if arguments.lm_eval:
            causal["lm-eval"] = LmEval(arguments.lm_eval, threads, clock, folder / "datasets")
        if arguments.transformers_4:
            masked["minicons"] = MaskedMinicons(arguments.transformers_4, threads, clock, folder / "exports")
        for name in arguments.models:
            model = build(name, arguments.text, folder) if name in MODELS else find_run(name)
            callers = causal if learned(model).part_names[0] == "causal" else masked
            record = recorder(arguments.out, model=name)
            sizes = {caller: best_size(caller, call, model, few, tasks, arguments.batch_sizes, record)
                     for caller, call in callers.items()}  # fmt: skip
            calls = list(rounds(callers, model, items, tasks, sizes, arguments.rounds, record))
            print(table(name, calls, items, tasks))


def first_items(data: Path, tasks: list[str], count: int | None, folder: Path) -> Path:
    """A folder of the first items of each file; `data` itself without a count."""
    if count is None:
        return data
    for path in (path for task in tasks for path in (data / task).glob("*.jsonl")):
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as lines:
            target.write_bytes(b"".join(islice(lines, count)))
    return folder


def build(name: str, texts: list[Path] | None, folder: Path) -> Path:
    """A model of random weights."""
    vocabulary, shape, paradigm = MODELS[name]
    if not texts:
        write_demo(folder / "text", folder / "pairs")
        texts = sorted((folder / "text" / "train").iterdir())
    tokenizer = train_tokenizer((line for path in texts for line in path.open(encoding="utf-8")), vocabulary)
    ids = {key: getattr(tokenizer, key) for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = ModelConfig(**shape).hugging_face({"vocab_size": vocabulary, **ids})
    build_model(config, 0, torch.device("cpu")).save_pretrained(folder / name)
    save_tokenizer(tokenizer, folder / name)
    (folder / name / "config.yaml").write_text(f"paradigm: {paradigm}\n", encoding="utf-8")
    return folder / name


def timed_call(load: Callable[[Path], Any], score: Callable[[Any, Task, int], Any], clock: str) -> Call:
    """A call in this process; `score` gives the scores of a task's choices, and how many tokens each is the sum of."""
    now = getattr(time, clock)

    def call(model: Path, data: Path, tasks: list[str], batch_size: int) -> tuple[float, Scores]:
        started = now()
        scorer = load(model)
        found = {}
        for name in tasks:
            task = Choices.read(data / name)
            scores, tokens = score(scorer, task, batch_size)
            summary(task, scores, tokens)
            found[name] = scores.tolist()
        return now() - started, found

    return call


def score_ours(scorer: Scorer, task: Task, batch_size: int) -> tuple[Any, Any]:
    texts = encode(task.items, scorer.tokenizer)
    check_texts(task.items, texts, task.name, scorer.limits)
    return scorer.score(texts), np.array([len(text.continuation) for text in texts])


def score_ours_masked(scorer: Scorer, task: Task, batch_size: int) -> tuple[Any, Any]:
    texts = encode_masked(task.items, scorer.tokenizer)
    check_texts(task.items, texts, task.name, scorer.limits)
    return scorer.score(texts), np.array([len(text.continuation) for text in texts])


def score_by_minicons(scorer: MiniconsScorer, task: Task, batch_size: int) -> tuple[Any, Any]:
    return scorer.score_items(task.items, batch_size=batch_size)


class Elsewhere:
    """A rival in a process of its own, which stays for all calls."""

    def __init__(self, python: str, script: str, threads: int, clock: str, **environment: str) -> None:
        environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads), **environment}
        self.script, self.options = ROOT / "benchmarks" / script, {"threads": threads, "clock": clock}
        self.process = subprocess.Popen(
            [python, str(self.script)], env=os.environ | environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, **request: Any) -> dict[str, Any]:
        """Its answer to a request."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({**request, **self.options}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a rival ended; call {self.script} by hand to see why")
        answer: dict[str, Any] = json.loads(line)
        return answer


class MaskedMinicons(Elsewhere):
    """minicons on a masked model; one of an architecture of ours it is given with its code."""

    def __init__(self, python: str, threads: int, clock: str, exports: Path) -> None:
        super().__init__(python, "minicons_masked_scores.py", threads, clock)
        self.exports = exports

    def __call__(self, model: Path, data: Path, tasks: list[str], batch_size: int) -> tuple[float, Scores]:
        items = {name: Choices.read(data / name).items for name in tasks}
        choices = [choice for of_task in items.values() for item in of_task for choice in item.choices]
        distance = int(learned(model).part_names[0] == "mntp")
        answer = self.ask(
            model=str(self._exported(model)), choices=choices, metric="original", distance=distance,
            batch_size=batch_size,
        )  # fmt: skip
        scores = iter(answer["scores"])
        flat = {name: list(islice(scores, sum(len(item.choices) for item in of))) for name, of in items.items()}
        return answer["seconds"], flat

    def _exported(self, model: Path) -> Path:
        architecture = json.loads((model / "config.json").read_text(encoding="utf-8"))["model_type"]
        if architecture not in ARCHITECTURES.available():
            return model
        if not (self.exports / model.name).exists():
            export_folder(model, self.exports / model.name, with_code=True)
        return self.exports / model.name


class LmEval(Elsewhere):
    """lm-eval."""

    def __init__(self, python: str, threads: int, clock: str, datasets: Path) -> None:
        super().__init__(python, "lm_eval_scores.py", threads, clock, HF_DATASETS_CACHE=str(datasets))

    def __call__(self, model: Path, data: Path, tasks: list[str], batch_size: int) -> tuple[float, Scores]:
        answer = self.ask(model=str(model), data=str(data), tasks=tasks, batch_size=batch_size)
        flat = {
            task: [score for pairs in answer["scores"][task].values() for pair in pairs for score in pair]
            for task in tasks
        }
        return answer["seconds"], flat


def recorder(path: Path, **constants: Any) -> Callable[..., None]:
    """Appends a JSON line with these and further keys."""

    def record(**values: Any) -> None:
        with path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({**constants, **values}) + "\n")

    return record


def best_size(
    caller: str, call: Call, model: Path, few: Path, tasks: list[str], sizes: list[int], record: Callable[..., None]
) -> int:
    """The fastest of the batch sizes. The first call is made twice: it warms up. Our own scorer has but one size."""
    seconds = {}
    for size in sizes[:1] if caller == OURS else sizes:
        if not seconds:
            call(model, few, tasks, size)
        seconds[size] = call(model, few, tasks, size)[0]
        record(caller=caller, search=True, batch_size=size, seconds=round(seconds[size], 3))
    return min(seconds, key=lambda size: seconds[size])


def rounds(
    callers: dict[str, Call], model: Path, items: Path, tasks: list[str], sizes: dict[str, int], count: int,
    record: Callable[..., None],
) -> Iterator[tuple[str, float, Scores]]:  # fmt: skip
    """Caller, seconds and scores of each call; all callers take their turn in each round."""
    for number in range(count):
        for caller, call in callers.items():
            seconds, scores = call(model, items, tasks, sizes[caller])
            record(caller=caller, round=number + 1, batch_size=sizes[caller], seconds=round(seconds, 3))
            yield caller, seconds, scores


def table(model: str, calls: Iterable[tuple[str, float, Scores]], data: Path, tasks: list[str]) -> str:
    """Seconds of a call, median and range; the ratio to our median; and how far the scores are from ours."""
    seconds: dict[str, list[float]] = {}
    scores: dict[str, Scores] = {}
    for caller, taken, found in calls:
        seconds.setdefault(caller, []).append(taken)
        scores[caller] = found
    medians = {caller: statistics.median(taken) for caller, taken in seconds.items()}
    texts = sum(map(len, scores[OURS].values()))
    lines = [f"{model}: {texts:,} texts of {', '.join(tasks)}; a whole call"]
    lines.append(f"  {'':10}{'median s':>10}{'range':>18}{'texts/s':>10}{'× ours':>8}{'apart by':>10}{'decisions':>11}")
    for caller, taken in seconds.items():
        apart, differ = differences(data, scores[OURS], scores[caller])
        spread = f"{min(taken):.1f} to {max(taken):.1f}"
        lines.append(
            f"  {caller:10}{medians[caller]:>10.1f}{spread:>18}{texts / medians[caller]:>10,.0f}"
            f"{medians[caller] / medians[OURS]:>8.2f}{apart:>10.1e}{differ:>11,}"
        )
    if rivals := [caller for caller in medians if caller != OURS]:
        fastest = min(rivals, key=lambda caller: medians[caller])
        lines.append(f"  {medians[fastest] / medians[OURS]:.2f} times as fast as the fastest rival, {fastest}")
    return "\n".join(lines)


def differences(data: Path, ours: Scores, theirs: Scores) -> tuple[float, int]:
    """The largest difference of a score, and how many decisions differ; a tie counts as right, as lm-eval has it."""
    apart, differ = 0.0, 0
    for name in ours:
        items = Choices.read(data / name).items
        one, other = np.array(ours[name]), np.array(theirs[name])
        apart = max(apart, float(np.abs(one - other).max()))
        differ += int(((outcomes(items, one)[0] > 0) != (outcomes(items, other)[0] > 0)).sum())
    return apart, differ


if __name__ == "__main__":
    main()
