"""A study as SLURM jobs: its steps in their order, which of them are done, and the jobs for those that are missing.

    data → runs, teachers before their students → search; grid → finalists → evaluation of each → report

A study is a file of `config/study/`. A step is done when its outcome is on the disk and belongs to what the step would
make it of; what is in the queue already is waited for. So a study can be submitted again at any time.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from palenka.cluster import slurm
from palenka.data.holdout import Place
from palenka.evaluation.evaluate import OF_MODELS, result_files
from palenka.evaluation.models import EvaluatedModel
from palenka.evaluation.protocols import PROTOCOLS
from palenka.runs.directory import Run
from palenka.search.grid import load_grid
from palenka.search.record import is_done, read_search
from palenka.search.schema import GridConfig
from palenka.search.space import SearchConfig
from palenka.training.plan import make_plan
from palenka.training.recipes import Recipe, find_recipe
from palenka.training.schema import DistillConfig, RunConfig, TrainConfig
from palenka.util.config import load, read_yaml
from palenka.util.errors import UserError
from palenka.util.files import read_json
from palenka.util.locks import held
from palenka.util.paths import ROOT, corpora_root, data_root, evaluation_root, runs_root
from palenka.util.section import Section
from palenka.util.tables import text_table
from palenka.util.text import did_you_mean

STUDIES = ROOT / "config" / "study"
PROTOCOL = "2024"
DEMO_TEXT, DEMO_PAIRS = "demo-text", "demo_pairs"
EVALUATE = "evaluate-"
NAMED_NEEDS = 4  # jobs that a job waits for; of more the table tells only how many
ARRAYS = ("train.slurm", "distill.slurm")  # scripts of which each task of an array takes one config


class StudyData(Section):
    """The text of all runs: folders or files below PALENKA_CORPORA, or the demo's own."""

    name: str = Field(description="that prepared data gets")
    train: str | None = Field(default=None, description="folder or file below PALENKA_CORPORA")
    dev: str | None = Field(default=None, description="likewise")
    dev_fraction: float | None = Field(default=None, gt=0, lt=1, description="hold out this part of train, without dev")
    dev_from: Place = Field(default="documents", description="what is held out: documents, or each file's end")
    test: str | None = Field(default=None, description="likewise")
    demo_text: bool = Field(default=False, description="take the demo's text instead")
    vocab_size: int = Field(default=16_000, description="entries of the tokenizer")

    @model_validator(mode="after")
    def _some_text(self) -> "StudyData":
        if self.demo_text == (self.train is not None):
            raise ValueError("give either train, dev and perhaps test, or demo_text: true")
        if self.dev is not None and self.dev_fraction is not None:
            raise ValueError("give either dev or dev_fraction")
        return self

    @property
    def is_prepared(self) -> bool:
        pairs_are_there = not self.demo_text or (evaluation_root() / DEMO_PAIRS).is_dir()
        return (data_root() / self.name / "prepared.json").exists() and pairs_are_there

    def missing_text(self) -> str | None:
        """What to do about text that is not there, if some is not: better known before a job looks for it."""
        for text in (self.train, self.dev, self.test):
            if text and not (corpora_root() / text).exists():
                download = f"palenka download {Path(text).parts[0]}"
                return f"{corpora_root() / text}: no such text; where there is a network: {download}"
        return None


class SharedTrials(Section):
    """A config of `palenka grid` or `palenka search`, and how many jobs share its trials."""

    config: str = Field(description="file, from the repository's root")
    jobs: int = Field(ge=1, description="jobs that share the trials")


class StudyConfig(Section):
    """What a study consists of; its name is its file's. Teachers need not be named: they come with their students."""

    data: StudyData = Field(description="the text of all runs")
    runs: list[str] = Field(
        min_length=1, description="config files, folders of them, or names of runs; teachers come by themselves"
    )
    grid: SharedTrials | None = Field(default=None, description="a grid beside the runs")
    search: SharedTrials | None = Field(default=None, description="a search beside the runs")
    tasks: list[str] | None = Field(default=None, description="what is evaluated; the default tasks unless given")


