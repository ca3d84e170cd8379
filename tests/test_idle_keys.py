"""A key that is set and has no effect is told, whichever it is; one that has an effect, or is as by default, is not."""

from pathlib import Path
from typing import Any

import pytest
import tiny
from shared_fixtures import WriteConfig

from palenka import optimizers
from palenka.search.grid import load_grid
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.config import idle_keys, load

TWO = "teachers=[{run: teacher}, {run: teacher}]"
CASES: dict[str, tuple[str, str, str]] = {  # key: a value, the same as by default, what makes it matter
    "objective.logit.beta": ("0.3", "0.5", "objective.logit.divergence=jensen_shannon"),
    "objective.logit.combine": ("probabilities", "logits", TWO),
    "objective.logit.weight.begin": ("0.5", "0.0", "objective.logit.weight.end=1"),
    "objective.logit.weight.finish": ("0.5", "1.0", "objective.logit.weight.end=1"),
    "objective.logit.weight.shape": ("cosine", "linear", "objective.logit.weight.end=1"),
    "teachers.0.weight": ("2.0", "1.0", TWO),
    "teachers.0.layer_mapping": ("last", "uniform", "objective.hidden_state.weight=1"),
    "training.optimizer": ("lamb", "adamw", "training.weight_decay=0.1"),
    "training.adam_beta1": ("0.5", "0.9", "training.optimizer=adamw"),
    "training.adam_beta2": ("0.5", "0.999", "training.optimizer=adamw"),
    "training.adam_epsilon": ("1e-6", "1e-8", "training.optimizer=adamw"),
}
WITHOUT_STATES = {"hard_target": {"weight": 1.0}, "logit": {"weight": {"start": 0.5, "end": 0.5}}}


class Plain(optimizers.Optimizer):
    unused = ("adam_beta1", "adam_beta2", "adam_epsilon")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another optimizer than AdamW is found by any other name."""
    find = optimizers.find
    monkeypatch.setattr(optimizers, "find", lambda name: Plain if name == "plain" else find(name))
    monkeypatch.setattr(optimizers.DOOR, "find", optimizers.find)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("key", CASES)
def test_a_key_is_told_where_it_is_set_and_has_no_effect(write_config: WriteConfig, key: str) -> None:
    value, default, effective = CASES[key]
    values = tiny.distill_values(objective=WITHOUT_STATES)
    values["training"] |= {"optimizer": "plain"}
    path = write_config(values)

    def told(*overrides: str) -> list[str]:
        return [sentence.split()[0] for sentence in idle_keys(load(path, overrides, DistillConfig))]

    assert told() == []
    assert told(f"{key}={value}") == [key]
    assert told(f"{key}={default}") == []
    assert told(effective, f"{key}={value}") == []


def test_a_draw_for_tokens_or_spans_needs_spans() -> None:
    def told(**keys: Any) -> list[str]:
        given = tiny.train_values(paradigm={"name": "masked", "draw": "token", **keys})
        return [sentence.split()[0] for sentence in idle_keys(TrainConfig.model_validate(given))]

    assert told() == ["paradigm.draw"]
    assert told(span="uniform") == told(draw="span") == []


def test_a_plan_and_a_grid_say_so_once(
    teacher: Path, write_config: WriteConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = tiny.distill_values()
    values["objective"]["logit"]["beta"] = 0.3
    path = write_config(values)
    expected = f"{path}: warning: objective.logit.beta has no effect without divergence: jensen_shannon\n"
    load_plan(path, [], DistillConfig)
    assert capsys.readouterr().err == expected
    grid = ["grid.axes={objective.hidden_state.weight: [0.0, 0.5]}", "teachers.0.layer_mapping=last"]
    load_grid(path, grid, dry_run=True)
    assert capsys.readouterr().err == expected  # the mapping is one trial's
    monkeypatch.setenv("RANK", "1")
    load_plan(path, [], DistillConfig)
    assert capsys.readouterr().err == ""
