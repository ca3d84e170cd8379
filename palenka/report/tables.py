"""The tables of a study, for the page and for the terminal, and what they let one say."""

import os
import textwrap
from collections import defaultdict
from statistics import mean, stdev

from palenka.finetuning.results import RecipeResults
from palenka.finetuning.results import notes as finetuning_notes
from palenka.report import comparison
from palenka.report.cells import Cell, Column, Row, Table
from palenka.report.comparison import BASELINES, Difference
from palenka.report.results import CrossEntropy, Run
from palenka.util.tables import text_table
from palenka.util.text import NOTHING, compact, count, duration, listed, percent, wrapped

TERMINAL_WIDTH = 120
HEAD_WIDTH = 12
BEST, BELOW = "*", "▽"
PREDICTIONS = (
    "How well people are predicted, in percent: Spearman's correlation with their preferences, or the share of the "
    "variance of their reading times that surprisal explains of what length, frequency and place leave; ± is one "
    "standard error."
)
FINETUNED = "Fine-tuned classifiers: ± is the standard deviation over seeds, where there are several."
LISTED_BESIDE = 2
"""Further students that a sentence names beside the best."""


def points(found: Difference) -> str:
    """A difference in percentage points with its standard error: `+1.20 ± 0.31`."""
    return f"{100 * found.value:+.2f} ± {percent(found.stderr)}".replace("-", "−")


def objective_text(run: Run) -> str:
    """`1 × hard_target + 0.5 × logit`, and by which paradigms unless it is the next token alone that is predicted."""
    knobs = run.config.get("objective") or {}

    def text(term: str) -> str:
        options = knobs[term] or {}
        summed, temperature = options.get("reduction") == "sequence_sum", options.get("temperature", 1)
        recorded = f" of a recorded {run.recorded}" if term == "logit" and run.recorded else ""
        at = f" at T = {temperature:g}" if temperature != 1 else ""
        return f"{run.weights[term]} × {term}{recorded}{at}" + (" summed over sequences" if summed else "")

    if run.learned == ["causal"]:
        return " + ".join(map(text, run.weights)) or "next-token cross-entropy"
    return f"{' + '.join(map(text, run.weights)) or 'cross-entropy'} by {listed(run.learned)}"


def teacher_labels(run: Run, runs: list[Run]) -> list[str]:
    """Teachers as the study calls them."""
    known = {key: other.label for other in runs for key in (other.name, str(other.folder))}
    return [known.get(teacher, teacher) for teacher in run.teachers]


def study_table(runs: list[Run]) -> Table:
    """The table of the study: one row per run, then the baselines."""
    tasks = comparison.task_names(runs)
    columns = [Column(task, task, "%") for task in tasks] + [
        Column("cross_entropy", "dev cross-entropy", "nats/token, bits/byte"),
        Column("parameters", "parameters", "all, without embeddings"),
        Column("words", "words seen"),
        Column("seconds", "time"),
    ]
    leaders = {task: comparison.leader(runs, task) for task in tasks}
    rows = [
        Row(
            head=run.label,
            cells={task: _accuracy(run, task, leaders[task]) for task in tasks} | _training(run),
            run=index,
            detail=_how(run, runs),
        )
        for index, run in enumerate(runs)
    ]
    return Table(columns, rows + _baseline_rows(runs, columns), notes=_notes(runs, tasks))


def _accuracy(run: Run, task: str, leader: Run | None) -> Cell:
    found = run.evaluations.get(task)
    if found is None:
        return Cell()
    return Cell(
        percent(found.accuracy),
        spread=percent(found.stderr),
        best=run is leader,
        below=tuple(comparison.below(found)),
    )


def _training(run: Run) -> dict[str, Cell]:
    result = run.result
    if result is None:
        return {}
    return {
        "cross_entropy": _loss(result.dev),
        "parameters": Cell(compact(result.parameters.total), second=compact(result.parameters.non_embedding)),
        "words": Cell(compact(result.words)),
        "seconds": Cell(duration(result.seconds)),
    }


