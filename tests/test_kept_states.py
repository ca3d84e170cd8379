"""Teachers that run once for each window: what is kept of them, what a student learns from it, and what is refused."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from commands import TORCHRUN, succeed
from killing import Killed, kill_at
from run_files import outcome, records
from safetensors.torch import load_file
from shared_fixtures import WriteConfig

from palenka.teachers.keeping import KeepingTeachers
from palenka.teachers.kept import KeptStates, decode, encode
from palenka.teachers.live import Teachers
from palenka.training.build import find_teachers
from palenka.training.plan import Plan, load_plan, make_plan
from palenka.training.schema import DistillConfig
from palenka.training.student import Student
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

KD: dict[str, Any] = {"hard_target": {"weight": 0.5}, "logit": {"weight": 0.5}}
pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture
def signals(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what teachers say; there are two of them."""
    tiny.write_finished_run(teacher.parent / "second", tiny.LLAMA, teacher, seed=3)
    monkeypatch.setenv("PALENKA_SIGNALS", str(tmp_path / "signals"))
    return tmp_path / "signals"


def values(name: str = "student", cache: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A student of two teachers, 8 steps of 8 windows over a text of some 30."""
    teachers = [{"run": "teacher", "weight": 3.0}, {"run": "second"}]
    found = tiny.distill_values(name=name, teachers=teachers, objective=KD)
    found["data"] |= {"fraction": 0.05, "crop": "fixed"}
    return found | ({} if cache is None else {"teacher_cache": cache}) | changes


def plan_for(given: dict[str, Any], **training: Any) -> Plan:
    given = given | {"training": given["training"] | training}
    return make_plan(DistillConfig.model_validate(given), "test")


def place_of(plan: Plan) -> KeptStates:
    assert plan.kept_states is not None
    return plan.kept_states


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many windows the teachers ran on, call by call."""
    counts: list[int] = []
    run = Teachers._run_models

    def counted(self: Teachers, batch: Any) -> Any:
        counts.append(len(batch))
        return run(self, batch)

    monkeypatch.setattr(Teachers, "_run_models", counted)
    return counts


# Numbers


def test_bf16_is_rounding_and_fp8_is_within_a_sixteenth_of_each_number() -> None:
    """e4m3 has 3 bits behind the first: half of its last place is 1/16 of the number, or 2^-10 of 1/448 of the largest,
    below its normal numbers."""
    torch.manual_seed(0)
    states = [torch.randn(2, 5, 7) * 20, torch.randn(2, 5, 3)]
    exact = decode(encode(states, "bf16"), (7, 3), "bf16", torch.float32)
    assert all(torch.equal(mine, of.bfloat16().float()) for mine, of in zip(exact, states, strict=True))
    assert encode(states, "bf16").shape == (2, 5, 20) and encode(states, "fp8").shape == (2, 5, 18)
    for mine, of in zip(decode(encode(states, "fp8"), (7, 3), "fp8", torch.float32), states, strict=True):
        smallest = of.abs().amax(dim=-1, keepdim=True) / 448 * 2**-10
        assert ((mine - of).abs() <= of.abs() / 16 + smallest).all()
        torch.testing.assert_close(mine.abs().amax(dim=-1), of.abs().amax(dim=-1), rtol=1e-6, atol=0.0)
    nothing = [torch.zeros(1, 1, 4)]
    assert torch.equal(decode(encode(nothing, "fp8"), (4,), "fp8", torch.float32)[0], nothing[0])


# Trainings


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_teachers_run_once_for_each_window(signals: Path, shown: list[int], precision: str) -> None:
    first = outcome(tiny.train(plan := plan_for(values(cache={"precision": precision}))))
    windows, numbers = place_of(plan).windows, plan.windows().first_positions(range(32, 40))
    twice = 8 - len({*numbers.tolist()})  # in the batch in which the epoch ends
    assert windows == place_of(plan).present() == 33 and sum(shown) == windows + twice
    shown.clear()
    again = outcome(tiny.train(plan_for(values("again", {"precision": precision}))))
    assert not shown, "for a student to come all is there"
    assert again == first, "what it learns does not depend on what is there"


def test_a_student_learns_the_same_but_for_rounding(signals: Path) -> None:
    """Losses of teachers whose states have 8 bits of precision, beside those of the teachers themselves."""
    for name, cache in (("live", None), ("kept", {})):
        tiny.train(plan_for(values(name, cache), logging_steps=1))
    live, kept = (records(plan_for(values(name)).runs / name, "train") for name in ("live", "kept"))
    for one, other in zip(live, kept, strict=True):
        assert one["hard_target"] == pytest.approx(other["hard_target"], abs=1e-3)
        assert one["logit"] == pytest.approx(other["logit"], rel=0.02, abs=1e-4)
    assert [each["logit"] for each in live] != [each["logit"] for each in kept]


DSKD: dict[str, Any] = KD | {"hidden_state": {"weight": 0.5}}


def test_states_of_mapped_layers_are_kept_and_learned_from(signals: Path, shown: list[int]) -> None:
    """Of `teacher`, layers 0 and 1 of 2 are mapped, of `second` the last, whose states are its final ones."""
    pairs = [[0, 1], [1, 2]]
    teachers = [{"run": "teacher", "layer_mapping": pairs}, {"run": "second", "layer_mapping": "last"}]
    for name, cache in (("live", None), ("kept", {"hidden_states": True}), ("read", {"hidden_states": True})):
        shown.clear()
        tiny.train(plan := plan_for(values(name, cache, teachers=teachers, objective=DSKD), logging_steps=1))
    assert not shown and place_of(plan).layers == ((0, 1), ())
    assert place_of(plan).widths == (*[place_of(plan).sizes[0]] * 3, place_of(plan).sizes[1])
    live, kept, read = (records(plan.runs / name, "train") for name in ("live", "kept", "read"))
    for one, other, again in zip(live, kept, read, strict=True):
        assert [other[term] for term in DSKD] == [again[term] for term in DSKD]
        assert one["hard_target"] == pytest.approx(other["hard_target"], abs=1e-3)
        for term in ("logit", "hidden_state"):
            assert one[term] == pytest.approx(other[term], rel=0.02, abs=1e-4)
    assert [each["hidden_state"] for each in live] != [each["hidden_state"] for each in kept]


def test_one_cache_serves_students_with_and_without_hidden_states(signals: Path, shown: list[int]) -> None:
    """The first student's teachers leave what the second needs."""
    plans = [plan_for(values(name, {"hidden_states": True}, objective=of)) for name, of in (("kd", KD), ("dskd", DSKD))]
    first, second = map(place_of, plans)
    assert first.folder == second.folder != place_of(plan_for(values(cache={}))).folder
    tiny.train(plans[0])
    shown.clear()
    tiny.train(plans[1])
    assert not shown


@pytest.mark.parametrize("term", ["contrastive", "auxiliary"])
def test_terms_of_last_layers_learn_from_final_states(signals: Path, term: str) -> None:
    objective = KD | {term: {"weight": 0.5}}
    for name, cache in (("live", None), ("kept", {})):
        tiny.train(plan := plan_for(values(name, cache, objective=objective), logging_steps=1))
    live, kept = (records(plan.runs / name, "train") for name in ("live", "kept"))
    for one, other in zip(live, kept, strict=True):
        assert one[term] == pytest.approx(other[term], rel=0.02, abs=1e-4)


def test_what_there_is_no_room_for_is_computed_anew(signals: Path, shown: list[int]) -> None:
    whole = outcome(tiny.train(plan := plan_for(values("whole", {}))))
    some = place_of(plan).window_bytes * 10.5 / 2**30
    (signals / "tiny").rename(signals / "other")
    shown.clear()
    assert outcome(tiny.train(plan := plan_for(values("some", {"max_gib": some})))) == whole
    assert place_of(plan).present() == place_of(plan).room == 10
    later = plan.windows().first_positions(range(place_of(plan).windows, 64))
    assert sum(shown) == 64 - (later < 10).sum()
    assert plan.identity().given == plan_for(values("some", {"max_gib": 5.0})).identity().given


def test_without_room_for_any_window_the_teachers_run_each_time(signals: Path, shown: list[int]) -> None:
    tiny.train(plan := plan_for(values(cache={"max_gib": 1e-9})))
    assert place_of(plan).room == place_of(plan).present() == 0 and sum(shown) == 64


@pytest.mark.parametrize("number", [2, 5])
def test_a_killed_training_goes_on_to_the_same_bits(
    signals: Path, monkeypatch: pytest.MonkeyPatch, shown: list[int], number: int
) -> None:
    unbroken = outcome(tiny.train(plan_for(values("unbroken", {}), checkpoint_steps=1)))
    (signals / "tiny").rename(signals / "other")
    with monkeypatch.context() as patch:
        kill_at(patch, Student, "apply_gradients", number)
        with pytest.raises(Killed):
            tiny.train(plan_for(values("killed", {}), checkpoint_steps=1))
    gc.collect()
    assert outcome(tiny.train(plan_for(values("killed", {}), checkpoint_steps=1))) == unbroken


def test_damage_is_computed_again(signals: Path, shown: list[int]) -> None:
    whole = outcome(tiny.train(plan := plan_for(values("whole", {}))))
    path = place_of(plan).folder / "states.bin"
    content = bytearray(path.read_bytes())
    content[3 * place_of(plan).window_bytes + 5] ^= 1
    path.write_bytes(content)
    shown.clear()
    assert outcome(tiny.train(plan_for(values("again", {})))) == whole
    assert shown == [1]
    assert path.read_bytes()[3 * place_of(plan).window_bytes + 5] == content[3 * place_of(plan).window_bytes + 5] ^ 1


@pytest.mark.slow
@pytest.mark.usefixtures("processes")
def test_two_processes_fill_one_cache(signals: Path, write_config: WriteConfig) -> None:
    given = values("two", {})
    succeed(*TORCHRUN, ROOT / "distill.py", "--config", write_config(given))
    kept = place_of(plan := plan_for(given))
    assert kept.present() == kept.windows
    (signals / "tiny").rename(signals / "other")
    alone = tiny.train(plan_for(values("alone", {})))
    mine, other = (load_file(folder / "model.safetensors") for folder in (alone, plan.folder))
    for name, weight in mine.items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=2e-4)


