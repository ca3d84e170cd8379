"""A comparison as a person reads it in the terminal, with what its numbers do and do not speak of."""

from collections import Counter
from statistics import mean, stdev

from palenka.evaluation.comparison import RESAMPLES, SEED, ItemDifference, SeedDifference
from palenka.report.compare_runs import Comparison, TaskComparison
from palenka.report.results import Run
from palenka.util.tables import text_table
from palenka.util.text import WIDTH, listed, percent, wrapped

SIGNIFICANT = 0.05
FEW_ITEMS = 20
NORMAL_P = "from its paired standard error under a normal distribution"
NOUNS = {"tasks": "task", "fields": "field", "phenomena": "phenomenon", "subtasks": "subtask"}


def terminal_text(found: Comparison, show_all: bool) -> str:
    """Tasks, seeds, then what within the tasks differs; at most 100 columns wide."""
    parts = [
        "\n".join([*_sides(found), f"Accuracy in percent, ties count half; A − B in points; {_protocols(found)}."]),
        text_table(_task_rows(found), width=WIDTH),
        "\n".join(wrapped(text) for text in _seeds(found)),
        *(text_table(rows, width=WIDTH) for rows in [_seed_rows(found)] if len(rows) > 1),
        *(_breakdown(found, task, show_all) for task in found.tasks),
        "\n".join(wrapped(text) for text in _notes(found)),
    ]
    return "\n\n".join(part for part in parts if part)


def _sides(found: Comparison) -> list[str]:
    return [wrapped(f"{side}  {', '.join(map(_named, runs))}") for side, runs in (("A", found.a), ("B", found.b))]


def _named(run: Run) -> str:
    return run.label if run.seed is None else f"{run.label} (seed {run.seed})"


def _protocols(found: Comparison) -> str:
    return f"protocol {listed(sorted({task.protocol for task in found.tasks}))}"


def signed(value: float) -> str:
    """Percentage points with their sign; none at zero."""
    points = round(100 * value, 2)
    return f"{points:+.2f}".replace("-", "−") if points else "0.00"


def interval(found: ItemDifference | SeedDifference) -> str:
    return f"{signed(found.low)} … {signed(found.high)}"


def p_value(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _task_rows(found: Comparison) -> list[list[str]]:
    tests = ["McNemar"] if found.single_runs else []
    rows = [["over items", "A", "B", "A − B", "95 % interval", "Holm p", "A ahead", "B ahead", *tests]]
    for task in found.tasks:
        whole = task.whole
        rows.append(
            [
                task.task, percent(whole.a), percent(whole.b), signed(whole.difference), interval(whole),
                p_value(found.holm["tasks", task.task, task.task]), f"{whole.a_ahead:,}", f"{whole.b_ahead:,}",
                *(p_value(found.holm["mcnemar", task.task, task.task]) for _ in tests),
            ]
        )  # fmt: skip
    return rows


def _seed_rows(found: Comparison) -> list[list[str]]:
    """Empty but for its head where no task allows a statement over seeds."""
    heads = (f"{side}, {len(runs)} seeds" for side, runs in (("A", found.a), ("B", found.b)))
    rows = [["over seeds", *heads, "A − B", "95 % interval", "df"]]
    for task in found.tasks:
        if task.seeds is not None:
            sides = (f"{percent(mean(side))} ±{percent(stdev(side))}" for side in (task.a, task.b))
            difference = f"{signed(task.seeds.difference)} ±{percent(task.seeds.stderr)}"
            rows.append([task.task, *sides, difference, interval(task.seeds), f"{task.seeds.freedom:.1f}"])
    return rows


def _seeds(found: Comparison) -> list[str]:
    alone = [side for side, runs in (("A", found.a), ("B", found.b)) if len(runs) == 1]
    if alone:
        who = "A and B have one seed each" if len(alone) == 2 else f"{alone[0]} has one seed"
        return [f"{who}: no statement over seeds is possible; trained with other seeds, they may compare otherwise."]
    texts = [
        "Over seeds: mean ± standard deviation, A − B ± standard error, Welch's t interval. It speaks of other seeds "
        "on these very items, and takes accuracies to be normally distributed over seeds."
    ]
    constant = [task.task for task in found.tasks if task.seeds is None]
    if constant:
        texts.append(f"{listed(constant)}: every seed of a side has the same accuracy, so no statement over seeds.")
    return texts


def _breakdown(found: Comparison, task: TaskComparison, show_all: bool) -> str:
    """A line of how many parts differ, and a table of those, or of all."""
    rows = [[task.task, "A", "B", "A − B", "95 % interval", "Holm p"]]
    counts = []
    for kind, parts in task.parts.items():
        corrected = {name: found.holm[kind, task.task, name] for name in parts}
        counts.append(f"{sum(p < SIGNIFICANT for p in corrected.values())} of {len(parts)} {kind}")
        shown = [name for name, p in corrected.items() if show_all or p < SIGNIFICANT]
        if shown:
            rows.append([f"{kind}:", *[""] * 5])
        for name in sorted(shown, key=lambda name: -parts[name].difference):
            part = parts[name]
            cells = [percent(part.a), percent(part.b), signed(part.difference), interval(part)]
            rows.append([name, *cells, p_value(corrected[name])])
    summary = wrapped(f"{task.task}: Holm p below {SIGNIFICANT} for {listed(counts)}.")
    return f"{summary}\n\n{text_table(rows, width=WIDTH)}" if len(rows) > 1 else summary


def _notes(found: Comparison) -> list[str]:
    notes = [
        f"Interval over items: paired bootstrap, {RESAMPLES:,} resamples within subtasks (seed {SEED}). It "
        "speaks of other items of these subtasks for these runs, not of other seeds; A − B weighs subtasks equally.",
        *_tests(found),
        f"Every p is two-sided and corrected by Holm's method for all of its kind, shown or not ({_families(found)}); "
        "intervals are not corrected.",
        "A difference that is not significant may still be there; these tests do not show that A and B are equal.",
    ]
    small = [name for task in found.tasks for name, part in task.parts["subtasks"].items() if part.items < FEW_ITEMS]
    if small:
        notes.append(f"Fewer than {FEW_ITEMS} items, so that intervals are too narrow: {listed(small)}.")
    if any(task.task.startswith("ewok_filtered") for task in found.tasks):
        notes.append("EWoK holds each item twice, with the targets swapped: the two are counted as one, their mean.")
    if found.omitted:
        notes.append(f"Left out, since not all runs were evaluated on it: {listed(found.omitted)}.")
    return notes


def _tests(found: Comparison) -> list[str]:
    if found.single_runs:
        return [
            "A ahead, B ahead: discordant items, on which that side does better (a tie is half a point, so a tie of "
            "one side only is discordant). McNemar: exact test of these counts. It weighs items equally, not subtasks, "
            "and can point elsewhere than A − B where large subtasks differ from small ones.",
            f"Holm p: of A − B; {NORMAL_P}, for a single subtask exact McNemar.",
        ]
    return [
        "A ahead, B ahead: items on which that side's mean over its runs is higher.",
        f"Holm p: of A − B over items, not over seeds; {NORMAL_P}.",
    ]


def _families(found: Comparison) -> str:
    sizes = Counter(kind for kind, _, _ in found.holm)
    return ", ".join(
        f"{sizes[kind]} {noun if sizes[kind] == 1 else kind}" for kind, noun in NOUNS.items() if sizes[kind]
    )
