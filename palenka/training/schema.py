"""The schema of a run: what a YAML file may say, each section with the checks that need nothing but itself."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_validator,
)

from palenka import objectives, optimizers, paradigms
from palenka.data.windows import WindowConfig
from palenka.models.config import ModelConfig
from palenka.objectives import Objective, ObjectiveConfig, StateObjective, TokenObjective
from palenka.optimizers import Hyperparameters
from palenka.optimizers._schedules import Schedule
from palenka.paradigms import ParadigmConfig
from palenka.training.course import MOST_WINDOWS
from palenka.training.milestones import EvaluationConfig
from palenka.training.trackers import TrackingConfig
from palenka.util.paths import DATA_NAME, RESERVED, check_length
from palenka.util.section import Section

# Far beyond any training of this laboratory; anything larger is a slip that would silently keep a machine busy.
MOST_AT_ONCE = 1 << 20  # positions of a window, or sequences of a step
MOST_EPOCHS = 10_000
LARGEST_SEED = 2**63 - 1


def _check_data_name(name: str) -> str:
    if not DATA_NAME.fullmatch(name):
        raise ValueError(
            "expected the name that prepared data was given, of letters, digits and . _ + - (and / between parts), "
            f"got {name[:100]!r}; the folder that holds such data is paths.data, or PALENKA_DATA"
        )
    check_length(name)
    return name


def _check_run_name(name: str) -> str:
    """Refuse names that clash with files within a run, or with the place of models from the hub."""
    check_length(name)
    first, *others = name.split("/")
    for part in [part for part in others if part in RESERVED or part.startswith("checkpoint-")]:
        raise ValueError(f"{part!r} is a file or folder within a run; choose another name than {name!r}")
    if first == "hub":
        raise ValueError(f"runs/hub/ is for models of the Hugging Face Hub; choose another name than {name!r}")
    return name


def _steps_or_share(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        expected = f"a whole number of steps from 0 to {MOST_WINDOWS:,}, or a share of all steps below 1"
        raise ValueError(f"expected {expected}, got {value!r}") from None


Steps = Annotated[
    Annotated[int, Field(ge=0, le=MOST_WINDOWS)] | Annotated[float, Field(gt=0, lt=1)], WrapValidator(_steps_or_share)
]


class DataConfig(Section):
    """What text a run sees, and how it is cut into windows."""

    name: Annotated[str, AfterValidator(_check_data_name)] = Field(
        description="prepared data, a name below PALENKA_DATA"
    )
    seq_length: int = Field(default=128, ge=8, le=MOST_AT_ONCE, description="tokens of a window")
    shorter_first: list[dict[int, float]] = Field(
        default=[], description="lengths of first epochs, each with its share of all: [{128: 0.6}, {256: 0.2}]"
    )
    dev_samples: int = Field(default=8192, ge=1, description="dev windows, at most, evenly over the domains")
    fraction: float = Field(default=1.0, gt=0, le=1, description="share of the training text that is seen")
    bos: Literal["window", "document", "none"] = Field(
        default="window", description="what <s> opens: each window, each document, or nothing"
    )
    crop: Literal["epoch_offset", "fixed", "random"] = Field(
        default="epoch_offset",
        description="windows cut anew each epoch, cut once for all epochs, or each at a random offset",
    )
    window_start: Literal["line", "anywhere"] = Field(
        default="line", description="at the start of a line where one is near, or anywhere"
    )
    seed: int | None = Field(
        default=None, ge=0, le=LARGEST_SEED, description="decides windows and their order; the run's seed unless given"
    )

    @model_validator(mode="after")
    def _lengths_fit(self) -> "DataConfig":
        lengths = [*self.first_shares, self.seq_length]
        if any(len(each) != 1 for each in self.shorter_first) or lengths != sorted(set(lengths)) or lengths[0] < 8:
            raise ValueError(
                f"shorter_first: expected lengths from 8 to below seq_length {self.seq_length}, each longer than the "
                f"one before it and with its share, such as [{{128: 0.6}}, {{256: 0.2}}], got {self.shorter_first}"
            )
        for length in lengths:
            if self.seq_length % length:
                raise ValueError(f"shorter_first: seq_length {self.seq_length} is no multiple of {length}")
        shares = self.first_shares.values()
        if min(shares, default=0.5) <= 0 or sum(shares) >= 1:
            raise ValueError("shorter_first: expected shares above 0, and less than 1 in all")
        return self

    @property
    def first_shares(self) -> dict[int, float]:
        """Lengths of the windows of first epochs, and their shares of the training."""
        return {length: share for each in self.shorter_first for length, share in each.items()}

    @property
    def windows(self) -> WindowConfig:
        return WindowConfig(self.seq_length, self.bos, self.crop, self.window_start, self.fraction)


class TrainingConfig(Hyperparameters):
    """Optimisation. `batch_size` is sequences per optimizer step over all processes."""

    batch_size: int = Field(ge=1, le=MOST_AT_ONCE, description="sequences of an optimizer step, over all processes")
    initial_batch_size: int | None = Field(
        default=None, ge=1, le=MOST_AT_ONCE,
        description="sequences of the first steps, by as many of which the batch grows evenly to batch_size",
    )
    micro_batch_size: int | None = Field(
        default=None, ge=1,
        description="sequences that a process computes at once; its whole share of a step unless given",
    )
    num_epochs: float | None = Field(
        default=None, gt=0, le=MOST_EPOCHS, description="passes over the text; give this or max_steps"
    )
    max_steps: int | None = Field(
        default=None, ge=1, le=MOST_WINDOWS, description="optimizer steps; give this or num_epochs"
    )
    warmup_steps: Steps = Field(
        default=0, description="steps in which the learning rate rises from 0, or their share of all, below 1"
    )
    schedule: Schedule = Field(default="cosine", description="how the learning rate comes down from its peak")
    min_lr_ratio: float = Field(
        default=0.0, ge=0, le=1, description="what the schedule comes down to, as a share of the peak"
    )
    cooldown_steps: Steps = Field(
        default=0,
        description="last steps in which what is left of the learning rate goes to 0, or their share of all",
    )
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="decay of a moving average of the weights, left beside the plain ones"
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="gradients are clipped to this norm, the student's and the objectives' apart"
    )
    eval_steps: int | None = Field(
        default=None, ge=1, description="steps between dev evaluations; a tenth of the run unless given"
    )
    checkpoint_steps: int | None = Field(
        default=None, ge=1, description="steps between checkpoints; eval_steps unless given"
    )
    skip_bad_steps: int = Field(
        default=0, ge=0, description="steps of the whole run that may be skipped because their gradient is not finite"
    )
    logging_steps: int = Field(default=20, ge=1, description="steps between train records in metrics.jsonl")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto",
        description="of the forward pass; auto is bf16 where it is fast, else fp16 on a GPU and fp32 on a CPU",
    )
    compile: Literal["auto"] | bool = Field(
        default="auto", description="torch.compile; auto tries it where it pays and goes on without where it fails"
    )

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingConfig":
        if (self.num_epochs is None) == (self.max_steps is None):
            raise ValueError("give either num_epochs or max_steps")
        return self

    @model_validator(mode="after")
    def _batch_rises(self) -> "TrainingConfig":
        if self.batch_size % self.first_batch_size:
            raise ValueError(
                f"initial_batch_size: batches grow by {self.initial_batch_size} sequences at a time; make batch_size, "
                f"{self.batch_size}, a multiple of it"
            )
        return self

    @property
    def first_batch_size(self) -> int:
        """Sequences of the first step."""
        return self.initial_batch_size or self.batch_size

    @property
    def mean_batch_size(self) -> int:
        """Sequences of a step, on average."""
        return (self.first_batch_size + self.batch_size) // 2


def _one_message(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """Say what is expected once, not once per form."""
    try:
        return read(value)
    except ValidationError:
        raise ValueError(
            f"expected 'uniform', 'last', a list of [teacher layer, student layer] pairs, or a mapping "
            f"{{teacher layer: student layer}}, got {value!r}"
        ) from None


LayerMapping = Annotated[
    Literal["uniform", "last"] | list[tuple[int, int]] | dict[int, int], WrapValidator(_one_message)
]


class TeacherConfig(Section):
    """A finished run to learn from."""

    run: str = Field(description="a finished run's name, or a model folder")
    weight: float = Field(
        default=1.0, gt=0, description="its share in every term, divided by the sum of all teachers' weights"
    )
    layer_mapping: LayerMapping = Field(
        default="uniform", description="uniform, last, or pairs of [teacher layer, student layer]"
    )


class CachedLogitsConfig(Section):
    """Learn from the teachers' cached prediction, of which the `top_k` likeliest tokens are kept."""

    top_k: int = Field(default=128, ge=1, description="likeliest tokens kept of each prediction")
    samples: int = Field(
        default=0, ge=0, description="tokens drawn of all others to stand for them; 0: these have the student's shape"
    )


