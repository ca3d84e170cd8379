"""Teachers recorded on disk: what is written, what is read again, what is refused, and being killed."""

import gc
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from killing import Killed, kill_at
from rounding import assert_alike
from run_files import outcome, records, snapshot
from safetensors.torch import load_file, save_file
from shared_fixtures import Call, WriteConfig
from torch import Tensor
from transformers import AutoModelForCausalLM

import palenka.teachers.cached
import palenka.training.build
from palenka.cli import main
from palenka.data.batch import Batch
from palenka.objectives import ModelShape, TeacherShape
from palenka.objectives.logit import Logit
from palenka.teachers.cached import CachedLogits, compress, draw
from palenka.teachers.replay import CachedOutput, CachedTeachers
from palenka.training.build import find_teachers
from palenka.training.cache_logits import cache_logits
from palenka.training.plan import Plan, make_plan
from palenka.training.schema import DistillConfig
from palenka.training.student import Student
from palenka.util.errors import UserError
from palenka.util.files import read_json, write_json

KD: dict[str, Any] = {"hard_target": {"weight": 0.5}, "logit": {"weight": 0.5}}


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture
def cache_folder(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for cached logits, of 16 windows a shard; the teachers `teacher` and `second` have opinions."""
    for folder in (teacher, tiny.write_finished_run(teacher.parent / "second", tiny.LLAMA, teacher, seed=3)):
        scale_weights(folder, 8.0)
    monkeypatch.setenv("PALENKA_SIGNALS", str(tmp_path / "signals"))
    monkeypatch.setattr(palenka.teachers.cached, "SHARD_WINDOWS", 16)
    return tmp_path / "signals"


def scale_weights(folder: Path, factor: float) -> None:
    weights = load_file(folder / "model.safetensors")
    scaled = {name: factor * tensor if tensor.ndim > 1 else tensor for name, tensor in weights.items()}
    save_file(scaled, folder / "model.safetensors", metadata={"format": "pt"})


def values(name: str = "student", top_k: int | None = 8, **changes: Any) -> dict[str, Any]:
    """A student of two teachers, 8 steps of 8 windows; they are run where `top_k` is None."""
    teachers = [{"run": "teacher", "weight": 3.0}, {"run": "second"}]
    cache = {} if top_k is None else {"cached_logits": {"top_k": top_k}}
    return tiny.distill_values(name=name, teachers=teachers, objective=KD) | cache | changes


def plan_for(given: dict[str, Any], **training: Any) -> Plan:
    given = given | {"training": given["training"] | training}
    return make_plan(DistillConfig.model_validate(given), "test")


def place_of(plan: Plan) -> CachedLogits:
    assert plan.cached_logits is not None
    return plan.cached_logits


# One record


def test_a_record_by_hand() -> None:
    cache = CachedLogits(Path(), {"top_k": 2, "temperature": 1.0}, seq_length=1)
    found = compress(torch.tensor([[0.1, 0.5, 0.0625, 0.25, 0.0875]]).log(), cache.record)
    assert found["tokens"].tolist() == [[1, 3]]
    assert found["log_probs"][0] == pytest.approx([math.log(0.5), math.log(0.25)], rel=2**-11)
    assert found["tail"][0] == pytest.approx(math.log(0.25), rel=2**-11)
    assert cache.record.itemsize == 4 * 2 + 2


def test_a_tail_that_is_read_has_the_students_shape() -> None:
    """Three quarters for tokens 1 and 3; the student gives 0, 2 and 4 shares of 1 : 2 : 5 at this temperature."""
    recorded = CachedOutput(
        torch.tensor([[1, 3]]), torch.tensor([[0.5, 0.25]]).log(), torch.tensor([[0.25]]).log(), temperature=2.0
    )
    student = 2 * torch.tensor([[1.0, 70.0, 2.0, 0.1, 5.0]]).log() + 3
    logits = recorded.logits(slice(None), torch.float32, student)
    expected = torch.tensor([[0.25 / 8, 0.5, 0.5 / 8, 0.25, 1.25 / 8]])
    torch.testing.assert_close((logits / 2).softmax(dim=-1), expected)
    torch.testing.assert_close((logits / 2).exp(), expected)


def test_a_batch_of_which_few_positions_predict_reads_their_records() -> None:
    labels = torch.full((4, 256), -100)
    labels[2, 100], labels[3, 7] = 5, 6
    shown = Batch(torch.zeros_like(labels), labels).with_places()
    assert shown.places is not None
    record = CachedLogits(Path(), {"top_k": 3, "temperature": 2.0}, seq_length=256).record
    records = compress(torch.randn(4 * 256, 11).log_softmax(dim=-1), record)
    cache: Any = SimpleNamespace(read=lambda windows: records, temperature=2.0)
    student = torch.randn(4 * 256, 11)
    read = CachedTeachers(cache, tiny.CPU).run(shown, range(4)).mean_logits
    found = read.logits(slice(0, 256), torch.float32, student[shown.places])
    expected = CachedOutput.of(records, 2.0, tiny.CPU).logits(slice(None), torch.float32, student)[shown.places]
    torch.testing.assert_close(found, expected)


def test_what_is_drawn_by_hand() -> None:
    """Points at 1/8, 3/8, 5/8 and 7/8 of the sum, which token 0 has half of, and tokens 2 and 3 a quarter each."""
    masses = torch.tensor([[1.0, 0.0, 0.5, 0.5, 0.0]])
    assert draw(masses, torch.tensor([0.5]), 4).tolist() == [[0, 0, 2, 3]]
    assert draw(masses, torch.tensor([0.0]), 4).tolist() == [[0, 0, 2, 3]]  # an end belongs to the next token
    assert draw(torch.zeros(1, 5), torch.tensor([0.3]), 2).tolist() == [[4, 4]]


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    """Over starts that are spread evenly; each time at most once more or less than on average."""
    masses, samples, times = torch.rand(1, 40) ** 4 * 0.3, 16, 20_000
    masses[0, 7] = 0.0
    starts = (torch.arange(times) + 0.5) / times
    drawn = draw(masses.expand(times, -1), starts, samples)
    counts = torch.zeros(times, 40).scatter_add_(1, drawn, torch.ones(times, samples))
    expected = samples * masses[0] / masses.sum()
    torch.testing.assert_close(counts.mean(dim=0), expected, atol=2 / times, rtol=0)
    assert (counts - expected).abs().max() < 1
    assert counts[:, 7].sum() == 0


def test_a_tail_that_was_drawn_is_read_as_what_was_drawn() -> None:
    """Token 1 is the likeliest; of the other half, three parts are token 4's, one token 0's."""
    record = CachedLogits(Path(), {"top_k": 1, "samples": 4, "temperature": 2.0}, seq_length=1).record
    assert record.itemsize == 4 * 1 + 2 + 2 * 4
    log_probs = torch.tensor([[0.125, 0.5, 0.0, 0.0, 0.375]]).log().clamp_min(-100)
    records = compress(log_probs, record, torch.tensor([0.5]))
    assert records["drawn"].tolist() == [[0, 4, 4, 4]]
    logits = CachedOutput.of(records, 2.0, tiny.CPU).logits(slice(None), torch.float32, torch.randn(1, 5))
    assert torch.isfinite(logits).all()
    torch.testing.assert_close((logits / 2).softmax(dim=-1), log_probs.exp(), atol=1e-6, rtol=1e-3)


def test_a_gradient_from_what_was_drawn_is_the_teachers_on_average() -> None:
    """From 8 tokens of 60 at a time: each is wrong by far, the mean over evenly spread starts by nothing."""
    temperature, times = 2.0, 4_000
    student = torch.randn(1, 60, requires_grad=True)
    log_probs = (2 * torch.randn(1, 60)).log_softmax(dim=-1)
    (exact,) = torch.autograd.grad(logit_loss(student, log_probs * temperature, "forward", temperature), student)
    record = CachedLogits(Path(), {"top_k": 2, "samples": 6, "temperature": temperature}, seq_length=1).record
    records = compress(log_probs.expand(times, -1), record, (torch.arange(times) + 0.5) / times)
    many = student.detach().expand(times, -1).clone().requires_grad_()
    read = CachedOutput.of(records, temperature, tiny.CPU).logits(slice(None), torch.float32, many.detach())
    (found,) = torch.autograd.grad(logit_loss(many, read, "forward", temperature), many)
    assert ((found - exact).norm(dim=-1) / exact.norm()).median() > 0.1
    torch.testing.assert_close(found.mean(dim=0, keepdim=True), exact, atol=5e-4, rtol=0)  # tails are float16


def logit_loss(student: Tensor, teacher: Tensor, divergence: str, temperature: float) -> Tensor:
    config = Logit.Config.model_validate({"weight": 1, "divergence": divergence, "temperature": temperature})
    shape = ModelShape(1, 1, 1, student.shape[-1])
    objective = Logit(config, shape, [TeacherShape(1, 1, 1, student.shape[-1], share=1.0, layer_pairs=())])
    return objective(student, [teacher], torch.zeros(len(student), dtype=torch.long)).sum()


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jensen_shannon"])
def test_the_loss_is_the_divergence_over_the_top_k_and_one_outcome_for_the_rest(divergence: str) -> None:
    """In value and in gradient: the student's tail is made one outcome before the softmax, by logsumexp."""
    temperature, k = 2.0, 3
    student = torch.randn(6, 11, requires_grad=True)
    log_probs = torch.randn(6, 11).log_softmax(dim=-1)
    top = log_probs.topk(k, dim=-1)
    tail = log_probs.scatter(1, top.indices, -torch.inf).logsumexp(dim=-1, keepdim=True)

    recorded = CachedOutput(top.indices, top.values, tail, temperature)
    full = logit_loss(student, recorded.logits(slice(None), torch.float32, student.detach()), divergence, temperature)
    rest = (student / temperature).scatter(1, top.indices, -torch.inf).logsumexp(dim=-1, keepdim=True) * temperature
    few = torch.cat([student.gather(1, top.indices), rest], dim=1)
    expected = logit_loss(few, torch.cat([top.values, tail], dim=1) * temperature, divergence, temperature)

    torch.testing.assert_close(full, expected)
    (ours,), (plain,) = (torch.autograd.grad(loss, student) for loss in (full, expected))
    torch.testing.assert_close(ours, plain)


# What is recorded


def log_probs_of(plan: Plan, windows: range, combine: str, temperature: float) -> Tensor:
    """The teachers' prediction in float64, from plain logits, 3 : 1."""
    inputs = torch.from_numpy(plan.windows().batch(windows)[0])
    logits = []
    for teacher in plan.teachers:
        model = AutoModelForCausalLM.from_pretrained(teacher.folder, dtype=torch.float32).eval()
        with torch.no_grad():
            logits.append(model(inputs).logits.flatten(0, 1).double() / temperature)
    if combine == "logits":
        return (0.75 * logits[0] + 0.25 * logits[1]).log_softmax(dim=-1)
    return (0.75 * logits[0].softmax(dim=-1) + 0.25 * logits[1].softmax(dim=-1)).log()


@pytest.mark.parametrize("combine", ["logits", "probabilities"])
def test_what_is_read_is_what_the_teachers_say_of_these_windows(cache_folder: Path, combine: str) -> None:
    logit = {"weight": 0.5, "combine": combine, "temperature": 1.5}
    plan = plan_for(values(objective=KD | {"logit": logit}))
    cache_logits(plan)
    windows = range(13, 35)  # of three shards
    found = place_of(plan).read(windows)
    expected = log_probs_of(plan, windows, combine, temperature=1.5).exp()
    top = expected.topk(8, dim=-1)
    assert np.array_equal(found["tokens"], top.indices.numpy())
    np.testing.assert_allclose(np.exp(found["log_probs"].astype(float)), top.values, rtol=0.01)
    np.testing.assert_allclose(np.exp(found["tail"].astype(float)), 1 - top.values.sum(dim=-1), rtol=0.01)


def test_all_of_the_vocabulary_is_the_teachers_to_the_precision_of_its_numbers(cache_folder: Path) -> None:
    plan = plan_for(values(top_k=tiny.VOCABULARY))
    cache_logits(plan)
    teachers = find_teachers(plan, tiny.CPU)
    windows = range(10, 20)
    (logits,) = teachers.run(Batch(torch.zeros(0), torch.zeros(0)), windows).each_logits
    stored = logits.logits(slice(None), torch.float32, torch.randn(160, tiny.VOCABULARY))
    expected = log_probs_of(plan, windows, "logits", temperature=2.0)
    torch.testing.assert_close(stored.double() / 2, expected, rtol=2**-11, atol=1e-6)


def test_what_was_drawn_is_learned_from_and_stands_for_its_tail(cache_folder: Path) -> None:
    """Of many draws at each of 128 positions the tokens are the teachers' tail."""
    plan = plan_for(values(name="drawn", cached_logits={"top_k": 4, "samples": 512}))
    cache_logits(plan)
    found = place_of(plan).read(range(3, 11))
    expected = log_probs_of(plan, range(3, 11), "logits", temperature=2.0).exp()
    others = expected.scatter(1, expected.topk(4, dim=-1).indices, 0.0)
    counts = torch.zeros(len(found), 320, dtype=torch.float64)
    counts.scatter_add_(1, torch.from_numpy(found["drawn"].astype(np.int64)), torch.ones(len(found), 512).double())
    torch.testing.assert_close(counts / 512, others / others.sum(dim=-1, keepdim=True), atol=1.01 / 512, rtol=0)
    drawn, live = tiny.train(plan), tiny.train(plan_for(values(name="live", top_k=None)))
    for one, other in zip(records(drawn, "train"), records(live, "train"), strict=True):
        assert one["hard_target"] == pytest.approx(other["hard_target"], rel=1e-3)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.03)


