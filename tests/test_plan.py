"""What is checked across the parts of a run before any model is built, and what a run is taken to be."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from shared_fixtures import WriteConfig

from palenka.data.tokenizer import save_tokenizer, train_tokenizer
from palenka.models import huggingface
from palenka.objectives import ModelShape
from palenka.training import build
from palenka.training import plan as plan_module
from palenka.training.plan import Plan, layer_pairs, load_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.errors import UserError

MakePlan = Callable[..., Plan]


@pytest.fixture
def make_plan(teacher: Path, write_config: WriteConfig) -> MakePlan:
    """make_plan(*overrides) plans a distillation from the teacher `teacher`."""
    return lambda *overrides: load_plan(write_config(tiny.distill_values()), overrides, DistillConfig)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building or loading a model fails the test."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(build, "build_model", refuse)
    monkeypatch.setattr(build, "load_frozen", refuse)
    monkeypatch.setattr(huggingface.AutoModelForCausalLM, "from_pretrained", refuse)


def distil(path: Path, *overrides: str) -> None:
    """What distill.py does."""
    plan = load_plan(path, overrides, DistillConfig)
    tiny.train(plan)


@pytest.mark.usefixtures("fresh_accelerator")
def test_the_refusal_above_does_refuse(teacher: Path, write_config: WriteConfig, no_model: None) -> None:
    with pytest.raises(AssertionError, match="a model was built"):
        distil(write_config(tiny.distill_values()))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("teachers.0.run=nobody", "no run 'nobody' in"),
        ("teachers.0.layer_mapping=[[4, 2]]", "[4, 2]: the teacher 'teacher' has layers 0 (embeddings) to 3"),
        ("teachers.0.layer_mapping=[[1, 1], [3, 3]]", "[3, 3]: the student has layers 0 (embeddings) to 2"),
        ("teachers.0.layer_mapping={3: 7}", "layer_mapping [3, 7]: the student has layers 0 (embeddings) to 2"),
        ("teachers.0.layer_mapping=[[-1, 2]]", "layer_mapping [-1, 2]: the teacher 'teacher' has layers 0"),
        ("teachers.0.layer_mapping=[]", "layer_mapping of 'teacher' is empty"),
        ("teachers.0.layer_mapping={}", "layer_mapping of 'teacher' is empty"),
        ("training.micro_batch_size=3", "training.batch_size: 8 sequences cannot be divided evenly among 1 process"),
        ("training.micro_batch_size=16", "training.batch_size: 8 sequences cannot be divided evenly among 1 process"),
        ("data.seq_length=257", "data.seq_length: 257 tokens do not fit the model's max_position_embeddings 256"),
        ("student.max_position_embeddings=8", "data.seq_length: 16 tokens do not fit the model's"),
        ("data.name=nothing", "no prepared data"),
        ("data.dev_samples=1", "data.dev_samples: 1: expected at least one for each of the 2 domains"),
        ("training={max_steps: null, num_epochs: 0.01}", "do not fill a batch of 8"),
        ("training.precision=fp16", "training.precision: fp16 does not work on CPUs"),
        ("student.hidden_act=sillu", "no llama model can be built of these values"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_message_before_any_model(
    teacher: Path, runs_folder: Path, write_config: WriteConfig, no_model: None, override: str, expected: str
) -> None:
    if "fp16" in override and torch.cuda.is_available():
        pytest.skip("fp16 is for GPUs, and here is one")
    with pytest.raises(UserError) as caught:
        distil(write_config(tiny.distill_values()), override)
    assert expected in str(caught.value)
    assert [path.name for path in runs_folder.iterdir()] == ["teacher"]


def test_problems_of_several_parts_come_together(make_plan: MakePlan) -> None:
    overrides = [
        "training.micro_batch_size=5",
        "data.seq_length=300",
        "teachers=[{run: nobody}, {run: teacher, layer_mapping: [[9, 1]]}]",
    ]
    with pytest.raises(UserError) as caught:
        make_plan(*overrides)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("run.yaml: 4 problems")
    for expected in ("data.seq_length", "training.batch_size", "teachers.0: no run 'nobody'", "teachers.1: "):
        assert any(line.startswith(f"  {expected}") for line in lines), expected


def test_a_missing_teacher_says_what_to_do(make_plan: MakePlan) -> None:
    with pytest.raises(UserError, match=r"runs there: teacher; train it first: python train.py --config … name=nobody"):
        make_plan("teachers.0.run=nobody")


def test_an_unfinished_teacher_is_refused(make_plan: MakePlan, teacher: Path) -> None:
    (teacher / "result.json").unlink()
    with pytest.raises(UserError, match="the run 'teacher' is not finished; start it again"):
        make_plan()


def test_a_model_folder_that_is_no_run_may_teach(make_plan: MakePlan, teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("identity.json", "result.json"))
    plan = make_plan(f"teachers.0.run={tmp_path / 'elsewhere'}")
    assert plan.teachers[0].folder == tmp_path / "elsewhere"


def test_a_teacher_of_another_vocabulary_is_refused(make_plan: MakePlan, teacher: Path) -> None:
    save_tokenizer(train_tokenizer(iter(["quite another text"]), 300), teacher)
    with pytest.raises(UserError, match="the teacher 'teacher' has a different vocabulary"):
        make_plan()
    (teacher / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="the teacher 'teacher' has a different vocabulary"):
        make_plan()


def test_a_teacher_that_reads_less_than_a_window_is_refused(
    make_plan: MakePlan, prepared: Path, runs_folder: Path
) -> None:
    keys = {**tiny.GPT2, "max_position_embeddings": 12}
    tiny.write_finished_run(runs_folder / "short", keys, prepared / "tokenizer")
    with pytest.raises(UserError, match="the teacher 'short' reads at most 12 tokens, data.seq_length is 16"):
        make_plan("teachers.0.run=short")


def test_a_folder_without_a_model_is_refused(make_plan: MakePlan, runs_folder: Path) -> None:
    (runs_folder / "empty").mkdir()
    with pytest.raises(UserError, match="teachers.0: .*empty: holds no readable model config"):
        make_plan("teachers.0.run=empty")


def test_unprepared_data_says_how_to_prepare_it(write_config: WriteConfig, prepared: Path, runs_folder: Path) -> None:
    file = write_config(tiny.train_values())
    with pytest.raises(
        UserError, match="no prepared data there; make it with: palenka prepare .* --name other"
    ):
        load_plan(file, ["data.name=other"], TrainConfig)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        # (teacher, student): the pairs (teacher layer, student layer), worked out by hand
        ((24, 16), "2-1 3-2 4-3 6-4 8-5 9-6 10-7 12-8 14-9 15-10 16-11 18-12 20-13 21-14 22-15 24-16"),
        ((24, 12), "2-1 4-2 6-3 8-4 10-5 12-6 14-7 16-8 18-9 20-10 22-11 24-12"),
        ((6, 6), "1-1 2-2 3-3 4-4 5-5 6-6"),
        ((12, 1), "12-1"),
        ((3, 2), "2-1 3-2"),
        ((2, 3), "1-1 1-2 2-3"),
    ],
)
def test_uniform_mapping(layers: tuple[int, int], expected: str) -> None:
    pairs = layer_pairs("uniform", ModelShape(8, layers[1], 1, 11), ModelShape(8, layers[0], 1, 11), "t")
    assert " ".join(f"{i}-{j}" for i, j in pairs) == expected


def test_uniform_mapping_ends_at_both_last_layers_and_never_goes_back() -> None:
    for teacher in range(1, 40):
        for student in range(1, 40):
            pairs = layer_pairs("uniform", ModelShape(8, student, 1, 11), ModelShape(8, teacher, 1, 11), "t")
            assert [j for _, j in pairs] == list(range(1, student + 1))
            assert pairs[-1] == (teacher, student)
            assert all(abs(i - j * teacher / student) <= 0.5 + 1e-9 for i, j in pairs)


def test_other_mappings(make_plan: MakePlan) -> None:
    def pairs(mapping: str) -> tuple[tuple[int, int], ...]:
        return make_plan(f"teachers.0.layer_mapping={mapping}").teachers[0].shape.layer_pairs

    assert pairs("last") == ((3, 2),)
    assert pairs("[[1, 1], [3, 2]]") == pairs("{1: 1, 3: 2}") == ((1, 1), (3, 2))
    assert pairs("[[0, 0]]") == ((0, 0),)
    assert pairs("uniform") == ((2, 1), (3, 2))


def test_teachers_share_by_weight(make_plan: MakePlan) -> None:
    plan = make_plan("teachers=[{run: teacher, weight: 1}, {run: teacher, weight: 3}]")
    assert [teacher.shape.share for teacher in plan.teachers] == [0.25, 0.75]


def test_steps_follow_from_epochs_and_text(make_plan: MakePlan) -> None:
    windows = make_plan().windows()
    sizes = [windows.epoch_size(epoch) for epoch in range(3)]
    epochs = "training={max_steps: null, num_epochs: "
    assert make_plan(epochs + "2}").total_steps == (sizes[0] + sizes[1]) // 8
    assert make_plan(epochs + "2.5}").total_steps == (sizes[0] + sizes[1] + int(sizes[2] * 0.5)) // 8
    assert make_plan(epochs + "0.1}").total_steps == int(sizes[0] * 0.1) // 8
    assert make_plan("training.max_steps=5").total_steps == 5


def test_a_batch_is_shared_by_the_processes(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_plan().micro_batch_size == 8
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert make_plan().micro_batch_size == 4
    assert make_plan("training.micro_batch_size=2").micro_batch_size == 2
    with pytest.raises(UserError, match="8 sequences cannot be divided evenly among 2 process"):
        make_plan("training.micro_batch_size=8")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="among 3 process.es. in micro-batches of any size; make it a multiple of 3"):
        make_plan()


@pytest.mark.parametrize(
    "override",
    [
        "training.lr=2e-3", "training.batch_size=16", "training.max_steps=9", "seed=8", "data.seed=8", "data.bos=none",
        "objective.logit.weight=0.4", "objective.logit.temperature=1", "objective.hidden_state=null",
        "teachers.0.layer_mapping=last", "student.hidden_size=32",
    ],
)  # fmt: skip
def test_identity_changes_with_what_decides_the_outcome(make_plan: MakePlan, override: str) -> None:
    assert make_plan(override).identity() != make_plan().identity()


def test_identity_changes_with_the_teachers_weights(make_plan: MakePlan, teacher: Path, prepared: Path) -> None:
    before = make_plan().identity()
    shutil.rmtree(teacher)
    tiny.write_finished_run(teacher, tiny.GPT2, prepared / "tokenizer", seed=2)
    assert make_plan().identity() != before


def test_identity_changes_with_the_data_but_not_with_where_things_lie(
    make_plan: MakePlan, prepared: Path, runs_folder: Path, tmp_path: Path
) -> None:
    before = make_plan()
    shutil.copytree(prepared, tmp_path / "data" / "tiny")
    shutil.copytree(runs_folder, tmp_path / "moved")
    moved = make_plan(f"paths={{data: {tmp_path / 'data'}, runs: {tmp_path / 'moved'}}}", "name=other")
    assert (moved.data_folder, moved.runs) == (tmp_path / "data" / "tiny", tmp_path / "moved")
    assert moved.teachers[0].folder == tmp_path / "moved" / "teacher"
    assert moved.identity() == before.identity()
    tiny.change_prepared(tmp_path / "data" / "tiny", key="0" * 64)
    assert make_plan(f"paths.data={tmp_path / 'data'}").identity() != before.identity()


def test_paths_in_a_config_are_meant_from_the_repositorys_root_wherever_the_command_is_called(
    make_plan: MakePlan, prepared: Path, runs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "ROOT", tmp_path / "repository")
    shutil.copytree(prepared, tmp_path / "repository" / "texts" / "tiny")
    shutil.copytree(runs_folder, tmp_path / "repository" / "models")
    monkeypatch.chdir(tmp_path)
    plan = make_plan("paths={data: texts, runs: here}", "teachers.0.run=models/teacher")
    assert plan.data_folder == tmp_path / "repository" / "texts" / "tiny"
    assert plan.runs == tmp_path / "repository" / "here"
    assert plan.teachers[0].folder == tmp_path / "repository" / "models" / "teacher"


def test_identity_does_not_depend_on_how_a_config_is_composed(
    make_plan: MakePlan, write_config: WriteConfig, teacher: Path
) -> None:
    values = tiny.distill_values()
    write_config({"objective": values.pop("objective"), "training": {"lr": 5.0}}, "base.yaml")
    composed = load_plan(write_config({"base": "base.yaml", **values}, "composed.yaml"), [], DistillConfig)
    assert composed.identity() == make_plan().identity()


def test_the_resolved_config_is_a_config_of_the_same_run(make_plan: MakePlan, write_config: WriteConfig) -> None:
    plan = make_plan("teachers.0.layer_mapping={3: 2}", "objective.logit.combine=probabilities")
    again = load_plan(write_config(plan.resolved, "resolved.yaml"), [], DistillConfig)
    assert again.identity() == plan.identity()
    assert again.config == plan.config


def test_a_weight_of_0_is_no_term_of_the_plan(make_plan: MakePlan) -> None:
    assert "hidden_state" not in make_plan("objective.hidden_state.weight=0").config.terms


def test_the_models_sizes_come_from_config_and_tokenizer(make_plan: MakePlan) -> None:
    plan = make_plan()
    assert plan.model.vocab_size == tiny.VOCABULARY
    assert (plan.model.pad_token_id, plan.model.bos_token_id, plan.model.eos_token_id) == (0, 1, 2)
    assert plan.parameters == huggingface.count_parameters(tiny.model(tiny.LLAMA))


def test_planning_writes_nothing(make_plan: MakePlan, runs_folder: Path, prepared: Path) -> None:
    before = sorted(os.walk(runs_folder)), sorted(os.walk(prepared))
    make_plan()
    assert (sorted(os.walk(runs_folder)), sorted(os.walk(prepared))) == before
