"""Ages of acquisition of a run: its milestones' surprisals of words, and whether it learns in children's order.

    revisions/chck_1M/evaluation/2026/aoa.json (.items.jsonl)   surprisals of one milestone, as of any other task
    evaluation/2026/acquisition.json (.items.jsonl)             of the run: correlations; a record of each word

Of the run the two figures are r of models' and children's ages with p and n, never r alone:

    pipeline      over all words with an age, as the challenge computes it from the words in milestones' names
    determined    over those whose curve determines their age (`learning_curves.py`), from the words that the run's
                  record says were seen, with a 95 % interval

The challenge's score is the pipeline's r, and 0 where p > 0.1.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from palenka.evaluation.evaluate import OWN_SCORER, VERSION, Evaluator, Scorers, Texts
from palenka.evaluation.items import Records
from palenka.evaluation.learning_curves import FEWEST, Age, child_age, correlation, model_age
from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.results import read_records, read_result, write_records
from palenka.evaluation.tasks import read_task
from palenka.evaluation.tasks.acquisition import Acquisition
from palenka.evaluation.ways import Way, ways_of
from palenka.models.huggingface import SAFELY
from palenka.paradigms._learned import learned
from palenka.runs.milestones import TRACKS, Milestone, milestones_of, missing_of
from palenka.runs.records import read_log
from palenka.util.errors import UserError
from palenka.util.files import write_json
from palenka.util.paths import evaluation_root
from palenka.util.tables import text_table

FOLDER, RESULT = "aoa", "acquisition"


@dataclass(frozen=True)
class Followed:
    """A run, the milestones of it that are followed, and how they are asked."""

    run: EvaluatedModel
    milestones: list[Milestone]
    task: Acquisition
    protocol: str
    way: str

    @classmethod
    def find(
        cls, run: str, protocol: str, data: Path | None = None, way: str | None = None, track: str | None = None,
        out: Path | None = None,
    ) -> "Followed":
        """What is to be followed of a run.

        Args:
            run: its name, or its folder.
            protocol: how words and contexts become tokens.
            data: folder of tasks; default `PALENKA_EVAL`.
            way: of asking; default the first that the model learned.
            track: whose milestones are followed, all of which must be there; default all that the run left.
            out: folder for results, each model's in one of its name; default where the run's are.

        Raises:
            UserError: too few milestones, one that the track wants is missing, no words, or no such way.
        """
        model = EvaluatedModel.find(run)
        milestones = milestones_of(model.folder, read_log(model.folder / "metrics.jsonl").records)
        if track and (missing := missing_of(milestones, track)):
            raise UserError(
                f"{model.folder}: track {track} wants {len(TRACKS[track])} milestones, and there is no "
                f"{', '.join(missing)}; evaluation.words: {track} in a run's config leaves them"
            )
        if track:
            milestones = [milestone for milestone in milestones if milestone.words in TRACKS[track]]
        if len(milestones) < FEWEST:
            raise UserError(
                f"{model.folder}: {len(milestones)} milestones in revisions/, and a curve needs {FEWEST} and more; "
                "evaluation.words in a run's config says when they are left"
            )
        task = read_task((data or evaluation_root()) / FOLDER)
        if not isinstance(task, Acquisition):
            raise UserError(f"{(data or evaluation_root()) / FOLDER}: holds no words in contexts, but another task")
        asked = _way(model, way)
        if len(asked.parts) > 1:
            raise UserError(f"{model.folder}: --way {asked.name}: its scores are no surprisals; give one of its parts")
        if out:
            for each in (*(model.milestone(milestone.name) for milestone in milestones), model):
                each.place_results(out)
        return cls(model, milestones, task, protocol, asked.name)

    @property
    def result(self) -> Path:
        """The file of the run's figures."""
        return self.run.results(self.protocol, _way(self.run, self.way).folder) / f"{RESULT}.json"

    def measure(self) -> tuple[list[Records], Records]:
        """Records of each milestone, and of the model that the run ended as; what is known is not measured again."""
        texts: Texts = {}
        models = [*(self.run.milestone(milestone.name) for milestone in self.milestones), self.run]
        *of_milestones, last = [self._records(model, texts) for model in models]
        return of_milestones, last

    def _records(self, model: EvaluatedModel, texts: Texts) -> Records:
        way = _way(model, self.way)
        evaluator = Evaluator(model, self.protocol, OWN_SCORER, texts, way, Scorers(model.folder))
        [result] = evaluator.results([self.task])
        return read_records(self._path(model), result, self.task.derive)

    def known(self) -> list[Records]:
        """Records of each milestone that were measured before.

        Raises:
            UserError: of a milestone there are none, or of other weights or items.
        """
        return [self._known(self.run.milestone(milestone.name)) for milestone in self.milestones]

    def _known(self, model: EvaluatedModel) -> Records:
        path = self._path(model)
        if not path.exists():
            raise UserError(f"{path}: missing: palenka acquisition measures it")
        result = read_result(path)
        if (result["identity"].get("model"), result["identity"].get("items")) != (model.fingerprint, self.task.digest):
            raise UserError(f"{path}: of other weights or items than are there now: palenka acquisition measures anew")
        return read_records(path, result, self.task.derive)

    def _path(self, model: EvaluatedModel) -> Path:
        return model.results(self.protocol, _way(model, self.way).folder) / f"{self.task.name}.json"