@dataclass(frozen=True)
class Step:
    """One thing to be done by a job: `scripts/<script> <arguments>`.

    `needs` are the names of steps; `despite_failures`: it starts when they are over, however they ended. `array`: the
    tasks of a script that knows by itself what each of them does. `damage`: why it is neither done nor to be done.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    done: bool
    on_cpu: bool = False
    despite_failures: bool = False
    array: str = ""
    damage: str | None = None


@dataclass(frozen=True)
class StudyRun:
    """A run of the study, and what says what it is."""

    recipe: Recipe
    config: RunConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def folder(self) -> Path:
        return runs_root() / self.name

    @property
    def teachers(self) -> list[str]:
        return [teacher.run for teacher in self.config.teacher_list]


class Study:
    """A study as it stands on the disk.

    Args:
        name_or_file: of a file of `config/study/`, or its path.

    Raises:
        UserError: the study or one of its runs cannot be read, or a name holds another run than the study's.
    """

    def __init__(self, name_or_file: str) -> None:
        self.file = _find_study(name_or_file)
        self.config = load(self.file, [], StudyConfig)
        self.name = self.file.stem
        self.data_step = f"data-{self.config.data.name}"
        self.report = runs_root() / self.name / "report.html"
        self._runs: dict[str, StudyRun] = {}
        for entry in self.config.runs:
            for recipe in _recipes(entry):
                self._add(_read_run(recipe))
        self.grid = GridFiles.read(self.config.grid) if self.config.grid else None
        if self.grid:
            self._add_teachers(self.grid.run)
        self.search = load(ROOT / self.config.search.config, [], SearchConfig) if self.config.search else None
        if self.search:
            self._add_teachers(self._searched(self.search))

    def _searched(self, search: SearchConfig) -> StudyRun:
        """The run that a search varies."""
        return _read_run(Recipe(ROOT / search.run, tuple(search.changes)))

    @property
    def runs(self) -> list[StudyRun]:
        """The runs and all their teachers; those without a teacher first, then each after its own."""
        return sorted(self._runs.values(), key=lambda run: bool(run.teachers))

    def _add(self, run: StudyRun) -> None:
        self._add_teachers(run)
        self._runs[run.name] = run

    def _add_teachers(self, run: StudyRun) -> None:
        if run.config.data.name != self.config.data.name:
            name = run.config.data.name
            raise UserError(f"{run.recipe}: data.name is {name!r}, the study's {self.config.data.name!r}")
        for teacher in run.teachers:
            recipe = find_recipe(teacher)
            if recipe is None and not (runs_root() / teacher).is_dir():
                raise UserError(f"{run.recipe}: there is no run {teacher!r} to learn from, and no config that makes it")
            if recipe is not None and teacher not in self._runs:
                self._add(_read_run(recipe))

    def steps(self) -> list[Step]:
        """All steps, each after those that it needs."""
        (file,) = Recipe(self.file).words
        is_prepared = self.config.data.is_prepared
        steps = [Step(self.data_step, "study.slurm", (file, "data"), (), is_prepared, on_cpu=True)]
        steps += [self._training(run) for run in self.runs]
        steps += [self._evaluation(run) for run in self.runs]
        steps += [self._search_step(self.search)] if self.search else []
        steps += self._grid_steps(self.grid) if self.grid else []
        done = all(step.done for step in steps) and self._report_is_new()
        needs = tuple(step.name for step in steps)
        name = f"report-{self.name}"
        return [*steps, Step(name, "study.slurm", (file, "report"), needs, done, on_cpu=True, despite_failures=True)]

    def _training(self, run: StudyRun) -> Step:
        script = "distill.slurm" if run.teachers else "train.slurm"
        damage = Run(run.name, runs_root()).find_damage()
        done = not damage and self._is_trained(run)
        return Step(run.name, script, run.recipe.words, self._needs(run), done, damage=damage)

    def _needs(self, run: StudyRun) -> tuple[str, ...]:
        return (self.data_step, *(teacher for teacher in run.teachers if teacher in self._runs))

    def _is_trained(self, run: StudyRun) -> bool:
        """Whether the run is finished; if data and teachers are there, it must also be the one we mean."""
        there = Run(run.name, runs_root())
        if (there.path / "identity.json").exists() and self._has_what_it_needs(run):
            there.check_identity(make_plan(run.config, str(run.recipe)).identity())
        return there.finished

    def _has_what_it_needs(self, run: StudyRun) -> bool:
        teachers_are_there = all((runs_root() / teacher / "result.json").exists() for teacher in run.teachers)
        return self.config.data.is_prepared and teachers_are_there

    def _evaluation(self, run: StudyRun) -> Step:
        done = not Run(run.name, runs_root()).find_damage() and self._is_evaluated(run.folder)
        return Step(f"{EVALUATE}{run.name}", "slurm-eval.slurm", (run.name, *self._task_options()), (run.name,), done)

    def _task_options(self) -> tuple[str, ...]:
        return ("--tasks", ",".join(self.config.tasks)) if self.config.tasks else ()

    def _is_evaluated(self, folder: Path) -> bool:
        """Whether every task has a result of these very weights in each way that they learned."""
        if not (folder / "result.json").exists():
            return False
        paths = result_files(folder, evaluation_root(), self._tasks(), PROTOCOL)
        if not all(path.exists() for path in paths):
            return False
        fingerprint = EvaluatedModel.find(str(folder)).fingerprint
        return all(read_json(path)["identity"]["model"] == fingerprint for path in paths)

    def missing_items(self) -> str | None:
        """What to do about evaluation items that are not there: evaluation would go on without a word of them."""
        tasks = self.config.tasks or PROTOCOLS[PROTOCOL].tasks
        fetched = [task for task in tasks if task not in (*OF_MODELS, DEMO_PAIRS)]
        absent = [task for task in fetched if not (evaluation_root() / task).is_dir()]
        if not absent:
            return None
        download = f"palenka download evals-{PROTOCOL}"
        return f"{', '.join(absent)}: no such items in {evaluation_root()}; where there is a network: {download}"

    def _tasks(self) -> list[str]:
        """What a run is evaluated on: the tasks named, or the default ones whose items are there."""
        there = [task for task in PROTOCOLS[PROTOCOL].tasks if (evaluation_root() / task).is_dir()]
        return self.config.tasks or [*there, *OF_MODELS]

    def _grid_steps(self, grid: "GridFiles") -> list[Step]:
        """The trials, shared by an array; each finalist; their evaluation.

        A trial that diverges is no reason to stop: the finalists' jobs rank the others, and see whether any is missing.
        """
        if any(grid.run.folder.rglob("identity.json")) and self._has_what_it_needs(grid.run):
            load_grid(grid.run.recipe.file, [])  # whose existing trials and finalists must be those we mean
        shares = f"0-{grid.jobs - 1}"
        (file,), name = grid.run.recipe.words, grid.run.name
        trials = Step(name, "grid.slurm", (file,), self._needs(grid.run), grid.is_trained(), array=shares)
        finalists = [
            Step(
                f"{name}/finalist-{number}", "train_gridsearch_finalist.slurm", (file,), (trials.name,),
                grid.has_finalist(number), despite_failures=True, array=str(number),
            )
            for number in range(1, grid.finalists + 1)
        ]  # fmt: skip
        chosen = [grid.finalist(number) for number in range(1, grid.finalists + 1)]
        evaluation = Step(
            f"{EVALUATE}{name}/finalists", "eval-all_gridsearch_finalist.slurm", (file, *self._task_options()),
            tuple(step.name for step in finalists), all(folder and self._is_evaluated(folder) for folder in chosen),
            despite_failures=True, array=f"1-{grid.finalists}",
        )  # fmt: skip
        return [trials, *finalists, evaluation] if finalists else [trials]

    def _search_step(self, search: SearchConfig) -> Step:
        """Workers that share the trials of a search."""
        assert self.config.search is not None
        (file,) = Recipe(ROOT / self.config.search.config).words
        done = is_done(read_search(runs_root() / search.name))
        shares = f"0-{self.config.search.jobs - 1}"
        return Step(search.name, "search.slurm", (file,), self._needs(self._searched(search)), done, array=shares)

    def shown(self) -> list[str]:
        """What the report is about: the finished runs, the search's and the grid's."""
        names = [run.name for run in self.runs if (run.folder / "result.json").exists()]
        if self.search and any((runs_root() / self.search.name).glob("*/result.json")):
            names.append(self.search.name)
        return [*names, self.grid.run.name] if self.grid and self.grid.finished_trials() else names

    def _report_is_new(self) -> bool:
        """Whether the report is younger than all that it shows."""
        if not self.report.exists():
            return False
        folders = [run.folder for run in self.runs] + ([self.grid.run.folder] if self.grid else [])
        files = [path for folder in folders for path in folder.rglob("evaluation/**/*.json")]
        return self.report.stat().st_mtime >= max(path.stat().st_mtime for path in files)


@dataclass(frozen=True)
class GridFiles:
    """A grid as its config and its folder tell of it; `run` is the student that its trials vary."""

    run: StudyRun
    jobs: int
    trials: tuple[str, ...]
    finalists: int

    @classmethod
    def read(cls, grid: SharedTrials) -> "GridFiles":
        """Raise UserError where the config cannot be read."""
        config = load(ROOT / grid.config, [], GridConfig)
        run = StudyRun(Recipe(ROOT / grid.config), config)
        return cls(run, grid.jobs, tuple(trial.label for trial in config.trials), config.grid.finalists.count)

    def finished_trials(self) -> int:
        return sum((self.run.folder / trial / "result.json").exists() for trial in self.trials)

    def is_trained(self) -> bool:
        return bool(self._selection()) or self.finished_trials() == len(self.trials)

    def _selection(self) -> list[dict[str, Any]]:
        """The trials with their ranks, best first, and those that diverged; empty before the selection."""
        path = self.run.folder / "grid.json"
        trials = read_json(path)["cells"] if path.exists() else []
        return trials if {trial["cell"] for trial in trials} == set(self.trials) else []  # another grid's, once

    def _ranking(self) -> list[str]:
        return [trial["cell"] for trial in self._selection() if trial["rank"]]

    def finalist(self, number: int) -> Path | None:
        """The folder of the `number`-th finalist, from 1, once the trials are ranked."""
        ranking = self._ranking()
        return self.run.folder / "finalists" / ranking[number - 1] if number <= len(ranking) else None

    def has_finalist(self, number: int) -> bool:
        folder = self.finalist(number)
        return folder is not None and (folder / "result.json").exists()


def _find_study(name_or_file: str) -> Path:
    for path in (STUDIES / f"{name_or_file}.yaml", Path(name_or_file)):
        if path.is_file():
            return path
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    raise UserError(f"no study {name_or_file!r} in {STUDIES}{did_you_mean(name_or_file, known)}")


def _recipes(entry: str) -> Iterator[Recipe]:
    """The runs of a file or a folder, meant from the repository's root, or the one of a name."""
    path = ROOT / entry
    if path.is_dir():
        yield from (Recipe(file) for file in sorted(path.glob("*.yaml")) if "name" in read_yaml(file))
    elif recipe := Recipe(path) if path.exists() else find_recipe(entry):
        yield recipe
    else:
        raise UserError(f"runs: {entry}: no such file or folder in {ROOT}, and no run of that name")