class TeacherCacheConfig(Section):
    """Keep the teachers' final states of each window, and run them only the first time. Needs data.crop: fixed."""

    precision: Literal["bf16", "fp8"] = Field(default="bf16", description="of a number: 2 bytes, or 1")
    hidden_states: bool = Field(
        default=False, description="keep states of the mapped layers, too, which objective.hidden_state learns from"
    )
    max_gib: float = Field(default=100.0, gt=0, description="what it may take of the disk; the rest is computed anew")


class PathsConfig(Section):
    """Folders in place of the defaults and of PALENKA_DATA, _RUNS, _SIGNALS and _EVAL, relative to the repository's
    root."""

    data: str | None = Field(default=None, description="prepared data")
    runs: str | None = Field(default=None, description="runs")
    signals: str | None = Field(default=None, description="recorded teachers")
    evaluation: str | None = Field(default=None, description="evaluation items")


def _objective_schema() -> type[BaseModel]:
    kinds = {name: objectives.find(name) for name in objectives.available()}
    terms: dict[str, Any] = {
        name: (kind.Config | None, Field(default=None, description=(kind.__doc__ or "").split("\n")[0].rstrip(".")))
        for name, kind in kinds.items()
    }
    return create_model("ObjectiveTerms", __base__=Section, __module__=__name__, **terms)


