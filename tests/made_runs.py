"""Run directories with made-up but plausible contents, for the tests of what reads them."""

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

from palenka.evaluation.results import results_folder

BLIMP = {
    "anaphor_agreement": 2, "argument_structure": 7, "binding": 7, "control_raising": 5,
    "determiner_noun_agreement": 8, "ellipsis": 2, "filler_gap_dependency": 7, "irregular_forms": 2,
    "island_effects": 8, "npi_licensing": 7, "quantifiers": 4, "s-selection": 2, "subject_verb_agreement": 6,
}  # fmt: skip
EWOK = {
    "agent-properties": 100, "material-dynamics": 80, "material-properties": 60, "physical-dynamics": 60,
    "physical-interactions": 90, "physical-relations": 80, "quantitative-properties": 60, "social-interactions": 60,
    "social-properties": 60, "social-relations": 90, "spatial-relations": 80,
}  # fmt: skip
SUPPLEMENT = {"hypernym": 84, "qa_congruence_easy": 64, "qa_congruence_tricky": 165, "turn_taking": 280}
TEACHERS = [{"run": "demo/teacher-gpt2", "weight": 1.0, "layer_mapping": "uniform"}, {"run": "demo/teacher-llama"}]


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_run(
    runs: Path,
    name: str,
    *,
    objective: dict[str, Any] | None = None,
    seed: int = 42,
    finished: bool = True,
    dev: float = 3.4,
    hidden_size: int = 64,
) -> Path:
    """A run directory; distilled where it has an objective."""
    folder = runs / name
    folder.mkdir(parents=True)
    shape = {"architecture": "llama", "hidden_size": hidden_size, "num_hidden_layers": 4}
    config: dict[str, Any] = {"name": name}
    config |= {"student": shape, "teachers": TEACHERS, "objective": objective} if objective else {"model": shape}
    config |= {"data": {"name": "demo", "seq_length": 64}, "training": {"lr": 1e-3, "batch_size": 32}, "seed": seed}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    write_json(folder / "identity.json", {"config": config, "data": "9f" * 32, "teachers": {}})
    write_json(folder / "environment.json", {"command": "train.py --config made-up.yaml", "torch": "2.13.0"})
    write_metrics(folder, list(objective or {"hard_target": {}}), dev, hidden_size, steps=400 if finished else 150)
    if finished:
        write_json(folder / "result.json", made_result(name, bool(objective), dev, hidden_size))
        write_json(folder / "cost.json", made_cost(bool(objective), hidden_size))
    return folder


def made_result(name: str, distilled: bool, dev: float, hidden_size: int) -> dict[str, Any]:
    domains = {domain: made_losses(dev + shift) for domain, shift in (("bnc_spoken", 0.2), ("simple_wiki", -0.3))}
    return {
        "name": name,
        "method": "distill" if distilled else "train",
        "architecture": "llama",
        "parameters": {"total": hidden_size * (2048 + 44 * hidden_size), "non_embedding": 44 * hidden_size**2},
        "steps": 400,
        "epochs": 4.0,
        "tokens": 1_638_400,
        "words": 1_312_345,
        "ledger": {
            "own_words": 900_000,
            "unique_words": 900_000 + 150_000 * distilled,
            "unknown": {},
            "not_eligible": {"strict-small": [], "strict": []},
        },
        "best_step": 380,
        "dev": made_losses(dev) | {"domains": domains},
        "seconds": 73.25,
        "tokens_per_second": 22367.2,
    }


def made_cost(distilled: bool, hidden_size: int) -> dict[str, Any]:
    """FLOPs of a run; the teachers of one that is distilled are those of `write_study`."""
    student = 6.0 * 1_638_400 * hidden_size * (2048 + 44 * hidden_size)
    teachers = {"demo/teacher-gpt2": 96, "demo/teacher-llama": 128} if distilled else {}
    of_teachers = {name: made_cost(False, size)["student"] for name, size in teachers.items()}
    trainings = {name[-1] * 64: {"name": name, "flops": flops} for name, flops in of_teachers.items()}
    return {"student": student, "teachers": sum(of_teachers.values()) / 3, "trainings": trainings, "unknown": {}}


def made_losses(loss: float) -> dict[str, Any]:
    bits = loss * 90_000 / math.log(2) / 390_000
    return {"cross_entropy": loss, "bits_per_byte": bits, "tokens": 90_000, "words": 70_000, "bytes": 390_000}