def _read_run(recipe: Recipe) -> StudyRun:
    schema: type[RunConfig] = DistillConfig if "student" in recipe.values else TrainConfig
    return StudyRun(recipe, load(recipe.file, recipe.overrides, schema))


def submit_study(study: Study, only: Sequence[str] = (), dry_run: bool = False) -> None:
    """Submit the steps that are neither done nor in the queue, and print every step, its job and what it waits for.

    Args:
        study: which.
        only: names of runs; then these, what they need, and their evaluation.
        dry_run: submit nothing.

    Raises:
        UserError: there is no SLURM, it refuses a job, or a text is not there.
    """
    if not (dry_run or slurm.is_here()):
        raise UserError("there is no SLURM here: no sbatch in the PATH; --dry-run shows what would be submitted")
    with nullcontext() if dry_run else _alone():
        jobs = slurm.Jobs(must_answer=not dry_run)  # first: a job that ends meanwhile is seen as done, not as missing
        steps = _closure(study.steps(), only)
        ids = {step.name: job.id for step in steps if not step.done and (job := jobs.of(step.name))}
        missing = _missing(steps, ids)
        problem = study.config.data.missing_text() if study.data_step in missing else None
        if problem and not dry_run:
            raise UserError(problem)
        outdated = [ids.pop(step.name) for step in steps if step.name in missing and step.name in ids]
        for job_id in [] if dry_run else outdated:
            slurm.cancel_waiting(job_id)
        refusal = None
        for array in _arrays([step for step in steps if step.name in missing]):
            name = array[0].name if len(array) == 1 else f"{study.name}-{array[0].script.removesuffix('.slurm')}"
            try:
                ids |= _dry_ids(array) if dry_run else _submit(array, name, ids, jobs)
            except UserError as error:
                refusal = error
                break
        if absent := study.missing_items():
            print(f"evaluation will do without {absent}")
        print(_table(study.name, steps, ids, missing, dry_run), flush=True)
        if problem:
            print(f"but first, {problem}")
    if refusal:
        raise UserError(f"{refusal}\nwhat is submitted stays in the queue; submit the rest by the same command later")


