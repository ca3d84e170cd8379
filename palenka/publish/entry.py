"""A submission to the challenge, whole: predictions of a model and its milestones, and the form.

    <out>/<model>/main/zero_shot/<way>/…       the whole sets        <out>/<model>/main/finetune/<task>/    GLUE
    <out>/<model>/chck_1M/zero_shot/<way>/…    the fast sets, of each milestone that the track wants
    <out>/<model>/submission.json, .md         the form, whether the folder is complete, and what is missing

It is called complete only if the year's own collate script would find nothing missing; what is, is named.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palenka.data.published import FILES
from palenka.evaluation.acquisition import Followed, score, surprisals
from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.official.submission import NothingToSubmitError, Written, write_2024, write_predictions
from palenka.evaluation.results import read_result
from palenka.evaluation.tasks.acquisition import PUBLISHED
from palenka.finetuning.results import read_predictions, recipe_folder, result_path
from palenka.publish.form import form_of, form_text
from palenka.runs.milestones import MILESTONES, TRACKS, milestone_name
from palenka.util.errors import UserError
from palenka.util.files import make_folder, require_writable, write_json, write_text


@dataclass(frozen=True)
class Entry:
    """What is asked for.

    model: a run's name, another model folder, or the folder of its results elsewhere.
    form: "2024", "2025" or "2026"; the scores are those of the protocol of this name.
    out: the file to write for 2024, else the folder to write into.
    data: folder of tasks; default `PALENKA_EVAL`.
    way: of asking; default the first that the model learned.
    track: whose milestones are wanted; None: no milestones, and no complete submission.
    recipe: of fine-tuning, by name; default the year's.
    seed: of fine-tuning.
    """

    model: str
    form: str
    out: Path
    data: Path | None = None
    way: str | None = None
    track: str | None = None
    recipe: str | None = None
    seed: int = 0


def submit(entry: Entry) -> None:
    """Write what can be submitted of a model, and say what a complete submission still needs.

    Raises:
        UserError: see `palenka.evaluation.official.submission`.
    """
    out, data, way, track = entry.out, entry.data, entry.way, entry.track
    if entry.form == "2024" and not out.name.endswith(".json.gz"):
        raise UserError(f"--out {out}: a submission of 2024 is a file; its name ends in .json.gz")
    require_writable(out.parent if entry.form == "2024" else out)
    model = EvaluatedModel.find(entry.model)
    if entry.form == "2024":
        written = write_2024(model, out, data, way)
        _tell(written, [*written.missing, "glue: GLUE is not among the predictions"])
        return
    written = write_predictions(model, entry.form, out, data, way)
    missing = [f"main: {what}" for what in written.missing]
    place = written.folder.parents[1]  # main, or that of a milestone which is submitted by itself
    missing += _glue(entry, model, place / "finetune")
    if track is None:
        missing.append("milestones: --track strict-small or --track strict says which are wanted")
    else:
        missing += [*_ages(entry, track, written), *_milestones(entry, track, model)]
    _write_form(model.folder, place.parent if place.name == "main" else place, entry.form, track, missing)
    _tell(written, missing)
    print(f"  for the pipeline's collate_preds: --results_dir {out} --model_path_or_name {written.name}"
          f" --backend {written.folder.name}{f' --track {track}' if track else ''} --fast")  # fmt: skip


def _glue(entry: Entry, model: EvaluatedModel, place: Path) -> list[str]:
    """Write what classifiers answer; what is missing of it."""
    missing, absent, recipe = [], [], entry.recipe or entry.form
    sizes = {file.removesuffix(".valid"): items for file, items in FILES["glue_filtered"].items()}
    for task, items in sizes.items():
        path = result_path(recipe_folder(model.home, recipe), task, entry.seed)
        if not path.exists():
            absent.append(task)
            continue
        try:
            records = read_predictions(model.home, recipe, task, entry.seed)
        except UserError as problem:
            missing.append(f"GLUE: {problem}")
            continue
        if read_result(path)["identity"]["model"] != model.fingerprint:
            missing.append(f"GLUE: {task}: the classifier was made of other weights, or with another tokenizer")
            continue
        if len(records) != items:
            missing.append(f"GLUE: {task}: {len(records):,} items, of {items:,}")
        made = [{"id": record["id"], "pred": record["predicted"]} for record in records]
        make_folder(place / task)
        write_text(place / task / "predictions.json", json.dumps({task: {"predictions": made}}))
    if absent:
        tasks = f" --tasks {','.join(absent)}" if len(absent) < len(sizes) else ""
        command = f"palenka finetune {model.home} --recipe config/finetuning/{recipe}.yaml{tasks} --seeds {entry.seed}"
        missing.append(f"GLUE: no predictions of {', '.join(absent)}; {command} makes them")
    return missing


def _ages(entry: Entry, track: str, written: Written) -> list[str]:
    """Write surprisals of words and the score of their ages; what is missing of them."""
    place = written.folder / "AoA_word"
    try:
        followed = Followed.find(entry.model, entry.form, entry.data, entry.way, track)
        found, of_ages = surprisals(followed, written.name), score(followed)
    except UserError as problem:
        return [f"ages of acquisition: {problem}"]
    make_folder(place)
    write_text(place / "surprisal.json", json.dumps(found))
    write_text(place / "aoa_score.json", json.dumps(of_ages))
    there, wanted = len(found["results"]), PUBLISHED[1] * len(TRACKS[track])
    return [] if there == wanted else [f"ages of acquisition: {there:,} surprisals, of {wanted:,}"]


def _milestones(entry: Entry, track: str, run: EvaluatedModel) -> list[str]:
    """Write the predictions of a run's milestones; what is missing of them, each thing once for all that lack it."""
    place, names = run.folder / MILESTONES, [milestone_name(words) for words in TRACKS[track]]
    absent = [name for name in names if not (place / name).is_dir()]
    lacking: dict[str, list[str]] = {}
    for name in (name for name in names if name not in absent):
        try:
            milestone = run.milestone(name)
            lacks = write_predictions(milestone, entry.form, entry.out, entry.data, entry.way, fast=True).missing
        except NothingToSubmitError as problem:
            lacks = [problem.reason]
        except UserError as problem:
            lacks = [str(problem)]
        for what in lacks:
            lacking.setdefault(what, []).append(name)
    missing = [f"milestones: there is no {', '.join(absent)} in {place}"] if absent else []
    return missing + [f"{', '.join(of)}: {what}" for what, of in lacking.items()]


def _write_form(folder: Path, place: Path, form: str, track: str | None, missing: list[str]) -> None:
    fields: dict[str, Any] = {"model": place.name}
    if track and (folder / "result.json").exists():
        fields = form_of(folder, track)
    write_json(place / "submission.json", {"format": form, "complete": not missing, "missing": missing, "form": fields})
    write_text(place / "submission.md", form_text(fields, missing))


def _tell(written: Written, missing: list[str]) -> None:
    print(f"{written.folder}: {', '.join(written.tasks)}")
    for what in missing:
        print(f"  incomplete: {what}")
    if not missing:
        print("  complete")
