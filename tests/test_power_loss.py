"""Power losses at chosen points: what counts as there is whole, and a run goes on to the same weights.

PALENKA_LOSSES   how often a training loses power (default 12)
"""

import gc
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from power_loss import Disk, Loss, is_possible, mounted
from run_files import outcome

from palenka.data.prepare import prepare
from palenka.runs.directory import Run
from palenka.teachers.cached import CachedLogits
from palenka.training.plan import Plan, make_plan
from palenka.training.schema import TrainConfig

LOSSES = int(os.environ.get("PALENKA_LOSSES", "12"))

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    if reason := is_possible(tmp_path / "probe"):
        pytest.skip(reason)
    return Disk(tmp_path / "disk")


def chosen(losses: list[Loss], count: int) -> list[Loss]:
    return sorted(random.Random(0).sample(losses, min(count, len(losses))), key=lambda loss: losses.index(loss))


def plan_in(runs: Path, patch: pytest.MonkeyPatch) -> Plan:
    patch.setenv("PALENKA_RUNS", str(runs))
    values = tiny.train_values(name="group/run")
    values["training"] |= {"max_steps": 6, "eval_steps": 3, "checkpoint_steps": 1}
    return make_plan(TrainConfig.model_validate(values), "test")


def what_counts(run: Path) -> list[Any]:
    found = outcome(run)
    return [found[key] for key in ("weights", "metrics", "result")]


FINISHED = 10**9


def promise(patch: pytest.MonkeyPatch, disk: Disk) -> list[tuple[int, int]]:
    """Note which checkpoint, or the end, no loss may take away any more: the number of the loss, and the step."""
    promised = [(0, 0)]
    save, finish = Run.save_checkpoint, Run.finish

    def saved(self: Run, step: int, *others: Any, **options: Any) -> None:
        save(self, step, *others, **options)
        promised.append((len(disk.losses), step))

    def finished(self: Run, result: dict[str, Any]) -> None:
        finish(self, result)
        promised.append((len(disk.losses), FINISHED))
        disk.lose("after the end")

    patch.setattr(Run, "save_checkpoint", saved)
    patch.setattr(Run, "finish", finished)
    return promised


def reached(run: Run) -> int:
    return FINISHED if run.finished else max(run.checkpoints(), default=0)


def test_a_run_that_loses_power_goes_on_to_the_same_weights(disk: Disk, prepared: Path) -> None:
    with disk.watched() as folder, pytest.MonkeyPatch.context() as patch:
        promised = promise(patch, disk)
        whole = what_counts(tiny.train(plan_in(folder / "runs", patch)))
    gc.collect()
    assert len(disk.losses) > LOSSES
    for loss in [*chosen(disk.losses[:-1], LOSSES), disk.losses[-1]]:
        with mounted(loss.image) as folder, pytest.MonkeyPatch.context() as patch:
            plan = plan_in(folder / "runs", patch)
            least = max(step for number, step in promised if number <= disk.losses.index(loss))
            assert reached(Run("group/run", plan.runs)) >= least, loss.moment
            assert what_counts(tiny.train(plan)) == whole, loss.moment
        gc.collect()


def test_prepared_data_is_whole_or_not_there(disk: Disk, prepared_once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = prepared_once.parent / "raw"
    with disk.watched() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_DATA", str(folder))
        prepare(raw / "train", raw / "dev", None, "tiny", tiny.VOCABULARY)
    expected = contents(prepared_once)
    there = []
    for loss in disk.losses[-12:]:
        with mounted(loss.image) as folder:
            there.append((folder / "tiny").exists())
            assert not there[-1] or contents(folder / "tiny") == expected, loss.moment
    assert there[-1]
    assert not there[0]


def contents(folder: Path) -> dict[str, bytes]:
    """All files but baselines, which other tests measure into the data that they share."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "floors"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_shards_of_a_cache_are_whole_or_not_there(disk: Disk) -> None:
    identity = {"top_k": 2, "temperature": 1.0}
    records = (
        np.random.default_rng(0)
        .integers(1, 255, 1024 * 4 * 10, dtype=np.uint8)
        .view(CachedLogits(Path(), identity, 4).record)
    )
    with disk.watched() as folder:
        cache = CachedLogits(folder / "signals", identity, 4)
        with cache.writing(lambda: None):
            for shard in range(2):
                cache.write_shard(shard, [records])
    missing = []
    for loss in disk.losses:
        with mounted(loss.image) as folder:
            cache = CachedLogits(folder / "signals", identity, 4)
            missing.append(cache.missing(2048))
            for shard in {0, 1} - set(missing[-1]):
                assert cache.shard_path(shard).read_bytes() == records.tobytes(), loss.moment
    assert missing == sorted(missing, reverse=True, key=len), "what was there stays there"
    assert missing[0] == [0, 1]
    assert missing[-1] == []