ObjectiveTerms = _objective_schema()
CAUSAL = paradigms.DOOR.read("causal")


RunName = Annotated[
    str,
    AfterValidator(_check_run_name),
    Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"),
]


class RunConfig(Section):
    """What every run has."""

    name: RunName = Field(description="names the run and its folder; may be nested, as study/kd-s3")
    data: DataConfig = Field(description="the text and how it is cut")
    training: TrainingConfig = Field(description="optimisation")
    paradigm: paradigms.DOOR.section = Field(  # type: ignore[name-defined]
        default=CAUSAL, description="what of a window is shown and predicted"
    )
    seed: int = Field(
        default=42, ge=0, le=LARGEST_SEED, description="decides initial weights and the random numbers of every step"
    )
    paths: PathsConfig = Field(default=PathsConfig(), description="folders in place of the environment's")
    tracking: TrackingConfig = Field(default=TrackingConfig(), description="wandb, trackio and TensorBoard")
    evaluation: EvaluationConfig | None = Field(default=None, description="scores along the way")

    @property
    def terms(self) -> dict[str, ObjectiveConfig]:
        """Objectives with a weight above 0; the others cost nothing."""
        raise NotImplementedError

    def objective_class(self, term: str) -> type[Objective]:
        """What a term is."""
        return objectives.find(term)

    def idle(self) -> Iterator[tuple[str, str]]:
        """Keys that change nothing as the others stand, set or not, each with what it needs."""
        optimizer = self.training.optimizer.name
        for key in optimizers.find(optimizer).unused:
            yield f"training.{key}", f"an optimizer that has it; {optimizer} has not"
        yield from ((f"training.{key}", needs) for key, needs in self.training.optimizer.idle(self.training))
        yield from ((f"paradigm.{key}", needs) for key, needs in self.paradigm_config.idle())
        for name, term in self.terms.items():
            yield from ((f"objective.{name}.{key}", needs) for key, needs in term.idle())
        kinds = [self.objective_class(name) for name in self.terms]
        if not any(issubclass(kind, StateObjective) and kind.teacher_states == "mapped" for kind in kinds):
            for number, _ in enumerate(self.teacher_list):
                yield f"teachers.{number}.layer_mapping", "objective.hidden_state"
            if self.kept and self.kept.hidden_states:
                yield "teacher_cache.hidden_states", "objective.hidden_state"
        if len(self.teacher_list) == 1:
            yield "teachers.0.weight", "a second teacher"
            if "logit" in self.terms:
                yield "objective.logit.combine", "a second teacher"

    @property
    def data_seed(self) -> int:
        """What decides windows and their order."""
        return self.seed if self.data.seed is None else self.data.seed

    @model_validator(mode="after")
    def _lengths_last(self) -> "RunConfig":
        """Lengths change where an epoch begins, so that each epoch sees each token once."""
        lengths, epochs = list(self.data.first_shares), self.training.num_epochs
        if lengths and epochs is None:
            raise ValueError("data.shorter_first: give training.num_epochs, of which it has shares, not max_steps")
        if lengths and self.recorded:
            raise ValueError("data.shorter_first: cached_logits are of windows of one length; leave one of them out")
        for length in lengths:
            if length not in self.first_lengths or len(self.first_lengths) >= (epochs or 0):
                raise ValueError(
                    f"data.shorter_first: lengths change where an epoch begins, and {epochs:g} epochs are too few for "
                    f"one of each length by these shares: they would be {[*self.first_lengths, self.data.seq_length]}"
                )
        return self

    @property
    def first_lengths(self) -> list[int]:
        """Lengths of the windows of the first epochs, one for each, where they are shorter than later ones."""
        lengths: list[int] = []
        share = 0.0
        for length, of_it in self.data.first_shares.items():
            share += of_it
            lengths += [length] * (round(share * (self.training.num_epochs or 0)) - len(lengths))
        return lengths

    @property
    def trained_model(self) -> ModelConfig:
        raise NotImplementedError

    @property
    def paradigm_config(self) -> ParadigmConfig:
        """Its paradigm, as what it is."""
        return cast(ParadigmConfig, self.paradigm)

    @property
    def sets_attention(self) -> bool:
        """Whether models are told by masks who sees whom: no part of its paradigm is plainly causal throughout."""
        parts = map(paradigms.DOOR.find, self.paradigm_config.part_names)
        return self.paradigm_config.isolates or any(part.attention == "full" for part in parts)

    @property
    def teacher_list(self) -> list[TeacherConfig]:
        return []

    @property
    def recorded(self) -> CachedLogitsConfig | None:
        """What is cached of the teachers, if they are not run."""
        return None

    @property
    def kept(self) -> TeacherCacheConfig | None:
        """What is kept of the teachers that run, if anything."""
        return None


