"""The tasks of GLUE and SuperGLUE that BabyLM asks: which texts of an item are read, and what is counted.

Texts and metrics are those of the challenge's pipelines of 2024, 2025 and 2026.
"""

from dataclasses import dataclass

from palenka.finetuning.metrics import Metric


@dataclass(frozen=True)
class GlueTask:
    """A task. Texts are templates over an item's keys.

    trained_as: the task whose classifier answers it, if it has no training file of its own.
    """

    name: str
    first: str
    second: str | None = None
    metric: Metric = "accuracy"
    labels: int = 2
    trained_as: str | None = None

    @property
    def training(self) -> str:
        """The task that its classifier learns."""
        return self.trained_as or self.name


MNLI_TEXTS = "{premise}", "{hypothesis}"
TASKS = {
    task.name: task
    for task in (
        GlueTask("boolq", "{question}", "{passage}"),
        GlueTask("cola", "{sentence}", metric="mcc"),
        GlueTask("mnli", *MNLI_TEXTS, labels=3),
        GlueTask("mnli-mm", *MNLI_TEXTS, labels=3, trained_as="mnli"),
        GlueTask("mrpc", "{sentence1}", "{sentence2}", metric="f1"),
        GlueTask("multirc", "Question: {question} Answer: {answer}", "{paragraph}"),
        GlueTask("qnli", "{question}", "{sentence}"),
        GlueTask("qqp", "{question1}", "{question2}", metric="f1"),
        GlueTask("rte", "{sentence1}", "{sentence2}"),
        GlueTask("sst2", "{sentence}"),
        GlueTask("wsc", 'Does "{span2_text}" refer to "{span1_text}" in this passage?', "{text}"),
    )
}