def test_a_longer_run_adds_shards_to_the_cache_of_a_shorter_one(cache_folder: Path) -> None:
    short, long = plan_for(values()), plan_for(values(), max_steps=11, lr=5e-3)
    cache_logits(short)
    folder = place_of(short).folder
    assert sorted(path.name for path in folder.glob("*.bin")) == [f"{shard:05}.bin" for shard in range(4)]
    before = snapshot(folder)
    cache_logits(long)
    after = snapshot(folder)
    assert sorted(after.keys() - before.keys()) == ["00004.bin", "00005.bin"]
    assert all(after[name] == before[name] for name in before if name.endswith(".bin"))


# Training


def test_with_all_of_the_vocabulary_a_student_is_that_of_the_teachers(cache_folder: Path) -> None:
    exact = {"adam_epsilon": 1e-3}
    live = tiny.train(plan_for(values("live", top_k=None), **exact))
    plan = plan_for(values("recorded", top_k=tiny.VOCABULARY), **exact)
    cache_logits(plan)
    recorded = tiny.train(plan)
    for one, other in zip(records(live, "train"), records(recorded, "train"), strict=True):
        for key in ("loss", "hard_target", "logit", "grad_norm"):
            assert one[key] == pytest.approx(other[key], rel=1e-3)
    weights = [load_file(run / "model.safetensors") for run in (live, recorded)]
    differences = [float((tensor - weights[1][name]).abs().max()) for name, tensor in weights[0].items()]
    assert max(differences) < 1e-5
    assert read_json(live / "identity.json") != read_json(recorded / "identity.json")