def write_metrics(folder: Path, terms: list[str], dev: float, hidden_size: int, steps: int) -> None:
    noise = random.Random(folder.name)
    lines = []
    for step in range(10, steps + 1, 10):
        seen = {"step": step, "epoch": step / 100, "tokens": step * 4096, "words": step * 3281}
        loss = dev + (5.5 * math.exp(-step / 25) + 0.5 * math.exp(-step / 120)) * (64 / hidden_size) ** 0.2
        values = {term: loss * scale + noise.gauss(0, 0.03) for term, scale in zip(terms, (1, 0.4, 0.15), strict=False)}
        lines.append({**seen, "split": "train", "loss": sum(values.values()), **values, "lr": 1e-3, "grad_norm": 0.9})
        if step % 20 == 0:
            lines.append({**seen, "split": "dev", "loss": loss + 0.04, "bits_per_byte": loss / 3.1, "domains": {}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_evaluation(
    folder: Path,
    task: str,
    outcomes: dict[str, list[float]],
    *,
    phenomena: dict[str, str] | None = None,
    baselines: dict[str, float] | None = None,
    items: bool = True,
    twins: bool = False,
    protocol: str = "2024",
) -> dict[str, Any]:
    """A task's result and its items, from outcomes (1 right, ½ tie, 0 wrong) per subtask; returns the former.

    With `twins`, each two items are a cluster.
    """
    subtasks: dict[str, Any] = {}
    for name, values in outcomes.items():
        accuracy = sum(values) / len(values)
        variance = sum((value - accuracy) ** 2 for value in values) / (len(values) - 1)
        subtasks[name] = {
            "accuracy": accuracy,
            "accuracy_ties_good": sum(value >= 0.5 for value in values) / len(values),
            "stderr": math.sqrt(variance / len(values)),
            "n": len(values),
            "ties": values.count(0.5),
        }
        if phenomena:
            subtasks[name]["phenomenon"] = phenomena[name]
    content = {
        "task": task,
        "convention": protocol,
        "accuracy": sum(sub["accuracy"] for sub in subtasks.values()) / len(subtasks),
        "accuracy_ties_good": sum(sub["accuracy_ties_good"] for sub in subtasks.values()) / len(subtasks),
        "stderr": math.sqrt(sum(sub["stderr"] ** 2 for sub in subtasks.values())) / len(subtasks),
        "n": sum(sub["n"] for sub in subtasks.values()),
        "ties": sum(sub["ties"] for sub in subtasks.values()),
        "chance": 0.5,
        "floors": baselines or {"zipf": 0.52, "ngram": 0.58},
        "subtasks": subtasks,
        "tie_items": {
            name: [line for line, value in enumerate(values, 1) if value == 0.5]
            for name, values in outcomes.items()
            if 0.5 in values
        },
    }
    results = results_folder(folder, protocol)
    results.mkdir(exist_ok=True, parents=True)
    write_json(results / f"{task}.json", content)
    if items:
        records = [
            {"subtask": name, "item": line, "scores": [-20.0 + value, -19.5], "tokens": [9, 9]}
            | ({"cluster": f"{name} {(line + 1) // 2}"} if twins else {})
            for name, values in outcomes.items()
            for line, value in enumerate(values, 1)
        ]
        path = results / f"{task}.items.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return content


def right(count: int, n: int = 100) -> list[float]:
    """Outcomes of n items, of which so many are right."""
    return [1.0] * count + [0.0] * (n - count)


def made_outcomes(sizes: dict[str, int], skill: float, who: str) -> dict[str, list[float]]:
    """Outcomes of a run of so much skill (its mean accuracy), correlated between runs as real ones are."""
    found = {}
    for name, size in sizes.items():
        own, shared = random.Random(f"{who} {name}"), random.Random(name)
        level = skill + shared.gauss(0, 0.12)
        found[name] = [float(0.75 * shared.random() + 0.25 * own.random() < level) for _ in range(size)]
    return found


def blimp_outcomes(skill: float, who: str, n: int = 60) -> tuple[dict[str, list[float]], dict[str, str]]:
    phenomena = {f"{term}_{number}": term for term, size in BLIMP.items() for number in range(1, size + 1)}
    return made_outcomes(dict.fromkeys(phenomena, n), skill, who), phenomena


def write_study(runs: Path) -> list[Path]:
    """Two teachers, a control and two students under runs/demo, evaluated on three tasks."""
    kd = {"hard_target": {"weight": 1.0}, "logit": {"weight": 0.5, "temperature": 2.0}}
    plans: list[tuple[str, int, dict[str, Any] | None, float, float]] = [
        ("teacher-gpt2", 96, None, 3.21, 0.66),
        ("teacher-llama", 128, None, 3.12, 0.68),
        ("student-control", 64, None, 3.45, 0.61),
        ("student-kd", 64, kd, 3.36, 0.63),
        ("student-dskd", 64, kd | {"hidden_state": {"weight": 0.5}}, 3.33, 0.64),
    ]
    return [_write_member(runs, *plan) for plan in plans]


def _write_member(
    runs: Path, name: str, hidden_size: int, objective: dict[str, Any] | None, dev: float, skill: float
) -> Path:
    folder = write_run(runs, f"demo/{name}", objective=objective, dev=dev, hidden_size=hidden_size)
    outcomes, phenomena = blimp_outcomes(skill, name)
    write_evaluation(folder, "blimp_filtered", outcomes, phenomena=phenomena)
    write_evaluation(folder, "supplement_filtered", made_outcomes(SUPPLEMENT, skill - 0.1, name))
    write_evaluation(folder, "ewok_filtered", made_outcomes(EWOK, 0.51, name), baselines={"zipf": 0.5, "ngram": 0.5})
    losses = made_losses(dev) | {"domains": {"bnc_spoken": made_losses(dev)}}
    splits = {"dev": losses, "test": losses}
    write_json(folder / "evaluation" / "cross_entropy.json", {"task": "cross_entropy", "splits": splits})
    prompts, text = ["", "It was"], " a goat sees the river." * 6
    written = [{"prompt": prompt, "text": text, "ended": prompt == ""} for prompt in prompts]
    write_json(folder / "evaluation" / "samples.json", {"samples": written, "identity": {"prompts": prompts}})
    return folder
