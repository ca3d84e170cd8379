"""What each run took, in tables: words of text, FLOPs and time."""

from collections import defaultdict

from palenka.report.cells import Cell, Column, Row, Table
from palenka.report.results import Result, Run, Words
from palenka.util.text import duration, listed

COST = (
    "FLOPs of matrix products, counted of models, batches and steps, not measured; without dev evaluations. Teachers' "
    "passes are the run's as if it had been trained alone: students of a grid share them. Teachers' trainings are all "
    "that led to them, each once, whether they were made for this run or not. Time is the wall clock's, of each "
    "process. Energy is not measured but estimated, that time by rated power: a GPU's limit, and 12 W for a thread of "
    "any CPU (Green Algorithms, 10.1002/advs.202100707); without memory, the rest of the machine, and cooling."
)
WORDS = (
    "A text is known by its content and counts once, whoever learned from it. BabyLM allows 10M (strict-small) or 100M "
    "words (strict), and ten epochs."
)


def cost_table(runs: list[Run]) -> Table | None:
    """FLOPs and time of each finished run; None where none has FLOPs on record."""
    if not any(run.cost for run in runs):
        return None
    columns = [
        Column("seconds", "time", "of each process"),
        Column("energy", "energy", "Wh, estimated"),
        Column("own", "its training", "FLOPs"),
        Column("passes", "teachers' passes", "FLOPs"),
        Column("trainings", "teachers' trainings", "FLOPs"),
        Column("total", "in all", "FLOPs"),
    ]
    rows = [Row(run.label, _cost(run, run.result), index) for index, run in enumerate(runs) if run.result]
    return Table(columns, rows, notes=[*_cost_notes(runs)])


def _cost(run: Run, result: Result) -> dict[str, Cell]:
    cells, cost = {"seconds": Cell(duration(result.seconds))}, run.cost
    if run.energy is not None:
        cells["energy"] = Cell(f"{run.energy:,.2f}" if run.energy < 10 else f"{run.energy:,.0f}")
    if cost is None:
        return cells
    at_least = "≥ " if cost.unknown else ""
    cells |= {"own": Cell(flops(cost.student)), "total": Cell(at_least + flops(cost.total))}
    if cost.teachers:
        cells["passes"] = Cell(flops(cost.teachers))
    if cost.trainings or cost.unknown:
        cells["trainings"] = Cell(at_least + flops(cost.of_trainings))
    return cells


def flops(number: float) -> str:
    """`1.23e12`."""
    digits, exponent = f"{number:.2e}".split("e")
    return f"{digits}e{int(exponent)}"


def _cost_notes(runs: list[Run]) -> list[str]:
    finished = [run for run in runs if run.result]
    without = [run.label for run in finished if run.cost is None]
    recorded = [run.label for run in finished if run.recorded]
    hosts = sorted({str(run.environment["host"]) for run in finished if run.environment.get("host")})
    notes = []
    if without:
        notes.append(f"No FLOPs on record: {listed(without)}; the training, started again, only writes them.")
    if recorded:
        notes.append(f"Teachers' logits were read from a cache, whose making is not counted: {listed(recorded)}.")
    if len(hosts) > 1:
        notes.append(f"Times are of different machines ({listed(hosts)}) and do not compare.")
    for run in finished:
        unknown = run.cost.unknown if run.cost else {}
        notes += [f"{run.label}: what training {name} cost is not known ({why})." for name, why in unknown.items()]
    return notes


def words_table(runs: list[Run]) -> Table | None:
    """Words that each run learned from and saw, and the tracks of BabyLM that it is eligible for.

    None where no run is finished, or all are from before words were counted.
    """
    counted = [(index, run, run.result, run.result.ledger) for index, run in enumerate(runs)
               if run.result and run.result.ledger]  # fmt: skip
    if not counted:
        return None
    tracks = list(dict.fromkeys(track for *_, ledger in counted for track in ledger.not_eligible))
    columns = [
        Column("text", "its text", "words"),
        Column("teachers", "besides, of teachers", "words"),
        Column("unique", "all text", "words, each text once"),
        Column("seen", "seen", "words"),
        Column("epochs", "epochs"),
        *(Column(track, track, "eligible") for track in tracks),
    ]
    rows = [Row(run.label, _words(result, ledger), index) for index, run, result, ledger in counted]
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for _, run, _, ledger in counted:
        for track, why in ledger.not_eligible.items():
            if why:
                reasons[track, listed(why)].append(run.label)
    notes = [f"Not eligible for {track}: {listed(labels)}: {why}." for (track, why), labels in reasons.items()]
    return Table(columns, rows, notes=notes)


def _words(result: Result, ledger: Words) -> dict[str, Cell]:
    at_least = "≥ " if ledger.unknown else ""
    besides = ledger.unique_words - ledger.own_words
    figures = {"text": f"{ledger.own_words:,}", "teachers": f"{at_least}{besides:,}",
               "unique": f"{at_least}{ledger.unique_words:,}", "seen": f"{result.words:,}",
               "epochs": f"{result.epochs:g}"}  # fmt: skip
    verdicts = {track: "no" if why else "yes" for track, why in ledger.not_eligible.items()}
    return {key: Cell(text) for key, text in (figures | verdicts).items()}
