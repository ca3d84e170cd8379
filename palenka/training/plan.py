"""A run as planned: its configuration checked against data, teachers and this machine, before any model is built."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PretrainedConfig

from palenka import objectives, optimizers, paradigms
from palenka.data.integrity import read_prepared
from palenka.data.tokenizer import load_tokenizer, vocabulary_sha256
from palenka.data.tokens import DevWindows, TokenSplit, TrainWindows
from palenka.models.config import ModelConfig
from palenka.models.folder import check_model_folder, weights_sha256
from palenka.models.huggingface import count_parameters_of, model_on_meta
from palenka.models.outputs import ModelShape, model_shape
from palenka.models.probing import longest_input, most_positions
from palenka.objectives import TeacherShape
from palenka.paradigms import Paradigm, ParadigmConfig, Vocabulary
from palenka.paradigms._learned import learned
from palenka.runs.directory import find_run
from palenka.runs.identity import Identity
from palenka.teachers.cached import VERSION, CachedLogits
from palenka.teachers.kept import VERSION as STATES_VERSION
from palenka.teachers.kept import KeptStates
from palenka.training.course import Course, plan_course
from palenka.training.milestone_plan import MilestonePlan, plan_milestones
from palenka.training.recipes import Recipe, find_recipe
from palenka.training.schema import (
    DistillConfig,
    LayerMapping,
    RunConfig,
    TeacherConfig,
    TrainConfig,
    TrainingConfig,
)
from palenka.training.trackers import tracking_problems
from palenka.util.config import compose, load, problems_error, tell_idle_keys
from palenka.util.errors import UserError
from palenka.util.hardware import Precision, fast_precision, local_device
from palenka.util.paths import ROOT, data_root, evaluation_root, runs_root, signals_root
from palenka.util.processes import process_count

EVALUATIONS_OF_A_RUN = 10
SCHEMA = 1  # of the configuration: raised when a default or a meaning changes, and never for a new key
UNDECISIVE = ("name", "paths", "tracking", "evaluation")  # sections that change no weight
UNDECISIVE_TRAINING = ("skip_bad_steps",)  # where it matters, there is no result without it
USUAL_VOCABULARY = 16_000  # what `prepare` makes unless told otherwise


@dataclass(frozen=True)
class TeacherPlan:
    """A teacher that fits the run; `recipe` is what would train it if it is not trained yet.

    `learned` are the names of the paradigms that it learned by.
    """

    name: str
    folder: Path
    model: PretrainedConfig
    shape: TeacherShape
    recipe: Recipe | None = None
    learned: Sequence[str] = ("causal",)

    @cached_property
    def parameters(self) -> dict[str, int]:
        return count_parameters_of(self.model)

    @cached_property
    def weights_sha256(self) -> str:
        return weights_sha256(self.folder)


@dataclass(frozen=True)
class Workload:
    """The models of a run, which fit each other, and its batch: known before there is any data."""

    config: RunConfig
    model: PretrainedConfig
    teachers: list[TeacherPlan]
    processes: int

    @cached_property
    def parameters(self) -> dict[str, int]:
        return count_parameters_of(self.model)

    @property
    def teacher_shapes(self) -> list[TeacherShape]:
        """The teachers as objectives see them."""
        return _teacher_shapes(self.config, self.teachers)

    @cached_property
    def taught(self) -> frozenset[int] | None:
        """The paradigms of the run, by their numbers, that all teachers learned; None: there is one, and they did."""
        parts = self.config.paradigm_config.part_names
        common = frozenset(n for n, part in enumerate(parts) if all(part in of.learned for of in self.teachers))
        return None if common == {0} and len(parts) == 1 else common

    @cached_property
    def built_terms(self) -> dict[str, objectives.Objective]:
        """The terms that have a weight, on the meta device."""
        return {name: _build_on_meta(name, self.config, self.model, self.teachers) for name in self.config.terms}

    @cached_property
    def owned_parameters(self) -> int:
        """Parameters that the objectives own: trained with the student, and left out of its folder."""
        return sum(p.numel() for objective in self.built_terms.values() for p in objective.parameters())

    @cached_property
    def optimizer(self) -> optimizers.Optimizer:
        """How weights move, on the meta device."""
        student, owned = model_on_meta(self.model), nn.ModuleDict(self.built_terms)
        return optimizers.build(self.config.training, nn.ModuleDict({"student": student, "objectives": owned}))

    @property
    def state_bytes(self) -> int:
        """Bytes that a training holds from step to step: weights, the optimizer's state, the average of weights."""
        average = 4 * self.parameters["total"] if self.config.training.ema else 0
        return 4 * (self.parameters["total"] + self.owned_parameters) + self.optimizer.state_bytes() + average

    @property
    def micro_batch_size(self) -> int:
        training = self.config.training
        return training.micro_batch_size or training.first_batch_size // self.processes

    @property
    def tokens_per_step(self) -> int:
        """Positions of a step's windows, on average over the training."""
        return self.config.training.mean_batch_size * self.config.data.seq_length

    @property
    def epochs(self) -> float | None:
        """Passes over the text; None where steps are given, and the text is not there."""
        return self.config.training.num_epochs

    @property
    def precision(self) -> Precision:
        chosen = self.config.training.precision
        return fast_precision(local_device()) if chosen == "auto" else chosen