def test_teachers_are_not_loaded(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(values())
    cache_logits(plan)
    monkeypatch.setattr(palenka.training.build, "load_frozen", None)
    assert (tiny.train(plan) / "result.json").exists()


def test_micro_batches_do_not_change_the_training(cache_folder: Path) -> None:
    """Each reads its own windows: with an even and an uneven number of them, over the ends of shards."""
    exact = {"adam_epsilon": 1e-3, "batch_size": 6}
    cache_logits(plan_for(values(), **exact))
    whole = tiny.train(plan_for(values("whole"), **exact))
    for size in (3, 2):
        parts = tiny.train(plan_for(values(f"parts-{size}"), **exact, micro_batch_size=size))
        for one, other in zip(records(whole, "train"), records(parts, "train"), strict=True):
            assert_alike(one, other, ("loss", "logit", "grad_norm"))


def test_a_training_killed_and_resumed_equals_the_unbroken_one(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_logits(plan_for(values()))
    whole = tiny.train(plan_for(values("whole"), checkpoint_steps=1))

    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, Student, "start_step", 6)
        tiny.train(plan_for(values("broken"), checkpoint_steps=1))
    gc.collect()  # what held the lock is gone, as after a kill
    assert outcome(tiny.train(plan_for(values("broken"), checkpoint_steps=1))) == outcome(whole)


# Refused


DATA = tiny.train_values()["data"]
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "k": ({"cached_logits": {"top_k": 9}}, "top_k: 8 there, 9 here"),
    "temperature": (
        {"objective": KD | {"logit": {"weight": 0.5, "temperature": 1.0}}}, "temperature: 2.0 there, 1.0 here"
    ),
    "combination": (
        {"objective": KD | {"logit": {"weight": 0.5, "combine": "probabilities"}}},
        "combine: 'logits' there, 'probabilities' here",
    ),
    "share": (
        {"teachers": [{"run": "teacher"}, {"run": "second"}]}, "shares.teacher: 0.75 there, 0.5 here"
    ),
    "teacher": ({"teachers": [{"run": "teacher"}]}, "shares.second: 0.25 there, None here"),
    "data seed": ({"data": DATA | {"seed": 8}}, "data_seed: 7 there, 8 here"),
    "seed, where it is the data's too": ({"seed": 8}, "data_seed: 7 there, 8 here"),
    "window": ({"data": DATA | {"bos": "document"}}, "windows.bos: 'window' there, 'document' here"),
    "length": ({"data": DATA | {"seq_length": 12}}, "windows.seq_length: 16 there, 12 here"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "difference"), OTHERS.values(), ids=OTHERS.keys())
