"""What runs, grids and searches will cost, before they are submitted and before their data and teachers are there."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from palenka.cost.estimate import this_machine, total_steps
from palenka.cost.forecast import Estimate, Length, as_record, tokens_per_word
from palenka.cost.probe import measure_apart
from palenka.cost.text import terminal_text
from palenka.runs.milestones import read_words, short
from palenka.search.schema import GridConfig
from palenka.search.space import SearchConfig, overriding
from palenka.training.plan import Workload, make_workload, schema_of
from palenka.util.config import compose, load
from palenka.util.devices import find_devices
from palenka.util.errors import UserError
from palenka.util.files import require_writable, write_json
from palenka.util.paths import ROOT


def print_cost(
    configs: Sequence[Path], devices: Sequence[str], words: Sequence[str], probe: bool, out: Path | None
) -> None:
    """Print what configurations will cost on devices, for numbers of words; with `out`, write it as JSON, too.

    Raises:
        UserError: an unknown device, words that are no number of words, a configuration that does not fit.
    """
    if out is not None:
        require_writable(out.parent)
    counts = [_read_words(number) for number in words]
    chosen = find_devices(devices, this_machine())
    estimates = [read_estimate(path, counts) for path in configs]
    if probe:
        estimates = [replace(found, measured=measure_apart(found.work)) for found in estimates]
    print("\n\n\n".join(terminal_text(found, chosen) for found in estimates))
    if out is not None:
        write_json(out, [as_record(found, chosen) for found in estimates])


def read_estimate(path: Path, words: Sequence[int]) -> Estimate:
    """What is asked of the run, grid or search in a file, on so many words; of a search with the run's own values."""
    values = compose(path)
    if "axes" in values:
        return _read_search(path, words)
    if "grid" in values:
        config = load(path, [], GridConfig)
        work = make_workload(config.student_config(config.trials[-1]), str(path))
        return Estimate(str(path), work, _lengths(work, words), len(config.trials), config.grid.cohort_size)
    work = _read_run(path, [], str(path))
    return Estimate(str(path), work, _lengths(work, words))


def _read_search(path: Path, words: Sequence[int]) -> Estimate:
    config = load(path, [], SearchConfig)
    work = _read_run(ROOT / config.run, overriding(config.overrides), f"{path}: {config.run}")
    cohort_size = config.cohort_size if work.teachers else 1
    return Estimate(
        str(path), work, _lengths(work, words), config.number_of_trials, cohort_size, config.proposed_at_once
    )  # fmt: skip


def _read_run(file: Path, overrides: Sequence[str], where: str) -> Workload:
    return make_workload(load(file, overrides, schema_of(file)), where)


def _read_words(text: str) -> int:
    try:
        return read_words(text)
    except ValueError as error:
        raise UserError(f"--words: {error}") from None


def _lengths(work: Workload, words: Sequence[int]) -> list[Length]:
    """One for each number of words, or one for all where the configuration fixes its steps."""
    fixed = work.config.training.max_steps
    if fixed is not None:
        return [Length(f"{fixed:,} steps", fixed)]
    rate = tokens_per_word(work)
    return [Length(f"{short(number)} words", total_steps(work.config, number, rate)) for number in words]