@dataclass(frozen=True)
class Plan(Workload):
    """A checked run, ready to start."""

    runs: Path
    data_folder: Path
    vocabulary: Vocabulary
    course: Course
    milestones: MilestonePlan

    @cached_property
    def paradigm(self) -> Paradigm:
        """How the run learns from its windows."""
        return paradigms.of(self.config.paradigm, self.vocabulary)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.course.total_steps

    def windows(self) -> TrainWindows:
        """The training text, opened."""
        split, config = TokenSplit.open(self.data_folder / "train"), self.config
        return TrainWindows(
            split, config.data.windows, config.data_seed, **self._ids, first_lengths=config.first_lengths
        )

    def dev_windows(self) -> DevWindows:
        """The dev text, opened."""
        data = self.config.data
        return DevWindows(TokenSplit.open(self.data_folder / "dev"), data.windows, data.dev_samples, **self._ids)

    @property
    def _ids(self) -> dict[str, Any]:
        return {"bos_id": self.vocabulary.bos, "pad_id": self.vocabulary.pad}

    @property
    def total_windows(self) -> int:
        """Windows that the whole run sees, over all epochs."""
        return self.course.positions(self.total_steps - 1).stop

    @cached_property
    def epochs(self) -> float:
        """Passes over the text."""
        return self.windows().epochs_before(self.total_windows)

    @cached_property
    def cached_logits(self) -> CachedLogits | None:
        """The cached teacher logits that the run learns from, if any. Every teacher has to be trained."""
        recorded = self.config.recorded
        if recorded is None:
            return None
        logit: Any = self.config.terms["logit"]
        shares: dict[str, float] = {}
        for teacher in self.teachers:
            shares[teacher.name] = shares.get(teacher.name, 0.0) + teacher.shape.share
        identity = {
            "version": VERSION,
            "top_k": recorded.top_k,
            **({"samples": recorded.samples} if recorded.samples else {}),
            "temperature": logit.temperature,
            "combine": logit.combine,
            "teachers": self.teacher_weights,
            "shares": shares,
            "precision": self.precision,
            "data": read_prepared(self.data_folder)["key"],
            "windows": asdict(self.config.data.windows),
            "data_seed": self.config.data_seed,
        }
        return CachedLogits(self._signals, identity, self.config.data.seq_length)

    @cached_property
    def kept_states(self) -> KeptStates | None:
        """What is kept of the teachers' states, if anything. Every teacher has to be trained."""
        cache = self.config.kept
        if cache is None:
            return None
        identity = {
            "version": STATES_VERSION, "teachers": self.teacher_weights, "states": cache.precision,
            "precision": self.precision, "data": read_prepared(self.data_folder)["key"],
            "windows": asdict(self.config.data.windows), "data_seed": self.config.data_seed,
        }  # fmt: skip
        shapes = [teacher.shape for teacher in self.teachers]
        layers: tuple[tuple[int, ...], ...] = tuple(() for _ in shapes)
        if cache.hidden_states:
            mapped = [{layer for layer, _ in shape.layer_pairs} - {shape.num_hidden_layers} for shape in shapes]
            layers = tuple(tuple(sorted(of_teacher)) for of_teacher in mapped)
            identity["layers"] = [list(of_teacher) for of_teacher in layers]
        return KeptStates(
            self._signals, identity, self.windows().epoch_size(0), self.config.data.seq_length, layers,
            tuple(shape.hidden_size for shape in shapes), cache.precision, cache.max_gib,
        )  # fmt: skip

    @property
    def _signals(self) -> Path:
        """Where what teachers say of this text is kept."""
        signals = self.config.paths.signals
        return (ROOT / signals if signals else signals_root()) / self.config.data.name

    @cached_property
    def teacher_weights(self) -> dict[str, str]:
        """Fingerprints of the teachers' weights."""
        return {teacher.name: teacher.weights_sha256 for teacher in self.teachers}

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.runs / self.config.name

    @property
    def method(self) -> str:
        return "distill" if self.teachers else "train"

    @property
    def eval_steps(self) -> int:
        return self.config.training.eval_steps or max(1, self.total_steps // EVALUATIONS_OF_A_RUN)

    @property
    def checkpoint_steps(self) -> int:
        return self.config.training.checkpoint_steps or self.eval_steps

    @property
    def resolved(self) -> dict[str, Any]:
        """The configuration with all defaults, as plain values."""
        return self.config.model_dump(mode="json", exclude_none=True)

    def identity(self) -> Identity:
        """What decides the outcome: the configuration except for UNDECISIVE, the data, the teachers' weights."""
        return Identity(given=self._decisive(exclude_defaults=True), whole=self._decisive(exclude_defaults=False))

    def _decisive(self, exclude_defaults: bool) -> dict[str, Any]:
        resolved = self.config.model_dump(mode="json", exclude_none=True, exclude_defaults=exclude_defaults)
        config = {key: value for key, value in resolved.items() if key not in UNDECISIVE}
        config["training"] = {key: value for key, value in config["training"].items() if key not in UNDECISIVE_TRAINING}
        config.get("teacher_cache", {}).pop("max_gib", None)
        return {
            "schema": SCHEMA,
            "config": config,
            "data": read_prepared(self.data_folder)["key"],
            "teachers": self.teacher_weights,
        }


def schema_of(file: Path) -> type[RunConfig]:
    """What a config must be: distill.py's with teachers, train.py's without."""
    return DistillConfig if "teachers" in compose(file) else TrainConfig


def load_plan(path: Path, overrides: Sequence[str], schema: type[RunConfig], dry_run: bool = False) -> Plan:
    """Read a configuration and check it against data, teachers and this machine.

    A dry run also takes teachers that are not trained yet, from the configs in config/ that name them.

    Raises:
        UserError: naming every problem.
    """
    config = load(path, overrides, schema)
    tell_idle_keys([config], str(path))
    return make_plan(config, str(path), dry_run)


def make_plan(config: RunConfig, where: str, dry_run: bool = False) -> Plan:
    """Check a valid configuration against what it names."""
    paths = config.paths
    data_folder = data_folder_of(config)
    task_folder = ROOT / paths.evaluation if paths.evaluation else evaluation_root()
    tokenizer, fingerprint = _prepared_tokenizer(data_folder)
    vocabulary = Vocabulary.of(tokenizer)
    workload, problems = _fit_models(config, vocabulary, fingerprint, dry_run)
    problems += [*_precision_problems(config.training), *tracking_problems(config.tracking)]
    problems += _cache_problems(config, workload.model)
    try:
        first = paradigms.DOOR.find(config.paradigm_config.part_names[0])
        milestones = plan_milestones(
            config.evaluation, task_folder, tokenizer, workload.model, config.name, first.attention == "full"
        )
    except UserError as error:
        problems.append(f"evaluation.tasks: {error}")
    if problems:
        raise problems_error(where, problems)
    plan = Plan(
        config, workload.model, workload.teachers, workload.processes, _runs_of(config), data_folder, vocabulary,
        course=Course(1, 1, 0, 0), milestones=milestones,
    )  # fmt: skip
    plan.dev_windows()  # refuses too small a sample
    _check_batch(plan.paradigm, config.training, where)
    training = config.training
    sizes = (training.first_batch_size, training.batch_size)
    course = plan_course(sizes, training.max_steps, training.num_epochs, plan.windows(), where)
    _check_stages(config, course, where)
    return replace(plan, course=course)


def make_workload(config: RunConfig, where: str) -> Workload:
    """The models of a valid configuration, as in a dry run, but also where its data is not prepared yet.

    In that case the vocabulary has USUAL_VOCABULARY tokens, and no teacher is refused for having another one.
    """
    folder, vocabulary, fingerprint = data_folder_of(config), Vocabulary(USUAL_VOCABULARY), None
    if (folder / "prepared.json").exists():
        tokenizer, fingerprint = _prepared_tokenizer(folder)
        vocabulary = Vocabulary.of(tokenizer)
    workload, problems = _fit_models(config, vocabulary, fingerprint, dry_run=True)
    if problems:
        raise problems_error(where, problems)
    return workload


def data_folder_of(config: RunConfig) -> Path:
    """The folder of the run's prepared text."""
    return (ROOT / config.paths.data if config.paths.data else data_root()) / config.data.name


def _runs_of(config: RunConfig) -> Path:
    return ROOT / config.paths.runs if config.paths.runs else runs_root()


def _prepared_tokenizer(data_folder: Path) -> tuple[Any, str]:
    """The tokenizer of prepared data, which is whole, and the fingerprint of its vocabulary."""
    read_prepared(data_folder)
    folder = data_folder / "tokenizer"
    return load_tokenizer(folder), vocabulary_sha256(folder)


def _fit_models(
    config: RunConfig, vocabulary: Vocabulary, fingerprint: str | None, dry_run: bool
) -> tuple[Workload, list[str]]:
    """The models of a run, and what does not fit. Without a fingerprint there is no tokenizer yet."""
    model = config.trained_model.hugging_face(_token_ids(vocabulary))
    processes = process_count()
    teachers: list[TeacherPlan] = []
    problems = [*_length_problems(config, model), *_batch_problems(config.training, processes)]
    shares = [teacher.weight for teacher in config.teacher_list]
    for index, teacher in enumerate(config.teacher_list):
        share = teacher.weight / sum(shares)
        try:
            found = _find_teacher(teacher, vocabulary, fingerprint, config, dry_run)
            teachers.append(_fit_teacher(found, teacher, share, config, model))
        except UserError as error:
            problems.append(f"teachers.{index}: {error}")
    workload = Workload(config, model, teachers, processes)
    if len(teachers) == len(shares):
        problems += list(_objective_problems(config, model, teachers)) or _lesson_problems(workload)
    return workload, problems


def _lesson_problems(work: Workload) -> Iterator[str]:
    parts = work.config.paradigm_config.part_names
    untaught = [] if work.taught is None else [part for n, part in enumerate(parts) if n not in work.taught]
    if untaught == parts:
        learned = ", ".join(f"{teacher.name} by {' and '.join(teacher.learned)}" for teacher in work.teachers)
        yield (
            f"paradigm: {' and '.join(parts)}: no teacher can teach what it has not learned, and the "
            f"teachers learned so: {learned}; give both one paradigm"
        )
    elif untaught and not any(_needs_no_teacher(term) for term in work.built_terms.values()):
        yield (
            f"paradigm: {' and '.join(untaught)}: nothing would be learned so, since not all teachers have learned it; "
            "give an objective without teachers, such as hard_target, a weight"
        )


def _needs_no_teacher(term: objectives.Objective) -> bool:
    return isinstance(term, objectives.TokenObjective) and term.teacher_logits == "none"


def _length_problems(config: RunConfig, model: PretrainedConfig) -> Iterator[str]:
    positions = most_positions(model)
    if positions is not None and config.data.seq_length > positions:
        yield (
            f"data.seq_length: {config.data.seq_length} tokens do not fit the model's "
            f"max_position_embeddings {positions}"
        )


def _batch_problems(training: TrainingConfig, processes: int) -> Iterator[str]:
    portion, size = (training.micro_batch_size or 1) * processes, training.first_batch_size
    if size % portion:
        yield (
            f"training.{_first_size_key(training)}: {size} sequences cannot be divided evenly among {processes} "
            f"process(es) in micro-batches of {training.micro_batch_size or 'any size'}; make it a multiple of "
            f"{portion}"
        )


def _first_size_key(training: TrainingConfig) -> str:
    return "initial_batch_size" if training.initial_batch_size else "batch_size"


def _check_batch(paradigm: Paradigm, training: TrainingConfig, where: str) -> None:
    if training.first_batch_size < paradigm.least_batch:
        raise UserError(
            f"{where}: training.{_first_size_key(training)}: {training.first_batch_size}: the paradigm "
            f"{paradigm.config.name} needs at least {paradigm.least_batch} sequences in a step, so that each of its "
            "parts has one"
        )


def _check_stages(config: RunConfig, course: Course, where: str) -> None:
    """Each has a step, or a run would be said to have learned what it was never asked."""
    stages = config.paradigm_config.stages
    whole = course.total_steps * config.training.mean_batch_size / config.training.batch_size  # in the largest ones
    for share, stage in stages if len(stages) > 1 else []:
        if share * whole < 1:
            raise UserError(
                f"{where}: paradigm: {stage.name}: {share:.2%} of {course.total_steps} steps may be less than one; "
                "give it longer, or leave it out"
            )


def _precision_problems(training: TrainingConfig) -> Iterator[str]:
    if training.precision == "fp16" and local_device().type == "cpu":
        yield "training.precision: fp16 does not work on CPUs; use auto, bf16 or fp32"


def _cache_problems(config: RunConfig, model: PretrainedConfig) -> Iterator[str]:
    if config.recorded and config.recorded.top_k > model.vocab_size:
        yield f"cached_logits.top_k: {config.recorded.top_k}: the vocabulary has {model.vocab_size} tokens"


def _objective_problems(config: RunConfig, student: PretrainedConfig, teachers: list[TeacherPlan]) -> Iterator[str]:
    """Build each objective on the meta device, where values that do not fit the models show."""
    for name in config.terms:
        try:
            _build_on_meta(name, config, student, teachers)
        except UserError as error:
            yield f"objective.{name}: {error}"


def _build_on_meta(
    name: str, config: RunConfig, student: PretrainedConfig, teachers: list[TeacherPlan]
) -> objectives.Objective:
    with torch.device("meta"):
        return config.objective_class(name)(config.terms[name], model_shape(student), _teacher_shapes(config, teachers))


def _teacher_shapes(config: RunConfig, teachers: list[TeacherPlan]) -> list[TeacherShape]:
    """The teachers as objectives see them: cached logits are one teacher, who speaks for all."""
    shapes = [teacher.shape for teacher in teachers]
    return [replace(shapes[0], share=1.0)] if config.recorded else shapes


@dataclass(frozen=True)
class _FoundTeacher:
    folder: Path
    model: PretrainedConfig
    learned: Sequence[str]
    recipe: Recipe | None = None


def _find_teacher(
    teacher: TeacherConfig, vocabulary: Vocabulary, fingerprint: str | None, config: RunConfig, dry_run: bool
) -> _FoundTeacher:
    """The finished run of a teacher over this vocabulary, or in a dry run the config that would train it."""
    runs = _runs_of(config)
    try:
        folder = find_run(teacher.run, runs, base=ROOT)
    except UserError as error:
        recipe = find_recipe(teacher.run, config.data.name)
        if dry_run and recipe:
            model = _recipe_model(recipe).hugging_face(_token_ids(vocabulary))
            return _FoundTeacher(runs / teacher.run, model, _recipe_parts(recipe), recipe)
        where = recipe or f"… name={teacher.run}"
        raise UserError(f"{error}; train it first: python train.py --config {where}") from None
    if (folder / "identity.json").exists() and not (folder / "result.json").exists():
        raise UserError(f"the run {teacher.run!r} is not finished; start it again to resume it")
    model = check_model_folder(folder)
    if fingerprint and _vocabulary_sha256(folder) != fingerprint:
        raise UserError(
            f"the teacher {teacher.run!r} has a different vocabulary ({model.vocab_size} tokens) from the data "
            f"{config.data.name!r} ({vocabulary.size} tokens); train the teacher on this data"
        )
    rows = model_shape(model).vocab_size
    if fingerprint and rows < vocabulary.size:
        raise UserError(
            f"the teacher {teacher.run!r} has {rows} embeddings, fewer than the {vocabulary.size} entries of its own "
            "tokenizer; is its config.json complete?"
        )
    return _FoundTeacher(folder, model, learned(folder).part_names)


def _token_ids(vocabulary: Vocabulary) -> dict[str, int | None]:
    """What models take from a tokenizer."""
    ids = {"bos_token_id": vocabulary.bos, "eos_token_id": vocabulary.eos, "pad_token_id": vocabulary.pad}
    return {"vocab_size": vocabulary.size, **ids}


def _vocabulary_sha256(folder: Path) -> str | None:
    return vocabulary_sha256(folder) if (folder / "tokenizer.json").exists() else None


def _recipe_model(recipe: Recipe) -> ModelConfig:
    return ModelConfig.model_validate(recipe.values.get("model") or recipe.values["student"])


def _recipe_parts(recipe: Recipe) -> list[str]:
    return cast(ParadigmConfig, paradigms.DOOR.read(recipe.values.get("paradigm", "causal"))).part_names


def _fit_teacher(
    found: _FoundTeacher, teacher: TeacherConfig, share: float, config: RunConfig, student: PretrainedConfig
) -> TeacherPlan:
    longest, sizes = longest_input(model_on_meta(found.model)), model_shape(found.model)
    if longest is not None and config.data.seq_length > longest:
        raise UserError(
            f"the teacher {teacher.run!r} reads at most {longest} tokens, data.seq_length is {config.data.seq_length}"
        )
    pairs = layer_pairs(teacher.layer_mapping, model_shape(student), sizes, teacher.run)
    known = asdict(sizes) | {"vocab_size": student.vocab_size}  # rows beyond are padding
    return TeacherPlan(
        teacher.run, found.folder, found.model, TeacherShape(**known, share=share, layer_pairs=pairs), found.recipe,
        found.learned,
    )  # fmt: skip


def layer_pairs(
    mapping: LayerMapping, student: ModelShape, teacher: ModelShape, name: str
) -> tuple[tuple[int, int], ...]:
    """The (teacher layer, student layer) pairs of a mapping; 0 is the embeddings.

    `uniform`: student layer j learns from teacher layer round(j · L_T / L_S), j = 1…L_S. `last`: last from last.

    Raises:
        UserError: a layer beyond a model's depth.
    """
    deepest = (teacher.num_hidden_layers, student.num_hidden_layers)
    if mapping == "uniform":
        return tuple((round(layer * deepest[0] / deepest[1]), layer) for layer in range(1, deepest[1] + 1))
    if mapping == "last":
        return (deepest,)
    pairs = tuple(mapping.items()) if isinstance(mapping, dict) else tuple(mapping)
    if not pairs:
        forms = "pairs of [teacher layer, student layer], 'uniform' or 'last'"
        raise UserError(f"layer_mapping of {name!r} is empty; give {forms}")
    for pair in pairs:
        for layer, depth, owner in zip(pair, deepest, (f"teacher {name!r}", "student"), strict=True):
            if not 0 <= layer <= depth:
                layers = f"layers 0 (embeddings) to {depth}"
                raise UserError(f"layer_mapping {list(pair)}: the {owner} has {layers}, there is no {layer}")
    return pairs
