"""The schema of a recipe: how classifiers are trained for a year's tasks, and how their epoch is chosen."""

from typing import Any, Literal

from pydantic import Field, model_validator

from palenka.finetuning.tasks import TASKS
from palenka.optimizers import Hyperparameters
from palenka.optimizers._schedules import Schedule
from palenka.training.schema import MOST_EPOCHS, Steps
from palenka.util.section import Section
from palenka.util.text import did_you_mean


class FinetuningHyperparameters(Hyperparameters):
    """Optimisation of a classifier."""

    batch_size: int = Field(ge=1, description="items of an optimizer step")
    num_epochs: int = Field(ge=1, le=MOST_EPOCHS, description="passes over the training file")
    warmup_steps: Steps = Field(
        default=0, description="steps in which the learning rate rises from 0, or their share of all, below 1"
    )
    schedule: Schedule = Field(default="linear", description="how the learning rate comes down from its peak")
    min_lr_ratio: float = Field(
        default=0.0, ge=0, le=1, description="what the schedule comes down to, as a share of the peak"
    )
    max_grad_norm: float | None = Field(
        default=None, gt=0, description="gradients are clipped to this norm; not at all unless given"
    )
    drop_last: bool = Field(default=False, description="leave out an epoch's last items where they make no whole batch")
    patience: int | None = Field(
        default=None, ge=1, description="epochs without a better score after which training ends; all unless given"
    )
    least_gain: float = Field(default=0.0, ge=0, description="what a score must be better by to count for patience")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="of the forward pass")


class TaskSettings(Section):
    """What of `training` is another for a task."""

    lr: float | None = Field(default=None, gt=0, description="in place of training.lr")
    batch_size: int | None = Field(default=None, ge=1, description="in place of training.batch_size")
    num_epochs: int | None = Field(
        default=None, ge=1, le=MOST_EPOCHS, description="in place of training.num_epochs"
    )


class Recipe(Section):
    """How models are fine-tuned, and on what."""

    name: str = Field(pattern=r"^\w[\w.-]*$", description="names the folder of the results")
    tasks: dict[str, TaskSettings] = Field(
        min_length=1, description="the tasks, each with what of training is another for it: {rte: {}, wsc: {lr: 1e-5}}"
    )
    training: FinetuningHyperparameters = Field(description="optimisation")
    head: Literal["linear", "mlp"] = Field(
        default="linear", description="a linear layer without bias; or norm, linear, GELU, norm, dropout, linear"
    )
    head_dropout: float = Field(default=0.1, ge=0, lt=1, description="in the head, before its last layer")
    max_length: int = Field(
        default=512, ge=8, description="tokens of an item; no more than the model has positions for are read"
    )
    special_tokens: Literal["always", "tokenizer"] = Field(
        default="always",
        description="`<s> A </s> B </s>` where the tokenizer puts nothing around texts; or only what it puts there",
    )
    attention: Literal["learned", "causal", "full"] = Field(
        default="learned", description="who sees whom; as the model learned, full if it learned both"
    )
    token: Literal["auto", "first", "last"] = Field(
        default="auto", description="the one that is classified: the last if attention is causal, else the first"
    )
    selection: Literal["train", "valid"] = Field(
        default="train",
        description="whose items choose the epoch: some of train, kept from training, or the reported ones",
    )
    held_out: float = Field(default=0.1, gt=0, lt=1, description="the share of the training file for selection: train")
    select_by: Literal["metric", "f1"] = Field(
        default="metric", description="what chooses the epoch: the task's metric; or F1 of all tasks with two labels"
    )

    @model_validator(mode="after")
    def _known_tasks(self) -> "Recipe":
        for name, settings in self.tasks.items():
            if name not in TASKS:
                raise ValueError(f"tasks: unknown task {name!r}{did_you_mean(name, [*TASKS])}")
            if TASKS[name].trained_as and settings != TaskSettings():
                raise ValueError(f"tasks: {name}: set the keys of {TASKS[name].trained_as}; its classifier answers")
        return self

    def hyperparameters(self, task: str) -> FinetuningHyperparameters:
        """Those of a task that has a training of its own."""
        settings = self.tasks.get(task, TaskSettings())
        own = {key: value for key, value in settings.model_dump().items() if value is not None}
        return self.training.model_copy(update=own)

    def settings(self, task: str) -> dict[str, Any]:
        """All that decides a training of a task, with the seed."""
        others = self.model_dump(mode="json", exclude={"name", "tasks", "training"})
        return others | {"training": self.hyperparameters(task).model_dump(mode="json")}
