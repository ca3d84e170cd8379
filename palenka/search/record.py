"""search.json: where the trials of a search stand, for people and for what only looks."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from palenka.util.files import read_object
from palenka.util.tables import text_table
from palenka.util.text import NOTHING, count

FILE = "search.json"
OPTIMISM = (
    "The search's own figure of the best is the least of many, and so too good; dev loss with other seeds is better\n"
    "founded, and test loss chose nothing. In nats per token; ± is one standard error over seeds."
)
RULE = "Ranked by dev cross-entropy alone, the best step of each; one seed each."


def read_search(folder: Path) -> dict[str, Any] | None:
    """Of a search's folder; None before it has begun. Raises UserError: it is damaged."""
    path = folder / FILE
    return read_object(path) if path.exists() else None


def trials_are_done(record: Mapping[str, Any]) -> bool:
    """Whether all trials that were asked for have an outcome."""
    return len(record["trials"]) == record["asked"] and not states(record)["running"]


def is_done(record: Mapping[str, Any] | None) -> bool:
    """Whether all trials have an outcome, and the finalists, too."""
    return record is not None and trials_are_done(record) and not any(map(_waits, record.get("finalists", ())))


def _waits(finalist: Mapping[str, Any]) -> bool:
    return bool(finalist["state"] == "waiting")


def states(record: Mapping[str, Any]) -> Counter[str]:
    """How many trials are running, finished, pruned, diverged, refused."""
    return Counter(str(trial["state"]) for trial in record["trials"])


def ranked(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are finished by their rank, from 1; then the others."""
    finished = sorted((each for each in trials if "dev" in each), key=lambda each: float(each["dev"]["cross_entropy"]))
    others = [each | {"rank": None} for each in trials if "dev" not in each]
    return [each | {"rank": rank} for rank, each in enumerate(finished, start=1)] + others


def headline(record: Mapping[str, Any]) -> str:
    """How far a search is, in a line."""
    counts, best = states(record), record["trials"][:1]
    done = len(record["trials"]) - counts["running"]
    others = [f"{number} {state}" for state, number in counts.items() if state != "finished"]
    text = ", ".join([f"{record['name']}: {done} of {record['asked']} trials are done", *others])
    if record.get("budget"):
        text += f", {record['flops']:.3g} of {record['budget']:.3g} FLOPs"
    if best and best[0]["rank"]:
        text += f"; best {best[0]['dev']['cross_entropy']:.4f} nats per token, trial {best[0]['number']:03d}"
    return text


def search_table(record: Mapping[str, Any]) -> str:
    """The whole of it as lines."""
    axes, trials = list(record["axes"]), record["trials"]
    rows = [["rank", "trial", "nats/token", "bits/byte", *axes]]
    for trial in trials:
        dev = trial.get("dev") or {}
        losses = [f"{dev[key]:.4f}" if key in dev else NOTHING for key in ("cross_entropy", "bits_per_byte")]
        losses = losses if dev else [_fate(trial), NOTHING]
        values = [str(trial["values"].get(key, NOTHING)) for key in axes]
        rows.append([str(trial["rank"] or NOTHING), f"{trial['number']:03d}", *losses, *values])
    left = states(record)["running"]
    reasons = [f"trial {each['number']:03d}: {each['reason']}" for each in trials if "reason" in each]
    if left:
        reasons.append(f"{left} running: with other workers, or left by some; the same command goes on with those")
    lines = [headline(record), text_table(rows, left=2), *reasons, RULE]
    return "\n".join([*lines, *(finalists_table(record) if trials_are_done(record) else [])])


def finalists_table(record: Mapping[str, Any]) -> list[str]:
    """The finalists as lines, if there are any: what the best are worth beside the run without the search."""
    finalists = record.get("finalists") or []
    ranked_trials = [trial for trial in record["trials"] if trial["rank"]]
    found = {trial["run"].rpartition("/")[2]: trial["dev"]["cross_entropy"] for trial in ranked_trials}
    rows = [["finalist", "in the search", "dev", "test", "seeds"]]
    for of in dict.fromkeys(each["of"] for each in finalists):
        runs = [each for each in finalists if each["of"] == of and "dev" in each]
        figures = [_over_seeds([run[split] for run in runs if split in run]) for split in ("dev", "test")]
        rows.append([of, f"{found[of]:.4f}" if of in found else NOTHING, *figures, str(len(runs))])
    waiting = sum(map(_waits, finalists))
    left = [f"{count(waiting, 'finalist')} still to be trained"] if waiting else []
    return ["", text_table(rows), *left, OPTIMISM] if finalists else []


def _over_seeds(losses: Sequence[float]) -> str:
    """Mean and standard error."""
    if len(losses) < 2:
        return f"{losses[0]:.4f}" if losses else NOTHING
    return f"{mean(losses):.4f} ± {stdev(losses) / math.sqrt(len(losses)):.4f}"


def _fate(trial: Mapping[str, Any]) -> str:
    """What is in place of a loss: the state; of one that was pruned, its last loss, too."""
    return f"{trial['loss']:.4f} at {trial['share']:.0%}" if "loss" in trial else str(trial["state"])