def _way(model: EvaluatedModel, name: str | None) -> Way:
    return ways_of(model.folder, learned(model.folder).part_names, name and [name])[0]


def follow(followed: Followed) -> dict[str, Any]:
    """Measure a run's milestones, find the ages of words, write both and return the run's result."""
    task, run = followed.task, followed.run
    of_milestones, last = followed.measure()
    curves = np.array([task.means(records) for records in of_milestones]).T
    tokenizer = AutoTokenizer.from_pretrained(run.folder, **SAFELY)
    lengths = token_counts(task.vocabulary, tokenizer)
    ages = word_ages(task, followed.milestones, curves.tolist(), lengths, math.log(tokenizer.vocab_size))
    records = [record | {"last": value} for record, value in zip(ages, task.means(last).tolist(), strict=True)]
    result = {
        "task": RESULT,
        "convention": followed.protocol,
        **_way(run, followed.way).said,
        "milestones": [
            {"name": one.name, "words": one.words, "seen": one.seen, "surprisal": value}
            for one, value in zip(followed.milestones, curves.mean(0).tolist(), strict=True)
        ],
        "last": float(task.means(last).mean()),
        "scores": {},
        **figures(records),
        "identity": {"model": run.fingerprint, "items": task.digest, "version": VERSION},
    }
    write_records(followed.result, records)
    write_json(followed.result, result)
    return result


def token_counts(words: Sequence[str], tokenizer: Any) -> list[int]:
    """How many tokens each word is behind another, at least one."""
    before = len(tokenizer("The", add_special_tokens=False)["input_ids"])
    whole = tokenizer([f"The {word}" for word in words], add_special_tokens=False)["input_ids"]
    return [max(1, len(ids) - before) for ids in whole]


def word_ages(
    task: Acquisition,
    milestones: Sequence[Milestone],
    curves: Sequence[Sequence[float]],
    lengths: Sequence[int],
    guessing: float,
) -> Records:
    """A record of each word: its curve and its ages.

    Args:
        task: the words, and what children know of them.
        milestones: (points,)
        curves: (words, points) mean surprisals in nats.
        lengths: (words,) in tokens.
        guessing: the surprisal of a token that is guessed, in nats.
    """
    named, seen = [one.words for one in milestones], [one.seen for one in milestones]
    records = []
    for word, curve, length in zip(task.vocabulary, curves, lengths, strict=True):
        as_pipeline = model_age(named, curve, length * guessing)
        own = as_pipeline if named == seen else model_age(seen, curve, length * guessing)
        shares = task.children.get(word)
        records.append({
            "word": word, "tokens": length, "ceiling": length * guessing, "surprisals": list(curve),
            "child": None if shares is None else child_age(task.months, shares),
            "pipeline": as_pipeline and as_pipeline.value, **_age(own),
        })  # fmt: skip
    return records


def _age(age: Age | None) -> dict[str, Any]:
    if age is None:
        return {"age": None, "interval": None, "is_determined": False}
    interval = [age.low, age.high] if math.isfinite(age.high - age.low) else None
    return {"age": age.value, "interval": interval, "is_determined": age.is_determined}