class TrainConfig(RunConfig):
    """A teacher or an undistilled baseline: cross-entropy alone."""

    model: ModelConfig = Field(description="the model to train")

    @model_validator(mode="before")
    @classmethod
    def _has_no_teachers(cls, values: Any) -> Any:
        if isinstance(values, dict) and "teachers" in values and "model" not in values:
            raise ValueError("it has teachers: python distill.py trains it, not train.py")
        return values

    @property
    def terms(self) -> dict[str, ObjectiveConfig]:
        return {"cross_entropy": ObjectiveConfig.model_validate({"weight": 1.0})}

    def objective_class(self, term: str) -> type[Objective]:
        return objectives.find("hard_target")

    @property
    def trained_model(self) -> ModelConfig:
        return self.model


class DistillConfig(RunConfig):
    """A student with its teachers and objectives."""

    student: ModelConfig = Field(description="the model to train")
    teachers: list[TeacherConfig] = Field(min_length=1, description="whom it learns from")
    objective: ObjectiveTerms = Field(  # type: ignore[valid-type]
        description="terms of the loss by name; one without weight is left out"
    )
    cached_logits: CachedLogitsConfig | None = Field(
        default=None, description="learn from cached teacher logits instead of running the teachers"
    )

    teacher_cache: TeacherCacheConfig | None = Field(
        default=None, description="run the teachers once for each window, and keep their states for later epochs"
    )

    @model_validator(mode="before")
    @classmethod
    def _has_teachers(cls, values: Any) -> Any:
        if isinstance(values, dict) and "model" in values and "student" not in values:
            raise ValueError("it has a model without teachers: python train.py trains it, not distill.py")
        if isinstance(values, dict) and "model" in values:
            raise ValueError(
                "it has a student and a model, of which train.py trains one and distill.py the other: leave the model "
                "out; what a teacher's file and a student's share belongs in a base of both"
            )
        return values

    @model_validator(mode="after")
    def _windows_come_again(self) -> "DistillConfig":
        if self.teacher_cache is None:
            return self
        if self.data.crop != "fixed":
            raise ValueError("teacher_cache: each epoch has other windows; it needs data.crop: fixed")
        if self.data.shorter_first:
            raise ValueError("teacher_cache: it is of windows of one length; leave it or data.shorter_first out")
        if self.paradigm != CAUSAL:
            raise ValueError(
                f"teacher_cache: it is for paradigm: causal alone; leave it out with {self.paradigm.name}, which shows "
                "a window otherwise at each visit"
            )
        if self.recorded:
            raise ValueError("teacher_cache: cached_logits are of teachers that do not run; leave out one of them")
        for name in self.terms:
            kind = self.objective_class(name)
            wanted = kind.teacher_states if issubclass(kind, StateObjective) else "last"
            if wanted == "mapped" and not self.teacher_cache.hidden_states:
                raise ValueError(
                    f"teacher_cache: it holds final states alone; objective.{name} needs those of mapped layers: give "
                    "teacher_cache.hidden_states: true, or leave out one or the other"
                )
            if wanted == "all":
                raise ValueError(
                    f"teacher_cache: objective.{name} needs more of the teachers than their states of the last and of "
                    "mapped layers: leave out one or the other"
                )
        return self

    @model_validator(mode="after")
    def _some_weight(self) -> "DistillConfig":
        if not self.terms:
            raise ValueError("objective: no term has a weight above 0, so there is nothing to learn")
        return self

    @model_validator(mode="after")
    def _cache_is_enough(self) -> "DistillConfig":
        if self.recorded and self.paradigm != CAUSAL:
            raise ValueError(
                f"cached_logits: they are cached for paradigm: causal alone; leave them out with {self.paradigm.name}, "
                "which shows a window otherwise at each visit"
            )
        if self.recorded and "logit" not in self.terms:
            raise ValueError("cached_logits: it is for objective.logit, which has no weight above 0; leave it out")
        logit: Any = self.terms.get("logit")
        if self.recorded and self.recorded.samples and logit.divergence != "forward":
            raise ValueError(
                "cached_logits.samples: from tokens that were drawn, gradients are the teachers' on average for "
                f"objective.logit.divergence: forward alone; leave it out with {logit.divergence}"
            )
        more = [name for name in self.terms if name != "logit" and _needs_teachers(name)]
        if self.recorded and more:
            raise ValueError(
                "cached_logits: it holds the teachers' prediction, for objective.logit alone; the teachers themselves "
                f"are needed by {', '.join(f'objective.{name}' for name in more)}: leave out one or the other"
            )
        return self

    @property
    def terms(self) -> dict[str, ObjectiveConfig]:
        given = cast(BaseModel, self.objective)
        terms = {name: getattr(given, name) for name in type(given).model_fields}
        return {name: config for name, config in terms.items() if config is not None and config.weight.is_ever_positive}

    @property
    def trained_model(self) -> ModelConfig:
        return self.student

    @property
    def teacher_list(self) -> list[TeacherConfig]:
        return self.teachers

    @property
    def recorded(self) -> CachedLogitsConfig | None:
        return self.cached_logits

    @property
    def kept(self) -> TeacherCacheConfig | None:
        return self.teacher_cache


def _needs_teachers(objective: str) -> bool:
    kind = objectives.find(objective)
    return kind.teacher_logits != "none" if issubclass(kind, TokenObjective) else True
