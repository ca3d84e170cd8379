"""A run or a grid shared by two processes becomes what one makes of it; both fall back on the same checkpoint."""

import gc
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from commands import TORCHRUN, finish, start, succeed
from killing import Killed, kill_at
from rounding import assert_alike
from run_files import outcome, records
from safetensors.torch import load_file
from shared_fixtures import WriteConfig
from trainings import train_run

from palenka.models.huggingface import build_model
from palenka.training.plan import load_plan, make_plan
from palenka.training.schema import DistillConfig
from palenka.training.student import Student
from palenka.util.files import read_json
from palenka.util.paths import ROOT

HERE = Path(__file__).parent

pytestmark = pytest.mark.usefixtures("processes")


def student(**training: Any) -> dict[str, Any]:
    """A DSKD student with one matrix as embedding and head, in float32."""
    values = tiny.distill_values(student={**tiny.LLAMA, "tie_word_embeddings": True})
    return values | {"training": {**values["training"], "precision": "fp32", **training}}


HIDDEN_STATES_ALONE: dict[str, Any] = {
    "student": dict(tiny.LLAMA),
    "teachers": [{"run": "teacher", "layer_mapping": [[1, 1]]}],
    "objective": {"hidden_state": {"weight": 1.0}},
}


@pytest.mark.parametrize(
    ("changes", "untrained"),
    [({}, ()), (HIDDEN_STATES_ALONE, ("lm_head.", "model.norm.", "model.layers.1."))],
    ids=["all objectives", "a part of the student"],
)
def test_two_processes_train_as_one(
    changes: dict[str, Any], untrained: tuple[str, ...], teacher: Path, write_config: WriteConfig, runs_folder: Path,
    fresh_accelerator: None,
) -> None:
    """Same batches, same means per token, same weights: to rounding, which a large Adam epsilon does not amplify."""
    values = student(micro_batch_size=2, adam_epsilon=1e-3, logging_steps=2) | changes
    values |= {"data": {"name": "tiny", "seq_length": 16, "dev_samples": 100}}
    one, two = train_run(values | {"name": "one"}, micro_batch_size=8), runs_folder / "two"
    succeed(*TORCHRUN, HERE / "keep_ranks.py", "--config", write_config(values), "name=two")

    ranks = [load_file(two / f"rank-{rank}.safetensors") for rank in range(2)]
    assert any("projections" in name for name in ranks[0])
    assert ranks[0].keys() == ranks[1].keys()
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])

    plan = make_plan(DistillConfig.model_validate(values), "test")
    initial = build_model(plan.model, plan.config.seed, tiny.CPU).state_dict()
    weights = [load_file(run / "model.safetensors") for run in (one, two)]
    for name, tensor in weights[0].items():
        assert float((tensor - weights[1][name]).abs().max()) < 2e-7
        moved = float((tensor - initial[name]).abs().max())
        assert moved == 0 if name.startswith(untrained) else moved > 1e-5
    for single, double in zip(records(one), records(two), strict=True):
        assert single.keys() == double.keys()
        timing_free = [key for key in single if key not in ("tokens_per_second", "domains", "split")]
        assert_alike(single, double, timing_free)
        for name, domain in single.get("domains", {}).items():
            assert domain == pytest.approx(double["domains"][name], rel=1e-5)


def test_two_processes_pass_over_the_same_damaged_checkpoint(
    teacher: Path, write_config: WriteConfig, runs_folder: Path, fresh_accelerator: None
) -> None:
    values = student(max_steps=5, eval_steps=5, checkpoint_steps=1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed) as killed:
        kill_at(patch, Student, "_clip", 4)
        tiny.train(make_plan(DistillConfig.model_validate(values), "test"))
    del killed
    gc.collect()  # and with it the lock
    damaged = runs_folder / "student" / "checkpoint-3" / "optimizer.pt"
    damaged.write_bytes(damaged.read_bytes()[:100])
    errors = succeed(*TORCHRUN, ROOT / "distill.py", "--config", write_config(values))
    assert errors.count(f"{damaged}: damaged: 100 bytes instead of") == 1
    assert "student: resuming from step 2" in errors
    assert (runs_folder / "student" / "result.json").exists()


def test_two_processes_train_a_grid_as_they_train_each_trial(
    teacher: Path, write_config: WriteConfig, runs_folder: Path, fresh_accelerator: None
) -> None:
    """Two cohorts and a finalist in one life of the processes; a trial is, bit by bit, what distill.py makes of it."""
    axes = {"objective.logit.weight": [0.0, 0.1, 1e300], "objective.hidden_state.weight": [0.5]}
    values = student(micro_batch_size=2, adam_epsilon=1e-3, logging_steps=3) | {"name": "grid"}
    values["grid"] = {"axes": axes, "finalists": {"count": 1}, "cohort_size": 2}
    code, errors = finish(start(*TORCHRUN, "-m", "palenka", "grid", "--config", write_config(values)))
    grid = runs_folder / "grid"
    assert code == 1, errors
    assert re.search(r"L1e300-H0\.5: the loss is (nan|inf) at step 1", errors), errors
    selection = read_json(grid / "grid.json")
    assert [trial["rank"] for trial in selection["cells"]] == [1, 2, None]
    assert (grid / "finalists" / selection["cells"][0]["cell"] / "result.json").exists()
    trial = grid / "L0.1-H0.5"
    succeed(*TORCHRUN, ROOT / "distill.py", "--config", trial / "config.yaml", "name=alone")
    assert outcome(runs_folder / "alone") == outcome(trial)
    one = tiny.train(load_plan(trial / "config.yaml", ["name=one"], DistillConfig))
    for single, double in zip(records(one, "train"), records(trial, "train"), strict=True):
        assert single["loss"] == pytest.approx(double["loss"], rel=1e-5)


def test_two_processes_search_as_one_and_train_each_trial_as_distill_does(
    teacher: Path, write_config: WriteConfig, runs_folder: Path, fresh_accelerator: None
) -> None:
    """Both train what one of them proposes; the loss that decides over a trial's life is the same to both."""
    values = student(micro_batch_size=2, adam_epsilon=1e-3, max_steps=4, eval_steps=1, logging_steps=3)
    search = {
        "name": "search", "run": str(write_config(values, "the run.yaml")), "sampler": "random", "trials": 6,
        "axes": {"objective.logit.weight": [0.0, 0.1], "training.lr": {"log_uniform": [1e-4, 1e-2]}},
        "cohort_size": 2, "pruning": {"first": 0.25}, "finalists": {"count": 1, "seeds": [5]},
    }
    code, errors = finish(
        start(*TORCHRUN, "-m", "palenka", "search", "--config", write_config(search, "search.yaml"))
    )
    assert code == 0, errors
    folder = runs_folder / "search"
    trials = read_json(folder / "search.json")["trials"]
    assert sorted(trial["number"] for trial in trials) == list(range(6))
    states = [trial["state"] for trial in trials]
    assert {*states} == {"finished", "pruned"}
    finalist = folder / "finalists" / f"{trials[0]['run'].rpartition('/')[2]}-s5"
    assert (finalist / "result.json").exists()
    assert (folder / "finalists" / "default-s5" / "result.json").exists()

    trial = runs_folder / trials[0]["run"]
    succeed(*TORCHRUN, ROOT / "distill.py", "--config", trial / "config.yaml", "name=alone")
    mine, other = outcome(runs_folder / "alone"), outcome(trial)
    assert mine == {**other, "files": [file for file in other["files"] if file != "rungs.json"]}