def test_another_cache_is_refused_with_what_differs(
    cache_folder: Path, changes: dict[str, Any], difference: str
) -> None:
    cache_logits(plan_for(values()))
    before = snapshot(cache_folder.parent)
    with pytest.raises(UserError) as refused:
        tiny.train(plan_for(values() | changes))
    assert "palenka cache-logits --config FILE" in str(refused.value)
    assert difference in str(refused.value)
    assert snapshot(cache_folder.parent) == before


def test_other_weights_of_a_teacher_are_refused(cache_folder: Path, teacher: Path) -> None:
    cache_logits(plan_for(values()))
    scale_weights(teacher, 1.01)
    with pytest.raises(UserError, match=r"differs in\n  teachers\.teacher: \w{12}… there, \w{12}… here$"):
        tiny.train(plan_for(values()))


def test_students_that_differ_in_themselves_read_the_same_cache(cache_folder: Path) -> None:
    data = DATA | {"seed": 3}
    first = plan_for(values(data=data))
    others = [
        plan_for(values(data=data, seed=9, student=dict(tiny.GPT2)), lr=1e-2, batch_size=4, micro_batch_size=2),
        plan_for(values(data=data, objective={"logit": {"weight": 1.0, "divergence": "reverse"}})),
    ]
    assert {place_of(plan).folder for plan in others} == {place_of(first).folder}