def test_windows_are_found_by_their_number(signals: Path) -> None:
    """Those of a later epoch, in its order, are those of the first."""
    plan = plan_for(values(cache={}))
    windows, size = plan.windows(), place_of(plan).windows
    numbers = windows.first_positions(range(size, 2 * size))
    assert sorted(numbers.tolist()) == [*range(size)] != numbers.tolist()
    for later, first in enumerate(numbers.tolist()[:5], start=size):
        assert (windows.batch([later])[0] == windows.batch([first])[0]).all()
    assert windows.first_positions(range(size)).tolist() == [*range(size)]


def test_what_a_store_has_not_got_it_says(signals: Path) -> None:
    kept = place_of(plan_for(values(cache={})))
    kept.open()
    window = np.arange(kept.window_bytes, dtype=np.uint8).reshape(1, kept.seq_length, kept.token_bytes)
    kept.write(np.array([4]), window)
    there, found = kept.read(np.array([3, 4]))
    assert there.tolist() == [False, True] and (found[1] == window[0]).all() and not found[0].any()
    assert kept.present() == 1
    kept.open()
    assert kept.present() == 1, "opening again changes nothing"


# What it belongs to, and what is refused


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"seed": 5, "data": {"seed": 1}}, True),
        ({"objective": {"logit": {"weight": 1.0, "temperature": 3.0}}, "data": {"seed": 1}}, True),
        ({"data": {"seed": 2}}, False),
        ({"teacher_cache": {"precision": "fp8"}, "data": {"seed": 1}}, False),
        ({"teachers": [{"run": "teacher"}], "data": {"seed": 1}}, False),
        ({"teacher_cache": {"hidden_states": True}, "data": {"seed": 1}}, False),
    ],
)
def test_what_decides_the_states(signals: Path, changes: dict[str, Any], is_same: bool) -> None:
    base = values(cache={})
    base["data"] |= {"seed": 1}
    changed = {key: base[key] | value if isinstance(value, dict) and key == "data" else value
               for key, value in changes.items()}  # fmt: skip
    assert (place_of(plan_for(base)).folder == place_of(plan_for(base | changed)).folder) == is_same


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data.crop": "epoch_offset"}, "it needs data.crop: fixed"),
        ({"paradigm": "masked"}, "it is for paradigm: causal alone"),
        ({"cached_logits": "{top_k: 8}"}, "leave out one of them"),
        ({"objective.hidden_state.weight": "0.5"}, "objective.hidden_state needs those of mapped layers: give"),
        ({"objective.attention.weight": "0.5"}, "objective.attention needs more of the teachers than their states"),
        ({"objective.value_relation.weight": "0.5"}, "objective.value_relation needs more of the teachers than their"),
        ({"teacher_cache.precision": "int4"}, "teacher_cache.precision"),
        ({"teacher_cache.max_gib": "0"}, "teacher_cache.max_gib"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    signals: Path, write_config: WriteConfig, changes: dict[str, str], expected: str
) -> None:
    file, overrides = write_config(values(cache={})), [f"{key}={value}" for key, value in changes.items()]
    assert load_plan(file, [], DistillConfig).kept_states
    with pytest.raises(UserError, match=expected):
        load_plan(file, overrides, DistillConfig)


def test_a_disk_without_room_is_told_before_anything_is_trained(
    signals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(values(cache={}))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match="bytes of states are to come, but only 1,000 are free on that disk"):
        find_teachers(plan, torch.device("cpu"))


def test_it_is_the_place_of_other_states(signals: Path) -> None:
    kept = place_of(plan_for(values(cache={})))
    kept.open()
    identity = kept.folder / "identity.json"
    identity.write_text(identity.read_text().replace('"bf16"', '"fp8"'))
    with pytest.raises(UserError, match="does not match its name; it differs in\n  states: 'fp8' there, 'bf16' here"):
        kept.open()


def test_only_with_positions(signals: Path) -> None:
    plan = plan_for(values(cache={}))
    teachers = find_teachers(plan, torch.device("cpu"))
    assert isinstance(teachers, KeepingTeachers)
    teachers.require(False, [(), ()])
    with pytest.raises(ValueError, match="no positions are given"):
        teachers.run(plan.paradigm.window_batch(plan.windows(), range(2)))