def _missing(steps: Sequence[Step], ids: dict[str, str]) -> set[str]:
    """Names of the steps to be submitted: neither done, damaged nor in the queue, or there to wait for another's last
    attempt.

    Only a step that starts despite failures can be: others are cancelled with what they need.
    """
    missing: set[str] = set()
    damaged: set[str] = set()  # and what cannot do without them
    for step in steps:
        if step.damage or (not step.despite_failures and not damaged.isdisjoint(step.needs)):
            damaged.add(step.name)
            continue
        is_outdated = step.despite_failures and not missing.isdisjoint(step.needs)
        if not step.done and (step.name not in ids or is_outdated):
            missing.add(step.name)
    return missing


def _alone() -> AbstractContextManager[None]:
    """Two submissions at once would submit everything twice."""
    runs_root().mkdir(parents=True, exist_ok=True)
    return held(runs_root() / ".jobs.lock", lambda: print("another submission is under way; waiting", flush=True))


def _closure(steps: list[Step], only: Sequence[str]) -> list[Step]:
    """The steps of some runs: they, what they need, and their evaluation; all steps where no run is named."""
    by_name = {step.name: step for step in steps}
    for run in only:
        if f"{EVALUATE}{run}" not in by_name:
            raise UserError(f"--only {run}: no such run in the study{did_you_mean(run, list(by_name))}")
    wanted: set[str] = set()
    names = [f"{EVALUATE}{run}" for run in only] or list(by_name)
    while names:
        name = names.pop()
        wanted.add(name)
        names += by_name[name].needs
    return [step for step in steps if step.name in wanted]