def test_a_folder_under_a_wrong_name_is_refused(cache_folder: Path) -> None:
    plan = plan_for(values())
    cache_logits(plan)
    path = place_of(plan).folder / "identity.json"
    write_json(path, read_json(path) | {"precision": "bf16"})
    for start_again in (tiny.train, cache_logits):
        with pytest.raises(UserError, match="it differs in\n  precision: 'bf16' there, 'fp32' here"):
            start_again(plan)


def test_a_shard_that_is_cut_short_is_refused_and_recorded_again(cache_folder: Path) -> None:
    plan = plan_for(values())
    cache_logits(plan)
    shard = place_of(plan).shard_path(2)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="1 of 4 shards are missing, cut short or have no checksum"):
        tiny.train(plan)
    cache_logits(plan)
    assert shard.read_bytes() == whole


def test_a_shard_that_is_damaged_is_refused_and_recorded_again(
    cache_folder: Path, runs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_for(values())
    cache_logits(plan)
    shards = [place_of(plan).shard_path(number) for number in (1, 3)]
    whole = [shard.read_bytes() for shard in shards]
    for shard, content in zip(shards, whole, strict=True):
        shard.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(UserError, match=f"{shards[0]}, {shards[1]}: damaged: not the content that was recorded"):
        tiny.train(plan)
    assert not (runs_folder / "student").exists()
    cache_logits(plan)
    assert [shard.read_bytes() for shard in shards] == whole
    told = capsys.readouterr().err
    assert [f"{shard}: damaged" in told for shard in shards] == [True, True]
    assert (tiny.train(plan) / "result.json").exists()


def test_a_cache_without_checksums_is_recorded_again(cache_folder: Path) -> None:
    plan = plan_for(values())
    cache_logits(plan)
    checksums = place_of(plan).folder / "checksums.json"
    before = checksums.read_bytes()
    checksums.write_text("")
    for begin in (tiny.train, cache_logits):
        with pytest.raises(UserError, match=r"checksums.json: damaged: .*\. Remove it, and cache-logits records"):
            begin(plan)
    checksums.unlink()
    with pytest.raises(UserError, match="4 of 4 shards are missing, cut short or have no checksum"):
        tiny.train(plan)
    cache_logits(plan)
    assert checksums.read_bytes() == before


def test_without_a_cache_the_command_names_what_makes_it(
    cache_folder: Path, write_config: WriteConfig, call: Call
) -> None:
    import distill

    config = write_config(values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["distill.py", "--config", str(config)])
        code, _, errors = call(distill.main)
        assert code == 2
        assert "palenka cache-logits --config FILE" in errors
        code, _, errors = call(main, ["cache-logits", "--config", str(config)])
        assert code == 0, errors
        assert "34 bytes a token; 4 shards to record" in errors
        assert "mean tail mass" in errors and "tokens/s" in errors
        assert call(distill.main)[0] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cached_logits": {"top_k": 321}}, "cached_logits.top_k: 321: the vocabulary has 320 tokens"),
        ({"cached_logits": {"top_k": 0}}, "greater than or equal to 1"),
        ({"cached_logits": {"samples": -1}}, "greater than or equal to 0"),
        (
            {"cached_logits": {"samples": 8}, "objective": {"logit": {"weight": 1.0, "divergence": "reverse"}}},
            "objective.logit.divergence: forward alone; leave it out with reverse",
        ),
        ({"objective": KD | {"hidden_state": {"weight": 1.0}}}, "needed by objective.hidden_state"),
        ({"objective": {"hard_target": {"weight": 1.0}}}, "objective.logit, which has no weight above 0"),
    ],
)
def test_a_cache_that_is_not_enough_is_refused_before_any_work(
    cache_folder: Path, write_config: WriteConfig, call: Call, changes: dict[str, Any], message: str
) -> None:
    code, _, errors = call(main, ["cache-logits", "--config", str(write_config(values() | changes))])
    assert code == 2
    assert message in errors
    assert not cache_folder.exists()