def figures(records: Records) -> dict[str, Any]:
    """Both correlations, and why words are not in them, from records of words."""
    known = [record for record in records if record["child"] is not None]
    aged = [record for record in known if record["pipeline"] is not None]
    determined = [record for record in known if record["is_determined"]]
    pipeline = correlation([of["pipeline"] for of in aged], [of["child"] for of in aged])
    own = correlation([of["age"] for of in determined], [of["child"] for of in determined])
    return {
        "n": len(records),
        "pipeline": {"score": pipeline.score, "r": pipeline.r, "p": pipeline.p, "n": pipeline.n},
        "determined": asdict(own),
        "left_out": dict(Counter(reason for record in records if (reason := _reason(record)))),
    }


def _reason(record: dict[str, Any]) -> str | None:
    """Why a word is not among those whose ages are determined."""
    if record["child"] is None:
        return "children's age unknown"
    if record["age"] is None:
        return "no age"
    return None if record["is_determined"] else "age not determined"


def table(followed: Followed, result: dict[str, Any]) -> str:
    """The result as users read it."""
    track = next((f", as track {name} wants" for name, points in TRACKS.items()
                  if [one.words for one in followed.milestones] == list(points)), "")  # fmt: skip
    names = followed.milestones[0].name, followed.milestones[-1].name
    pipeline, own = result["pipeline"], result["determined"]
    rows = [
        ["ages of acquisition", "r", "95 % interval", "p", "words"],
        ["as the pipeline has them", f"{pipeline['r']:+.3f}", "", f"{pipeline['p']:.3g}", str(pipeline["n"])],
        ["those that curves determine", f"{own['r']:+.3f}", f"{own['low']:+.3f} … {own['high']:+.3f}",
         f"{own['p']:.3g}", str(own["n"])],
    ]  # fmt: skip
    reasons = {
        "children's age unknown": "known to half of the children at no age from 16 to 30 months",
        "no age": "never get halfway from guessing to their lowest surprisal, or are there at the first milestone",
        "age not determined": "have an age that their curve does not determine: its interval leaves the milestones",
    }
    lines = [f"{result['left_out'].get(reason, 0):6,} {text}" for reason, text in reasons.items()]
    return "\n".join([
        f"{followed.run.folder}   ({followed.protocol} protocol; {len(followed.milestones)} milestones, "
        f"{names[0]} … {names[1]}{track})",
        "",
        text_table(rows),
        "",
        f"score as the challenge takes it: {100 * pipeline['score']:.2f}"
        + ("" if pipeline["score"] else f" (0, for p = {pipeline['p']:.2g} is above 0.1)"),
        f"of {result['n']:,} words",
        *lines,
        *([f"not comparable with others: {followed.task.difference}"] if followed.task.difference else []),
    ])  # fmt: skip


# What the challenge collects of it


def surprisals(followed: Followed, name: str) -> dict[str, Any]:
    """`surprisal.json` as the pipeline writes it: milestones in order, in each the words, in each their contexts.

    Args:
        followed: a run, with the milestones of the track.
        name: what the model is called there.

    Raises:
        UserError: a milestone was not measured, or is no longer what was measured.
    """
    results = [
        {
            "step": milestone.name, "word_count": milestone.words, "target_word": record["word"],
            "context_id": record["context"], "context": context, "surprisal": record["surprisal"],
        }
        for milestone, records in zip(followed.milestones, followed.known(), strict=True)
        for record, context in zip(records, followed.task.contexts, strict=True)
    ]  # fmt: skip
    steps = len(followed.milestones)
    metadata = {"model_name": name, "use_bos_only": False, "total_steps": steps, "completed_steps": steps}
    return {"metadata": metadata, "results": results}


def score(followed: Followed) -> dict[str, float]:
    """`aoa_score.json`: r, or 0 where its p is above 0.1.

    Raises:
        UserError: the ages were not found, by other milestones than are followed, or of other weights or words.
    """
    path = followed.result
    if not path.exists():
        raise UserError(f"{path}: missing: palenka acquisition {followed.run.home} makes it")
    found = read_result(path)
    identity = found["identity"].get("model"), found["identity"].get("items")
    if identity != (followed.run.fingerprint, followed.task.digest):
        raise UserError(f"{path}: of other weights or items than are there now: palenka acquisition makes it anew")
    names = [one.name for one in followed.milestones]
    if [one["name"] for one in found["milestones"]] != names:
        raise UserError(
            f"{path}: is of {len(found['milestones'])} milestones, wanted are {len(names)}, {names[0]} … {names[-1]}: "
            "palenka acquisition --track finds the ages by those of a track"
        )
    return {"aoa": found["pipeline"]["score"]}
