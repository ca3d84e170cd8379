"""What the challenge collects of a run's milestones on the fast sets, made from result files alone.

It is the part `fast_eval_results` of the collected predictions of 2025 and 2026; what of it is missing is said beside.
"""

from pathlib import Path

from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.protocols import PROTOCOLS
from palenka.evaluation.results import read_result
from palenka.evaluation.tasks.reading import READING
from palenka.evaluation.ways import ways_of
from palenka.paradigms._learned import learned
from palenka.runs.milestones import TRACKS, milestone_name

READING_NAMES = {"self_paced": "spr", "eye_tracking": "rt"}


def fast_eval_results(
    run: Path, protocol: str, track: str, way: str | None = None
) -> tuple[dict[str, list[dict[str, float] | None]], list[str]]:
    """Accuracies of a run's milestones on the fast sets, and what is missing.

    A tie counts half: what the pipeline of 2026, which draws one of the equals, gives on average.

    Args:
        run: its folder.
        protocol: "2025" or "2026".
        track: whose milestones are wanted.
        way: of asking; default the first that the model learned.

    Returns:
        {task: for each milestone of the track {subtask: accuracy}, or None where there is no result}, as the collected
        predictions hold it; and a sentence for each result that is missing, of other weights, or of fewer items.
    """
    rules, missing = PROTOCOLS[protocol], []
    found: dict[str, list[dict[str, float] | None]] = {task.key: [] for task in rules.fast.values()}
    for name in map(milestone_name, TRACKS[track]):
        folder = run / "revisions" / name
        model = EvaluatedModel.find(str(folder)) if folder.is_dir() else None
        if model is None:
            missing.append(f"fast evaluation: no milestone {name}, which track {track} wants")
        for task, official in rules.fast.items():
            figures, problem = _fast_result(model, protocol, task, official.items, way) if model else (None, None)
            found[official.key].append(figures)
            missing += [problem] if problem else []
    return found, missing


def _fast_result(
    model: EvaluatedModel, protocol: str, task: str, items: int, way: str | None
) -> tuple[dict[str, float] | None, str | None]:
    """Accuracies by subtask of one milestone; and what is wrong with them."""
    asked = ways_of(model.folder, learned(model.folder).part_names, way and [way])[0]
    path = model.results(protocol, asked.folder) / f"{task}.json"
    if not path.exists():
        return None, f"fast evaluation: {path}: missing: palenka evaluate --fast makes it"
    result = read_result(path)
    if result["identity"].get("model") != model.fingerprint:
        return None, f"fast evaluation: {path}: of other weights, or another tokenizer"
    problem = f"fast evaluation: {path}: {result['n']:,} items, of {items:,}" if result["n"] != items else None
    key = PROTOCOLS[protocol].fast[task].key
    if task == READING:
        return {READING_NAMES[name]: of["value"] for name, of in result["scores"].items()}, problem
    if "scores" in result:
        return {key: result["scores"]["spearman"]["value"]}, problem
    if key.startswith("global_piqa"):  # one file, called by its language
        return {key: result["accuracy"]}, problem
    return {name: of["accuracy"] for name, of in result["subtasks"].items()}, problem