def test_a_config_that_runs_its_teachers_has_nothing_to_record(cache_folder: Path) -> None:
    with pytest.raises(UserError, match="no cached_logits"):
        cache_logits(plan_for(values(top_k=None)))


def test_a_disk_that_is_too_full_is_told_before_the_work(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(values())
    needed = 4 * 16 * 16 * 34  # shards, windows, positions, bytes
    usage = shutil.disk_usage(cache_folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(UserError, match=f"{needed:,} bytes are to come, but only {needed - 1:,} are free"):
        cache_logits(plan)
    assert not list(cache_folder.rglob("*.bin"))


# Killed


@pytest.mark.parametrize("samples", [0, 4])
def test_a_killed_recording_goes_on_and_leaves_the_same_bytes(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    plan = plan_for(values(cached_logits={"top_k": 4, "samples": samples}))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, palenka.teachers.cached, "replace", 3)
        cache_logits(plan)
    folder = place_of(plan).folder
    first = snapshot(folder)
    written = {path.name for path in folder.glob("*.bin")}
    assert written and len(written) < 4
    cache_logits(plan)
    resumed = snapshot(folder)
    assert {name: resumed[name] for name in written} == {name: first[name] for name in written}
    assert not list(folder.glob(".*.tmp"))
    shutil.rmtree(folder)
    cache_logits(plan)
    assert {name: content for name, (content, _) in snapshot(folder).items()} == {
        name: content for name, (content, _) in resumed.items()
    }