def _arrays(steps: list[Step]) -> list[list[Step]]:
    """The steps that are one job each: trainings by one script that are alike but for their config are an array."""
    arrays: dict[Any, list[Step]] = {}
    for step in steps:
        alike = (step.script, step.needs, step.arguments[1:]) if step.script in ARRAYS else step.name
        arrays.setdefault(alike, []).append(step)
    return list(arrays.values())


def _submit(array: list[Step], name: str, ids: dict[str, str], jobs: slurm.Jobs) -> dict[str, str]:
    """Submit one step, or several as one array; the jobs' ids by step."""
    first = array[0]
    options = [f"--job-name={name}", *_site_options("PALENKA_SBATCH")]
    if first.on_cpu or first.name.startswith(EVALUATE):
        options += _site_options("PALENKA_SBATCH_CPU" if first.on_cpu else "PALENKA_SBATCH_EVAL")
    if needs := [ids[need] for need in first.needs if need in ids]:
        options.append(f"--dependency={'afterany' if first.despite_failures else 'afterok'}:{':'.join(needs)}")
    if tasks := first.array or (f"0-{len(array) - 1}" if len(array) > 1 else ""):
        options.append(f"--array={tasks}")
    arguments = [*(step.arguments[0] for step in array), *first.arguments[1:]]
    job = slurm.submit(first.script, arguments, options)
    submitted = {step.name: f"{job}_{task}" if len(array) > 1 else job for task, step in enumerate(array)}
    for step in array:
        jobs.add(step.name, submitted[step.name], name)
    return submitted


def _site_options(variable: str) -> list[str]:
    return shlex.split(os.environ.get(variable, ""))


def _dry_ids(array: list[Step]) -> dict[str, str]:
    """In place of jobs' ids that do not exist yet: the steps' names."""
    return {step.name: step.name for step in array}


def _table(study: str, steps: list[Step], ids: dict[str, str], missing: set[str], dry_run: bool) -> str:
    """A line for each step: what becomes of it, its job, its name, and the jobs that it waits for."""
    new = "to submit" if dry_run else "submitted"
    rows = [("", "step", "job", "after")]
    for step in steps:
        state = "done" if step.done else "damaged" if step.damage else new if step.name in missing else "queued"
        job = "" if dry_run and step.name in missing else ids.get(step.name, "")
        if step.name not in ids and not step.done and not step.damage:
            state = "not submitted"
        after = [] if step.done else [ids[need] for need in step.needs if need in ids]
        rows.append((state, step.name, job, " ".join(after) if len(after) <= NAMED_NEEDS else f"{len(after)} of these"))
    submitted = len(missing.intersection(ids))
    count = f"{submitted} {new}" if missing else "nothing to submit"
    damages = "".join(f"\n{step.name}: {step.damage}" for step in steps if step.damage)
    return f"{text_table(rows, left=4)}{damages}\n{study}: {len(steps)} steps, {count}"
