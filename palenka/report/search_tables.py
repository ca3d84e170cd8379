"""What a search lets one say: how far it is, what its axes do, what the best is worth beside the run without it."""

import math
from collections import Counter
from statistics import mean, stdev

from palenka.evaluation.comparison import LEVEL, compare_seeds
from palenka.evaluation.distributions import t_quantile
from palenka.report.cells import Cell, Column, Row, Table
from palenka.report.importance import LEAST, LEAST_OF_CHOICE, Importance
from palenka.report.searches import DEFAULT, Search
from palenka.util.text import count

FINALISTS = (
    "Cross-entropy in nats per token. In the search a trial has one seed, and the loss that chose it is the least of "
    "many: too good. The others are means over seeds, ± half of their 95 % interval (Student's; of differences "
    "Welch's). A negative difference is a gain; one whose interval leaves out 0 is underlined. Test text chose nothing."
)
AXES = (
    "Beside each axis: the share of the variance of the trials' ranks that it explains by itself (adjusted R² of a "
    "parabola, or of a mean for each choice) with its 95 % interval, from halves of the trials; of a conditional axis, "
    f"among the trials that have it. Fewer than {LEAST} trials, or {LEAST_OF_CHOICE} for each choice, allow no "
    "statement. What axes do only together is not seen, and a sampler that learns tries most where it found good. In "
    "the ranks, what was pruned is behind all that finished, and what diverged is last."
)
LUCK = "How much of that is luck is not known:"
MARKS = "Rings: trained anew as finalists. Strokes on top: far worse, pruned or diverged."


def headline(search: Search) -> str:
    """How far it is, and what it cost."""
    states = Counter(trial.state for trial in search.trials)
    found = ", ".join(f"{number} {state}" for state, number in states.items())
    begun = f"{len(search.trials)} of {count(search.asked, 'trial')} by {search.sampler}"
    budget = f" of {search.budget:.3g}" if search.budget else ""
    return f"{begun}: {found}; {search.flops:.3g}{budget} FLOPs."


def importance_text(found: Importance | None, trials: int) -> str:
    """`0.82 [0.61, 0.93], 24 trials`."""
    if found is None:
        return f"no statement from {count(trials, 'trial')}"
    return f"{found.share:.2f} [{found.low:.2f}, {found.high:.2f}], {count(trials, 'trial')}"


def finalists_table(search: Search) -> Table | None:
    """The best over seeds, beside the run without the search; None before the first of them has finished."""
    if not search.retrained:
        return None
    columns = [Column("search", "in the search", "dev")]
    for split in ("dev", "test"):
        columns += [Column(split, split), Column(f"{split} difference", split, f"minus {DEFAULT}")]
    columns.append(Column("seeds", "seeds"))
    found = {trial.label: trial.dev.cross_entropy for trial in search.finished if trial.dev}
    rows = []
    for of in dict.fromkeys(finalist.of for finalist in search.finalists):
        cells = {"seeds": Cell(str(len(search.losses(of, "dev"))))}
        if of in found:
            cells["search"] = Cell(f"{found[of]:.4f}")
        for split in ("dev", "test"):
            cells[split] = _over_seeds(search.losses(of, split))
            cells[f"{split} difference"] = _difference(search, of, split)
        rows.append(Row(of, cells))
    waiting = sum(finalist.state == "waiting" for finalist in search.finalists)
    left = [f"{count(waiting, 'finalist')} still to be trained."] if waiting else []
    return Table(columns, rows, notes=[*left, FINALISTS])


def _over_seeds(losses: list[float]) -> Cell:
    """Mean and half of its 95 % interval."""
    if len(losses) < 2:
        return Cell(f"{losses[0]:.4f}") if losses else Cell()
    reach = t_quantile(len(losses) - 1, (1 + LEVEL) / 2) * stdev(losses) / math.sqrt(len(losses))
    return Cell(f"{mean(losses):.4f}", spread=f"{reach:.4f}")


def _difference(search: Search, of: str, split: str) -> Cell:
    """A finalist minus the run without the search."""
    own, default = search.losses(of, split), search.losses(DEFAULT, split)
    if of == DEFAULT or not own or not default:
        return Cell("") if of == DEFAULT else Cell()
    text, found = _signed(mean(own) - mean(default)), compare_seeds(own, default)
    if found is None:
        return Cell(text)
    return Cell(text, spread=f"{found.high - found.difference:.4f}", best=found.low > 0 or found.high < 0)


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def selected(search: Search) -> str:
    """Which trial the search selects, and how much of its gain is owed to being selected."""
    if not search.finished:
        return "No trial has finished yet."
    means = {of: mean(search.losses(of, "dev")) for of in search.retrained if of != DEFAULT}
    if not means:
        trials = count(len(search.finished), "finished trial")
        text = f"{search.finished[0].label} is selected, by the least dev loss of {trials}, each of one seed."
        return f"{text} {LUCK} nothing has been trained anew."
    of = min(means, key=means.__getitem__)
    finalists, seeds = count(len(means), "finalist"), count(len(search.losses(of, "dev")), "seed")
    text = f"{of} is selected, by the least mean dev loss of {finalists}, {means[of]:.4f} over {seeds}."
    differences = {split: mean(own) - mean(default) for split in ("dev", "test")
                   if (own := search.losses(of, split)) and (default := search.losses(DEFAULT, split))}  # fmt: skip
    if len(differences) < 2:
        return f"{text} {LUCK} there is no loss on text that chose nothing."
    dev, test = (_shown(_difference(search, of, split)) for split in ("dev", "test"))
    optimism = _signed(differences["test"] - differences["dev"])
    gains = f"{dev} on dev text, which chose it, and {test} on test text, which chose nothing"
    return f"{text} Beside {DEFAULT}, {gains}: the optimism of selection is {optimism}."


def _shown(cell: Cell) -> str:
    return f"{cell.text} ± {cell.spread}" if cell.spread else cell.text