def _how(run: Run, runs: list[Run]) -> tuple[str, ...]:
    teachers = teacher_labels(run, runs)
    lines = [f"{run.architecture} · {objective_text(run)}"]
    if teachers:
        lines.append(f"from {listed(teachers)}")
    if run.result is None:
        lines.append(f"not finished: {_reached(run)}")
    tasks = comparison.task_names(runs)
    absent = [task for task in tasks if task not in run.evaluations]
    if absent:
        lines.append(f"not evaluated on {'any of these tasks' if len(absent) == len(tasks) > 1 else listed(absent)}")
    return tuple(lines)


def _reached(run: Run) -> str:
    if run.pruned:
        return f"pruned at step {run.pruned.get('step', '?')}"
    if not run.metrics:
        return "nothing logged yet"
    last = run.metrics[-1]
    return f"last record at step {last.get('step', '?')}"


def _baseline_rows(runs: list[Run], columns: list[Column]) -> list[Row]:
    values: dict[str, dict[str, set[float]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        for task, evaluation in run.evaluations.items():
            for baseline, value in comparison.baselines(evaluation).items():
                values[baseline][task].add(value)
    blank = {column.key: Cell("") for column in columns}
    known = [name for name in BASELINES if name in values] + sorted(set(values) - set(BASELINES))
    return [
        Row(BASELINES.get(name, name), blank | {task: _range(found) for task, found in values[name].items()})
        for name in known
    ]


def _range(values: set[float]) -> Cell:
    low, high = percent(min(values)), percent(max(values))
    return Cell(low if low == high else f"{low}–{high}")


def _notes(runs: list[Run], tasks: list[str]) -> list[str]:
    notes = [*_missing(runs, tasks), *_mixed(runs, tasks), *_ties(runs, tasks)]
    if not comparison.same_dev_text(runs):
        has_bits = all(run.result.dev.bits_per_byte is not None for run in runs if run.result)
        of_bytes = ", bits per byte are" if has_bits else "; what is masked has no bits per byte"
        notes.append(f"What is predicted on dev differs between runs: nats per token are not comparable{of_bytes}.")
    return notes


def _missing(runs: list[Run], tasks: list[str]) -> list[str]:
    notes = [f"{run.label} is not finished ({_reached(run)})." for run in runs if run.result is None]
    if not tasks:
        notes.append("No run has been evaluated on minimal pairs yet.")
    return notes


def _mixed(runs: list[Run], tasks: list[str]) -> list[str]:
    notes = []
    for task in tasks:
        found = [run.evaluations[task] for run in runs if task in run.evaluations]
        if not comparison.all_comparable(runs, task):
            protocols = sorted({str(evaluation.protocol) for evaluation in found})
            reason = f"protocols {listed(protocols)}" if len(protocols) > 1 else "not the same items"
            notes.append(f"{task}: the runs were evaluated differently ({reason}), so none is marked.")
    return notes


def _ties(runs: list[Run], tasks: list[str]) -> list[str]:
    notes = []
    for task in tasks:
        ties = {run.label: run.evaluations[task].ties for run in runs if task in run.evaluations}
        tied = [f"{label} {number}" for label, number in ties.items() if number]
        if len(ties) > 1 and len(set(ties.values())) == 1 and tied:
            tied = [f"{next(iter(ties.values()))} in every run"]
        if tied:
            notes.append(f"Ties on {task} (counted half): {', '.join(tied)}.")
    return notes


def findings(runs: list[Run]) -> list[str]:
    """Sentences computed from the results: dev cross-entropy, what teachers were worth, leaders, baselines missed."""
    tasks = comparison.task_names(runs)
    of_tasks = (find(runs, task) for find in (_control_finding, _task_finding) for task in tasks)
    sentences = [_dev_finding(runs), *of_tasks, _below_finding(runs, tasks)]
    return [sentence for sentence in sentences if sentence]


def _dev_finding(runs: list[Run]) -> str:
    found = [(run.result.dev, run.label) for run in runs if run.result]
    if not found or any(dev.bits_per_byte is None for dev, _ in found):
        return ""  # losses of different paradigms do not compare
    place, unit = (0, "nats") if comparison.same_dev_text(runs) else (1, "bits per byte")
    losses = sorted(_losses_over_seeds(runs), key=lambda each: each[0][place])
    best, label = losses[0]
    sentence = f"{label} has the lowest dev cross-entropy" if len(losses) > 1 else f"Dev cross-entropy of {label}"
    sentence += f": {best[0]:.3f} nats per token, {best[1]:.3f} bits per byte"
    if len(losses) > 1:
        gap = f"{losses[1][0][place] - best[place]:.3f}"
        sentence += f", {gap} {unit} below {losses[1][1]}" if float(gap) else f", no different from {losses[1][1]}"
    return f"{sentence}."


def _losses_over_seeds(runs: list[Run]) -> list[tuple[tuple[float, float], str]]:
    """Mean dev losses (nats per token, bits per byte), and name, of runs that differ in more than their seed."""
    finished = [run for run in runs if run.result]
    groups = comparison.seed_groups(finished)
    alone = [[run] for run in finished if all(run is not other for group in groups for other in group)]
    found = []
    for group in [*groups, *alone]:
        losses = [run.result.dev for run in group if run.result]
        nats, bits = mean(dev.cross_entropy for dev in losses), mean(dev.bits_per_byte or 0.0 for dev in losses)
        found.append(((nats, bits), _group_name([run.label for run in group])))
    return found


def _group_name(labels: list[str]) -> str:
    """`kd-s (3 seeds)` of kd-s0, kd-s1 and kd-s2: what their names have in common."""
    common = os.path.commonprefix(labels).rstrip("-_/0123456789") or labels[0]
    return labels[0] if len(labels) == 1 else f"{common.removesuffix('-s')} ({len(labels)} seeds)"


def _control_finding(runs: list[Run], task: str) -> str:
    """`demo_pairs: beside the undistilled control, student-kd is 6.57 ± 0.73 points ahead.`"""
    beside: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for run in runs:
        control = comparison.control_of(run, runs)
        found = comparison.difference(run, control, task) if control else None
        if control and found:
            beside[control.label].append((-found.value, f"{run.label} is {_ahead(found)}"))
    parts = []
    for control_label, students in beside.items():
        best, *others = [text for _, text in sorted(students)]
        text = best if len(others) > LISTED_BESIDE else "; ".join([best, *others])
        of = f"the best of {len(students)} distilled, " if len(others) > LISTED_BESIDE else ""
        parts.append(f"beside the undistilled {control_label}, {of}{text}")
    return f"{task}: {'; '.join(parts)}." if parts else ""


def _ahead(found: Difference) -> str:
    """`6.57 ± 0.73 points ahead`, behind, or neither where the difference is within twice its standard error."""
    size = f"{percent(abs(found.value))} ± {percent(found.stderr)} points"
    if not found.clear:
        return f"neither ahead nor behind ({points(found)} points)"
    return f"{size} {'ahead' if found.value > 0 else 'behind'}"


def _task_finding(runs: list[Run], task: str) -> str:
    ranked = comparison.ranking(runs, task)
    pairs = comparison.differences(runs, task)
    ahead = comparison.difference(ranked[0], ranked[1], task) if len(ranked) > 1 else None
    if ahead is None or not comparison.all_comparable(runs, task):
        return ""
    clear = sum(found.clear for found in pairs.values())
    first, second = ranked[0].label, ranked[1].label
    if comparison.leader(runs, task):
        lead = f"{first} leads, {points(ahead).removeprefix('+')} points ahead of {second}"
    else:
        lead = f"no run leads ({first} against {second}: {points(ahead)} points)"
    exceed = "exceeds twice its" if clear == 1 else "exceed twice their"
    return f"{task}: {lead}; {clear or 'none'} of {count(len(pairs), 'pairwise difference')} {exceed} standard error."


def _below_finding(runs: list[Run], tasks: list[str]) -> str:
    missed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for task in tasks:
        for run in runs:
            names = comparison.below(run.evaluations[task]) if task in run.evaluations else []
            if names:
                missed[task, listed(names)].append(run.label)
    parts = [f"{listed(labels)} on {task} ({names})" for (task, names), labels in missed.items()]
    return f"Below a simple baseline: {'; '.join(parts)}." if parts else ""


def control_table(runs: list[Run]) -> Table | None:
    """Each distilled run minus its undistilled control; None where no run has one."""
    tasks = comparison.task_names(runs)
    rows = []
    for index, run in enumerate(runs):
        control = comparison.control_of(run, runs)
        if control is not None:
            cells = {task: _difference_cell(comparison.difference(run, control, task)) for task in tasks}
            rows.append(Row(run.label, cells | _loss_difference(run, control), index, (f"against {control.label}",)))
    columns = [Column(task, task, "points") for task in tasks]
    columns.append(Column("cross_entropy", "dev cross-entropy", "nats/token, bits/byte"))
    return Table(columns, rows) if rows else None


def _loss_difference(run: Run, control: Run) -> dict[str, Cell]:
    if run.result is None or control.result is None:
        return {}
    one, other = run.result.dev, control.result.dev
    if one.bits_per_byte is None or other.bits_per_byte is None:
        return {}
    nats = _signed(one.cross_entropy - other.cross_entropy) if comparison.same_dev_text([run, control]) else NOTHING
    return {"cross_entropy": Cell(nats, second=_signed(one.bits_per_byte - other.bits_per_byte))}


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _difference_cell(found: Difference | None) -> Cell:
    if found is None:
        return Cell()
    value, spread = points(found).split(" ± ")
    return Cell(value, spread=spread, best=found.clear)


def difference_tables(runs: list[Run]) -> list[Table]:
    """Per task: row minus column, in points, for every pair of runs; clear differences marked."""
    return [
        _difference_table(runs, task)
        for task in comparison.task_names(runs)
        if sum(task in run.evaluations for run in runs) > 1
    ]


def _difference_table(runs: list[Run], task: str) -> Table:
    evaluated = [(index, run) for index, run in enumerate(runs) if task in run.evaluations]
    columns = [Column(run.label, run.label) for _, run in evaluated[:-1]]
    blank = {column.key: Cell("") for column in columns}
    rows = []
    for place, (index, run) in enumerate(evaluated[1:], start=1):
        found = {
            other.label: _difference_cell(comparison.difference(run, other, task)) for _, other in evaluated[:place]
        }
        rows.append(Row(run.label, blank | found, index))
    return Table(columns, rows, name=task)


def seed_table(runs: list[Run]) -> Table | None:
    """Mean ± standard deviation over seeds, for runs that differ in nothing else."""
    groups = comparison.seed_groups(runs)
    if not groups:
        return None
    tasks = comparison.task_names(runs)
    columns = [Column("seeds", "seeds")] + [Column(task, task, "%") for task in tasks]
    columns.append(Column("cross_entropy", "dev cross-entropy", "nats/token"))
    return Table(columns, [_seed_row(group, tasks) for group in groups])


def _seed_row(group: list[Run], tasks: list[str]) -> Row:
    cells = {"seeds": Cell(str(len(group)))}
    for task in tasks:
        values = [100 * run.evaluations[task].accuracy for run in group if task in run.evaluations]
        if len(values) == len(group):
            cells[task] = Cell(f"{mean(values):.2f}", spread=f"{stdev(values):.2f}")
    losses = [run.result.dev.cross_entropy for run in group if run.result]
    if len(losses) == len(group):
        cells["cross_entropy"] = Cell(f"{mean(losses):.3f}", spread=f"{stdev(losses):.3f}")
    return Row(", ".join(run.label for run in group), cells)


def subtask_table(runs: list[Run], task: str) -> Table:
    """Every subtask's accuracy, in the order of its phenomenon."""
    evaluated = [(index, run) for index, run in enumerate(runs) if task in run.evaluations]
    known = {}
    for _, run in evaluated:
        for name, subtask in run.evaluations[task].subtasks.items():
            known[name] = (subtask.phenomenon or "", name, subtask.n)
    columns = [Column("n", "items")] + [Column(run.label, run.label, "%") for _, run in evaluated]
    rows = []
    for phenomenon, name, n in sorted(known.values()):
        cells = {"n": Cell(f"{n:,}")}
        for _, run in evaluated:
            found = run.evaluations[task].subtasks.get(name)
            if found is not None:
                second = count(found.ties, "tie") if found.ties else ""
                cells[run.label] = Cell(percent(found.accuracy), percent(found.stderr), second)
        rows.append(Row(name, cells, detail=(phenomenon,) if phenomenon else ()))
    return Table(columns, rows, name=task)


def domain_tables(runs: list[Run]) -> list[Table]:
    """Per split: cross-entropy by domain, rows runs; empty without evaluation/cross_entropy.json."""
    splits = sorted({split for run in runs for split in run.cross_entropy})
    return [_domain_table(runs, split) for split in splits]


def _domain_table(runs: list[Run], split: str) -> Table:
    evaluated = [(index, run) for index, run in enumerate(runs) if split in run.cross_entropy]
    domains = sorted({domain for _, run in evaluated for domain in run.cross_entropy[split].domains})
    rows = [
        Row(
            run.label,
            {"all": _loss(run.cross_entropy[split])}
            | {name: _loss(found) for name, found in run.cross_entropy[split].domains.items()},
            index,
        )
        for index, run in evaluated
    ]
    return Table([Column("all", "all")] + [Column(name, name) for name in domains], rows, name=split)


def _loss(found: CrossEntropy) -> Cell:
    bits = "" if found.bits_per_byte is None else f"{found.bits_per_byte:.3f}"
    return Cell(f"{found.cross_entropy:.3f}", second=bits)


def prediction_table(runs: list[Run]) -> Table | None:
    """How well people are predicted, in percent, rows runs; None where no run was asked."""
    names = sorted({(task, name) for run in runs for task, found in run.predictions.items() for name in found.scores})
    if not names:
        return None
    columns = [Column(f"{task}/{name}", task, name.replace("_", " ")) for task, name in names]
    rows = [
        Row(run.label, {column.key: _prediction(run, *names[place]) for place, column in enumerate(columns)}, index)
        for index, run in enumerate(runs)
        if run.predictions
    ]
    return Table(columns, rows, notes=[PREDICTIONS])


def _prediction(run: Run, task: str, name: str) -> Cell:
    found = run.predictions.get(task)
    if found is None or name not in found.scores:
        return Cell()
    return Cell(percent(found.scores[name].value), spread=percent(found.scores[name].stderr))


def finetuning_tables(runs: list[Run]) -> list[Table]:
    """Per recipe: each task's mean over seeds, and the mean over tasks, rows runs; last what one answer to all gets."""
    recipes = sorted({found.recipe for run in runs for found in run.finetuning})
    return [_finetuning_table(runs, recipe) for recipe in recipes]


def _finetuning_table(runs: list[Run], recipe: str) -> Table:
    tuned = [(index, run.label, of) for index, run in enumerate(runs) for of in run.finetuning if of.recipe == recipe]
    tasks = {name: of for _, _, found in tuned for name, of in found.tasks.items()}
    columns = [Column(name, name, f"{of.task.metric}, %") for name, of in tasks.items()] + [Column("mean", "mean", "%")]
    rows = [Row(f"{label}, from scratch" if found.from_scratch else label, _finetuned(found), index)
            for index, label, found in tuned]  # fmt: skip
    rows.append(Row("one answer to all", {name: Cell(percent(of.first["majority"])) for name, of in tasks.items()}))
    notes = [f"{label}: {note}." for _, label, found in tuned for note in finetuning_notes(found)]
    return Table(columns, rows, name=recipe, notes=notes)


def _finetuned(found: RecipeResults) -> dict[str, Cell]:
    spread = {name: of.spread for name, of in found.tasks.items()} | {"mean": found.spread}
    values = {name: of.mean for name, of in found.tasks.items()} | {"mean": found.mean}
    return {name: Cell(percent(value), "" if (sd := spread[name]) is None else percent(sd))
            for name, value in values.items()}  # fmt: skip


def caption(runs: list[Run]) -> str:
    """How to read the table of the study."""
    groups = comparison.seed_groups(runs)
    several = "; ".join(f"{', '.join(run.label for run in group)}: {len(group)} seeds" for group in groups)
    seeds = f"Runs that differ only in their seed: {several}; every other row is one seed." if groups else ""
    return (
        "Accuracy in percent, the unweighted mean over subtasks; ± is one standard error over items, not over seeds. "
        f"{seeds or 'Each row is one seed.'} "
        "The best value of a column is marked only if it is ahead of the second by more than twice the standard error "
        f"of their difference ({_pairing(runs)}); cross-entropies carry no standard error and are never marked. "
        "Simple baselines: guessing, word frequencies alone (Zipf), and a 5-gram model, both of the training text."
    )


def _pairing(runs: list[Run]) -> str:
    pairs = [found for task in comparison.task_names(runs) for found in comparison.differences(runs, task).values()]
    paired = sum(found.paired for found in pairs)
    if paired == len(pairs):
        return "paired over the same items"
    return "not paired" if paired == 0 else "paired over the same items where both runs kept them"


def terminal_text(runs: list[Run]) -> str:
    """The tables of the study as plain text, at most 120 columns wide for names of usual length."""
    table = study_table(runs)
    parts = [_block(table, columns) for columns in _blocks(table)]
    predictions = prediction_table(runs)
    if predictions is not None:
        parts += [_block(predictions, columns) for columns in _blocks(predictions)]
        parts.append(wrapped(PREDICTIONS, TERMINAL_WIDTH))
    for table_of in finetuning_tables(runs):
        parts += [f"fine-tuned by {table_of.name}", *(_block(table_of, columns) for columns in _blocks(table_of))]
        parts.append("\n".join(wrapped(text, TERMINAL_WIDTH) for text in [FINETUNED, *table_of.notes]))
    marks = f"{BEST} marks the best, {BELOW} what is below a simple baseline."
    notes = [caption(runs), marks, *table.notes, *findings(runs)]
    details = [f"{row.head}: {'; '.join(row.detail)}" for row in table.rows if row.detail]
    parts += ["\n".join(wrapped(text, TERMINAL_WIDTH) for text in texts) for texts in (details, notes)]
    return "\n\n".join(parts)


def _additions(cell: Cell) -> str:
    """What follows a cell's number."""
    text = (f" ±{cell.spread}" if cell.spread else "") + (f" / {cell.second}" if cell.second else "")
    marks = (BEST if cell.best else "") + (BELOW if cell.below else "")
    return f"{text} {marks}" if marks else text


def _lines(table: Table, column: Column) -> tuple[list[str], list[str]]:
    """A column's head in short lines, and its cells, numbers below numbers."""
    cells = [row.cells.get(column.key, Cell()) for row in table.rows]
    behind = max(len(_additions(cell)) for cell in cells)
    plain = [cell.text + _additions(cell).ljust(behind) for cell in cells]
    room = max(HEAD_WIDTH, *(len(text) for text in plain))
    head = textwrap.wrap(column.head.replace("_", "_ "), room) + textwrap.wrap(column.unit, room)
    return [line.replace("_ ", "_") for line in head], plain


def _blocks(table: Table) -> list[list[Column]]:
    """Columns in groups that fit the terminal beside the names."""
    room = TERMINAL_WIDTH - max(len(row.head) for row in table.rows)
    blocks: list[list[Column]] = [[]]
    used = 0
    for column in table.columns:
        width = 2 + max(len(text) for lines in _lines(table, column) for text in lines)
        if blocks[-1] and used + width > room:
            blocks.append([])
            used = 0
        blocks[-1].append(column)
        used += width
    return blocks


def _block(table: Table, columns: list[Column]) -> str:
    stacks = [["", *(row.head for row in table.rows)]]
    for head, cells in (_lines(table, column) for column in columns):
        width = max(map(len, head + cells))
        stacks.append(["\n".join(line.rjust(width) for line in head), *(cell.rjust(width) for cell in cells)])
    runs = sum(row.run is not None for row in table.rows)
    return text_table(list(zip(*stacks, strict=True)), left=len(stacks), ends=[runs])
