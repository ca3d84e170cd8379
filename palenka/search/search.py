"""A search: trials over any keys of a run's config, each an ordinary run, shared by as many workers as are started.

    runs/<search>/trial-<number>/        each trial's run: the same as if it had been trained alone
    runs/<search>/finalists/<trial>-s<seed>/    the best ones trained anew, and `default`, the run without the search
    runs/<search>/search.json            where the trials stand, and their ranks
    runs/<search>/search.yaml            what is asked for; search-identity.json, what it must remain
    runs/<search>/trials.journal         what was proposed (`storage`)

A worker holds the lock of the search while it looks for work, and one of each trial that it trains, which the system
releases when the worker ends, however it ends. A trial that nobody holds and that has no outcome is resumed by whoever
looks next; what has an outcome in its run directory is settled then, if that has not been done.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import groupby
from json import dumps
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from palenka.evaluation.evaluate import CROSS_ENTROPY, evaluate
from palenka.evaluation.results import results_folder
from palenka.runs.directory import Run
from palenka.runs.identity import Identity
from palenka.search.budget import flops_in, flops_in_hours
from palenka.search.grid import cohort_flops, fitting_cohort
from palenka.search.halving import Halving
from palenka.search.record import FILE, ranked, search_table, trials_are_done
from palenka.search.samplers import distributions, propose
from palenka.search.space import Axis, SearchConfig, overriding
from palenka.search.storage import Trials
from palenka.training.plan import Plan, make_plan, schema_of
from palenka.training.schema import RunConfig
from palenka.training.session import from_main
from palenka.util.config import load, problems_error
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_object, write_json, write_text
from palenka.util.locks import held, lock
from palenka.util.paths import ROOT

IDENTITY = "search-identity.json"
PROTOCOL = "2024"
STARTS = 3  # of a trial from one and the same step: what kills its workers is not given to the next one for ever
MAY_CHANGE = {"name", "run", "trials", "budget", "cohort_size", "storage", "finalists"}
SHARED = ("data", "paradigm", "teachers", "cached_logits", "teacher_cache", "student", "paths")
SHARED_TRAINING = (
    "batch_size", "initial_batch_size", "micro_batch_size", "num_epochs", "max_steps", "precision", "compile",
)  # fmt: skip


def load_search(path: Path, overrides: Sequence[str], dry_run: bool = False) -> "Search":
    """Read a search's config and check all of it against the run's config, data, teachers and this machine.

    Raises:
        UserError: naming every problem.
    """
    return Search(load(path, overrides, SearchConfig), str(path), dry_run)


class Search:
    """A checked search.

    Args:
        config: what is asked for.
        where: the config's file, for messages.
        dry_run: as in `make_plan`.

    Raises:
        UserError: an axis whose values the run's config does not take, or what a run would be refused for.
    """

    def __init__(self, config: SearchConfig, where: str, dry_run: bool = False) -> None:
        self.config, self.where = config, where
        self.file = ROOT / config.run
        self.schema = schema_of(self.file)
        base = self._run_config({}, config.name)
        # One text for all trials, where `seed` is an axis, too.
        self._of_trials: dict[str, Any] = {"data.seed": base.seed} if base.data.seed is None else {}
        self._check_axes()
        self.base = make_plan(self._run_config(self._of_trials, config.name), f"{where}: {config.run}", dry_run)
        self.folder = self.base.runs / config.name
        self.halving = Halving(config.pruning, self.folder) if config.pruning else None
        self.budget = flops_in(config.budget, self.base.runs)
        self.trained: list[Plan] = []
        self._claims: dict[str, FileLock] = {}
        self._is_spent = False

    def _run_config(self, values: Mapping[str, Any], name: str) -> RunConfig:
        """The run's config with what is the same in all trials, and with these values."""
        return load(self.file, [*overriding({**self.config.overrides, **values}), f"name={name}"], self.schema)

    def _check_axes(self) -> None:
        """Each axis by its outermost values, the others as the run has them."""
        problems = []
        for key, axis in self.config.axes.items():
            for value in axis.outermost:
                try:
                    self._run_config({**self._needed(axis), key: value}, self.config.name)
                except UserError as error:
                    reason = str(error).replace(" (command line)", "")  # where a trial's values go
                    problems.append(f"axes.{key}: {value!r} is not possible: {reason}")
        if problems:
            raise problems_error(self.where, problems)

    def _needed(self, axis: Axis) -> dict[str, Any]:
        """Values of the axes above, so that this one applies."""
        needed: dict[str, Any] = {}
        for key, value in axis.when.items():
            needed |= {**self._needed(self.config.axes[key]), key: value}
        return needed

    def open(self) -> None:
        """Make the folder this search's.

        Raises:
            UserError: it is another search's, or holds something else.
        """
        make_folder(self.folder)
        with held(self._lock):
            identity, path = self._identity(), self.folder / IDENTITY
            if path.exists():
                if found := identity.differences(self._undecided(read_object(path))):
                    listed = "\n".join(f"  {line}" for line in found)
                    raise UserError(
                        f"{self.folder}: this name is another search's; nothing was changed. It differs in\n{listed}\n"
                        f"Choose another name (name=…), or move that folder away. More trials may be asked for"
                    )
            elif foreign := sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith(".")):
                raise UserError(f"{self.folder}: no search, but holds {', '.join(foreign[:5])}; choose another name")
            write_json(path, identity.given)
            shown = self.config.model_dump(mode="json", exclude_none=True, exclude={"storage"})
            write_text(self.folder / "search.yaml", yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))

    def _identity(self) -> Identity:
        """What decides which trials there are and how they come out: the run, the axes, what draws from them."""
        run = self.base.identity()
        of_run = self._undecided(run.given)
        given, whole = (
            self.config.model_dump(mode="json", exclude_none=True, exclude_defaults=brief, exclude=MAY_CHANGE)
            for brief in (True, False)
        )
        return Identity({**of_run, "search": given}, {**run.whole, "search": whole})

    def _undecided(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Without the run's own values of what each trial has a value of: the best one may be written into its config
        before the search is over. Finalists are compared with the run as it is, so that all of it counts there."""
        decided = [key for key, axis in self.config.axes.items() if not (axis.when or self.config.finalists)]
        return {**identity, "config": reduce(_without, decided, identity["config"])}

    @property
    def _lock(self) -> Path:
        return self.folder / ".lock"

    def to_train(self) -> Iterator[list[Plan]]:
        """Cohorts, as long as there is work: trials that were left, then new ones, until all that were asked for are
        there; then finalists. Each process of a training gets the same."""
        size = from_main(self._cohort_size, self._is_main)
        while claimed := from_main(lambda: self._claim(size), self._is_main):
            plans = [self._plan(label, values) for label, values in claimed.items()]
            self.trained += plans
            for _, cohort in groupby(sorted(plans, key=_shared), key=_shared):
                yield list(cohort)
            self._release()

    @property
    def _is_main(self) -> bool:
        return bool(PartialState(cpu=not torch.cuda.is_available()).is_main_process)  # as the trainings' own

    def _cohort_size(self) -> int:
        """Trials that are proposed together, to be trained on one teacher pass."""
        if not self.base.teachers:
            return 1
        return self.config.cohort_size or fitting_cohort(self.base, self.config.proposed_at_once)

    def _plan(self, label: str, values: Mapping[str, Any]) -> Plan:
        return make_plan(self._run_config(values, self._run(label).name), f"{self.where}, {label}")

    def _run(self, label: str) -> Run:
        """The run directory of a trial or a finalist."""
        return Run(f"{self.config.name}/{label}", self.base.runs)

    def _claim(self, most: int) -> dict[str, Mapping[str, Any]]:
        """What this worker is to train now, with its values; nothing where all is done or with other workers."""
        with held(self._lock):
            trials = self._trials()
            self._settle(trials)
            claimed = self._abandoned(trials, most) or self._new(trials, most)
            record = self._write(trials)
            if not claimed and trials_are_done(record):
                waiting = {label: values for label, values in self._finalists(record).items() if self._waits(label)}
                claimed = dict([each for each in waiting.items() if self._take(each[0])][:most])
            return claimed

    def _finalists(self, record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """The best trials and the run's own values, with each seed; those of one seed, which see one text, together."""
        chosen = self.config.finalists
        if chosen is None:
            return {}
        best = {_label(each["number"]): each["values"] for each in record["trials"][: chosen.count] if each["rank"]}
        return {
            f"finalists/{label}-s{seed}": {**values, **chosen.overrides, "seed": seed}
            for seed in chosen.seeds
            for label, values in {"default": {}, **best}.items()
        }

    def _waits(self, label: str) -> bool:
        run = self._run(label)
        return not run.finished and not run.diverged

    def _trials(self) -> Trials:
        return Trials(self.config.name, self.folder, self.config.storage)

    def _settle(self, trials: Trials) -> None:
        """Take over the outcomes that running trials have in their run directories."""
        for trial in _running(trials):
            run = self._run(_label(trial.number))
            if run.finished:
                trials.complete(trial.number, _dev(run)["cross_entropy"])
            elif run.diverged:
                trials.complete(trial.number, math.inf)
            elif pruned := run.pruned:
                trials.prune(trial.number, pruned["share"], pruned["loss"])

    def _abandoned(self, trials: Trials, most: int) -> dict[str, Mapping[str, Any]]:
        """Running trials that no worker holds."""
        found: dict[str, Mapping[str, Any]] = {}
        for trial in _running(trials):
            label = _label(trial.number)
            if len(found) < most and self._take(label) and self._may_start(trials, trial):
                found[label] = trial.user_attrs["values"] | self._of_trials
        return found

    def _take(self, label: str) -> bool:
        """Whether this worker has got a trial or a finalist; the system gives it back when the worker ends."""
        try:
            self._claims[label] = lock(self.folder / f".{label.replace('/', '-')}.lock")
        except Timeout:
            return False
        return True

    def _may_start(self, trials: Trials, trial: FrozenTrial) -> bool:
        """Whether a trial has got further since it was started last, or has not been started too often."""
        step = max(self._run(_label(trial.number)).checkpoints(), default=0)
        before, starts = trial.user_attrs.get("starts", (step, 0))
        if (before, starts) == (step, STARTS):
            reason = f"{STARTS} starts from step {step} have left no checkpoint; see the logs of its workers"
            trials.refuse(trial.number, reason)
            return False
        trials.note(trial.number, "starts", (step, starts + 1 if before == step else 1))
        return True

    def _new(self, trials: Trials, most: int) -> dict[str, Mapping[str, Any]]:
        """New trials, up to the number that was asked for, as long as the budget lasts; one that no run can be made of
        is one of them, and costs nothing."""
        found: dict[str, Mapping[str, Any]] = {}
        while len(found) < most and (number := len(trials.all())) < self.config.number_of_trials:
            point = propose(self.config, number, trials.all())
            label, values, flops, refusal = _label(number), {**point.values, **self._of_trials}, 0.0, ""
            try:
                flops = cohort_flops([self._plan(label, values)] * most) / most
            except UserError as error:
                refusal = str(error)
            self._is_spent = _spent(trials) + flops > self._budget(trials)
            if self._is_spent:
                break
            trials.add(point.coordinates, distributions(self.config, point), point.values, flops)
            if refusal:
                trials.refuse(number, refusal)
            elif self._take(label):
                found[label] = values
        if self._is_spent and not trials.all():
            raise UserError(f"{self.where}: budget: {self.budget:.3g} FLOPs are too few for a trial of {flops:.3g}")
        return found

    def _budget(self, trials: Trials) -> float:
        """FLOPs that all trials may have. Hours are converted at the rate at which trials have finished so far."""
        hours = self.config.budget and self.config.budget.hours
        if not hours:
            return self.budget
        finished = [(_flops(trial), self._run(_label(trial.number))) for trial in trials.all()]
        return flops_in_hours(hours, [(flops, _seconds(run)) for flops, run in finished if run.finished])

    def _release(self) -> None:
        for claim in self._claims.values():
            claim.release()
        self._claims.clear()

    def _write(self, trials: Trials) -> dict[str, Any]:
        budget = self._budget(trials)
        record = {
            "name": self.config.name, "run": self.config.run, "sampler": self.config.sampler,
            "axes": self.config.model_dump(mode="json", exclude_defaults=True)["axes"],
            "asked": len(trials.all()) if self._is_spent else self.config.number_of_trials, "flops": _spent(trials),
            "budget": None if math.isinf(budget) else budget, "ranked_by": "dev cross-entropy",
            "trials": ranked([self._record(trial) for trial in trials.all()]),
        }  # fmt: skip
        record["finalists"] = [self._finalist(label, values) for label, values in self._finalists(record).items()]
        write_json(self.folder / FILE, record)
        return record

    def _finalist(self, label: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of a finalist; its test loss is of text that chose nothing."""
        run, of = self._run(label), label.removeprefix("finalists/").rpartition("-s")[0]
        found = {"of": of, "seed": values["seed"], "run": run.name}
        if not run.finished:
            return found | {"state": "diverged" if run.diverged else "waiting"}
        path = results_folder(run.path, PROTOCOL) / f"{CROSS_ENTROPY}.json"
        splits = read_object(path)["splits"] if path.exists() else {}
        test = {"test": splits["test"]["cross_entropy"]} if "test" in splits else {}
        return found | {"state": "finished", "dev": _dev(run)["cross_entropy"]} | test

    def measure(self) -> None:
        """Measure the finalists that this worker trained on the test text, if the data has one."""
        runs = [Run(plan.config.name, plan.runs) for plan in self.trained]
        finished = [str(run.path) for run in runs if "/finalists/" in run.name and run.finished]
        if finished and (self.base.data_folder / "test" / "index.json").exists():
            evaluate(finished, tasks=[CROSS_ENTROPY], protocol=PROTOCOL)

    def _record(self, trial: FrozenTrial) -> dict[str, Any]:
        run = self._run(_label(trial.number))
        record = {"number": trial.number, "run": run.name, "values": trial.user_attrs["values"], "flops": _flops(trial)}
        if trial.state == TrialState.RUNNING:
            return record | {"state": "running"}
        if trial.state == TrialState.FAIL:
            return record | {"state": "refused", "reason": trial.user_attrs.get("refused", "")}
        if trial.state == TrialState.PRUNED:
            return record | {"state": "pruned"} | (run.pruned or {})
        return record | ({"state": "finished", "dev": _dev(run)} if run.finished else {"state": "diverged"})

    def finish(self) -> str:
        """Settle what was trained, and say where the search stands, for people."""
        with held(self._lock):
            trials = self._trials()
            self._settle(trials)
            record = self._write(trials)
        return search_table(record)

    def describe(self) -> str:
        """The axes, and what the trials cost, for people."""
        number = self.config.number_of_trials
        lines = [f"{self.config.name}: {number} trials by {self.config.sampler} over"]
        for key, axis in self.config.axes.items():
            ends = axis.outermost if axis.choice is not None else f"{axis.outermost[0]!r} to {axis.outermost[1]!r}"
            needs = "".join(f", where {name} is {value!r}" for name, value in axis.when.items())
            lines.append(f"  {key}: {ends}{needs}")
        size = self._cohort_size()
        together = cohort_flops([self.base] * size) / size
        lines.append(f"  about {number * together:.3g} FLOPs, {size} at once on one teacher pass" if size > 1 else
                     f"  about {number * together:.3g} FLOPs")  # fmt: skip
        if not math.isinf(self.budget):
            lines.append(f"  the budget is {self.budget:.3g} FLOPs, about {self.budget / together:.1f} trials")
        elif self.config.budget:
            lines.append(f"  the budget is {self.config.budget.hours:g} hours; how many trials, the first ones tell")
        return "\n".join(lines)


def _label(number: int) -> str:
    """Of a trial."""
    return f"trial-{number:03d}"


def _without(tree: Any, key: str) -> Any:
    """Nested mappings and lists without what stands at a key with dots, if anything does."""
    first, _, rest = key.partition(".")
    if isinstance(tree, list):
        return [_without(part, rest) if first == str(place) else part for place, part in enumerate(tree)]
    if not isinstance(tree, dict) or first not in tree:
        return tree
    below = {first: _without(tree[first], rest)} if rest else {}
    return {name: part for name, part in {**tree, **below}.items() if rest or name != first}


def _running(trials: Trials) -> list[FrozenTrial]:
    return [trial for trial in trials.all() if trial.state == TrialState.RUNNING]


def _spent(trials: Trials) -> float:
    """FLOPs of all trials."""
    return sum(map(_flops, trials.all()))


def _flops(trial: FrozenTrial) -> float:
    """Of one that was pruned, up to there; of a running one, to its end."""
    share = trial.last_step / 1000 if trial.state == TrialState.PRUNED and trial.last_step else 1.0
    return float(trial.user_attrs["flops"] * share)


def _seconds(run: Run) -> float:
    return float(read_object(run.path / "result.json")["seconds"])


def _dev(run: Run) -> dict[str, float]:
    dev = read_object(run.path / "result.json")["dev"]
    return {key: dev[key] for key in ("cross_entropy", "bits_per_byte") if key in dev}


def _shared(plan: Plan) -> str:
    """What students of one teacher pass have in common."""
    config = plan.config.model_dump(mode="json")
    shared = {key: config.get(key) for key in SHARED} | {key: config["training"][key] for key in SHARED_TRAINING}
    return dumps(shared, sort_keys=True)
