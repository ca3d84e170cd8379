"""Configurations: composition, overrides, and messages that name every problem."""

import os
from pathlib import Path
from typing import Any, Literal

import pytest
import tiny
from pydantic import BaseModel, ConfigDict, Field
from shared_fixtures import WriteConfig

from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.config import load, read_yaml
from palenka.util.errors import UserError
from palenka.util.former_names import with_present_names


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Tea(_Strict):
    sort: Literal["green", "black"] = "green"
    minutes: float = 3.0


class Kitchen(_Strict):
    """A schema with the shapes that configurations have: sections, optional sections, lists of sections."""

    cups: int = Field(default=1, ge=1)
    tea: Tea = Tea()
    milk: Tea | None = None
    guests: list[str] = []
    pots: list[Tea] = []


def test_precedence_is_bases_left_to_right_then_the_file_then_overrides(write_config: WriteConfig) -> None:
    write_config({"cups": 1, "tea": {"minutes": 1}, "guests": ["a"]}, "first.yaml")
    write_config({"cups": 2, "tea": {"minutes": 2}}, "second.yaml")
    file = write_config({"base": ["first.yaml", "second.yaml"], "cups": 3})
    assert load(file, [], Kitchen) == Kitchen(cups=3, tea=Tea(minutes=2), guests=["a"])
    assert load(file, ["cups=4"], Kitchen).cups == 4
    assert load(file, ["cups=4", "cups=5"], Kitchen).cups == 5


def test_bases_have_bases_and_are_found_from_the_file_that_names_them(write_config: WriteConfig) -> None:
    write_config({"cups": 7, "tea": {"minutes": 7}}, "far/deep/bottom.yaml")
    write_config({"base": "deep/bottom.yaml", "cups": 8}, "far/middle.yaml")
    config = load(write_config({"base": ["far/middle.yaml"]}), [], Kitchen)
    assert (config.cups, config.tea.minutes) == (8, 7)


def test_a_mapping_has_bases_of_its_own_read_into_its_place(write_config: WriteConfig) -> None:
    write_config({"sort": "black", "minutes": 4}, "leaves/strong.yaml")
    write_config({"base": "leaves/strong.yaml", "minutes": 6}, "stronger.yaml")
    write_config({"tea": {"sort": "green"}}, "base.yaml")
    file = write_config({"base": "base.yaml", "cups": 3, "tea": {"base": "stronger.yaml"}})
    assert load(file, [], Kitchen) == Kitchen(tea=Tea(sort="black", minutes=6), cups=3)
    assert load(file, ["tea.minutes=9"], Kitchen).tea == Tea(sort="black", minutes=9)


def test_a_wrong_value_in_a_base_of_a_mapping_is_found_there(write_config: WriteConfig) -> None:
    write_config({"minutes": "long"}, "leaves.yaml")
    wrong = problems(write_config({"tea": {"base": "leaves.yaml"}}), [])
    assert "tea.minutes (" in wrong
    assert "leaves.yaml): input should be a valid number" in wrong
    missing = problems(write_config({"tea": {"base": "nowhere.yaml"}}), [])
    assert "run.yaml: tea.base: no such file: nowhere.yaml (" in missing
    circle = problems(write_config({"tea": {"base": "run.yaml"}}), [])
    assert circle.endswith("base files go in a circle: run.yaml -> run.yaml")


def test_one_base_may_be_reached_twice(write_config: WriteConfig) -> None:
    write_config({"cups": 5}, "root.yaml")
    write_config({"base": "root.yaml", "guests": ["left"]}, "left.yaml")
    write_config({"base": "root.yaml", "tea": {"minutes": 9}}, "right.yaml")
    config = load(write_config({"base": ["left.yaml", "right.yaml"]}), [], Kitchen)
    assert config == Kitchen(cups=5, guests=["left"], tea=Tea(minutes=9))


def test_mappings_merge_and_lists_are_replaced_whole(write_config: WriteConfig) -> None:
    write_config(
        {"tea": {"sort": "black", "minutes": 4}, "guests": ["a", "b", "c"], "pots": [{"minutes": 1}]}, "base.yaml"
    )
    config = load(write_config({"base": "base.yaml", "tea": {"minutes": 5}, "guests": ["d"], "pots": []}), [], Kitchen)
    assert config == Kitchen(tea=Tea(sort="black", minutes=5), guests=["d"], pots=[])


def test_keys_of_a_written_config_have_their_present_names() -> None:
    written = {"evaluation": {"convention": "2025", "items": 3}, "teacher_signal": {"top_k": 8}, "data.convention": 1}
    assert with_present_names(written) == {
        "evaluation": {"protocol": "2025", "items": 3}, "cached_logits": {"top_k": 8}, "data.convention": 1,
    }  # fmt: skip


def test_overrides_reach_into_mappings_and_lists(write_config: WriteConfig) -> None:
    file = write_config({"tea": {"sort": "black"}, "guests": ["a", "b"], "pots": [{"minutes": 1}, {"minutes": 2}]})
    config = load(
        file, ["tea.minutes=8", "guests.1=z", "pots.1.minutes=9", "pots.0={sort: black}", "milk.minutes=1"], Kitchen
    )
    assert config == Kitchen(
        tea=Tea(sort="black", minutes=8),
        guests=["a", "z"],
        pots=[Tea(sort="black"), Tea(minutes=9)],
        milk=Tea(minutes=1),
    )


def test_an_override_that_is_a_mapping_merges_like_one_in_a_file(write_config: WriteConfig) -> None:
    file = write_config({"tea": {"sort": "black", "minutes": 4}})
    assert load(file, ["tea={minutes: 6}"], Kitchen).tea == Tea(sort="black", minutes=6)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("2.5E+2", 250.0), ("-1e1", -10.0), ("7", 7.0), (".5", 0.5), ("1_0", 10.0)],
)
def test_values_are_read_as_yaml(write_config: WriteConfig, text: str, value: float) -> None:
    assert load(write_config({}), [f"tea.minutes={text}"], Kitchen).tea.minutes == value
    path = write_config({})
    path.write_text(f"tea: {{minutes: {text}}}\n")
    assert read_yaml(path) == {"tea": {"minutes": value}}


def test_null_removes_a_section(write_config: WriteConfig) -> None:
    file = write_config({"milk": {"minutes": 2}})
    assert load(file, [], Kitchen).milk == Tea(minutes=2)
    assert load(file, ["milk=null"], Kitchen).milk is None


def test_what_an_alias_repeats_can_be_changed_alone(write_config: WriteConfig) -> None:
    path = write_config({})
    path.write_text("tea: &t {sort: black, minutes: 4}\nmilk: *t\npots: [*t, {<<: *t, minutes: 1}]\n")
    config = load(path, ["tea.minutes=9", "pots.0.minutes=8"], Kitchen)
    black = {minutes: Tea(sort="black", minutes=minutes) for minutes in (9, 4, 8, 1)}
    assert config == Kitchen(tea=black[9], milk=black[4], pots=[black[8], black[1]])


def problems(path: Path, overrides: list[str], schema: type[BaseModel] = Kitchen) -> str:
    with pytest.raises(UserError) as caught:
        load(path, overrides, schema)
    return str(caught.value)


def test_all_problems_come_at_once_each_with_key_file_value_and_what_would_be_right(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config({"tea": {"sort": "red"}}, "base.yaml")
    file = write_config({"base": "base.yaml", "cupz": 3, "tea": {"minutse": 2}, "pots": [{"minutes": "long"}]})
    message = problems(file, ["cups=0"])
    lines = message.splitlines()
    assert lines[0] == "run.yaml: 5 problems"
    assert sorted(lines[1:]) == [
        "  cups (command line): input should be greater than or equal to 1 (got 0)",
        "  cupz (run.yaml): unknown key; did you mean 'cups'?",
        "  pots.0.minutes (run.yaml): input should be a valid number, unable to parse string as a number (got 'long')",
        "  tea.minutse (run.yaml): unknown key; did you mean 'minutes'?",
        "  tea.sort (base.yaml): input should be 'green' or 'black' (got 'red')",
    ]


def test_an_unknown_key_unlike_any_other_lists_the_known_ones(write_config: WriteConfig) -> None:
    assert "qqq (" in (message := problems(write_config({"milk": {"qqq": 1}}), []))
    assert message.endswith("unknown key; known: minutes, sort")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cups: 1\ntea:\n  minutes: 1\n  minutes: 2\n", "line 4, column 3"),
        ("cups: 1\ncups: 1\n", "the key 'cups' appears twice"),
        ("cups: [1\n", "not valid YAML"),
        ("- 1\n", "expected a mapping of keys to values, found list"),
        ("pots: {[3, 2], [6, 4]}\n", "unhashable key"),
        ("cups: 2024-13-45\n", "month"),
        ("base: 5\n", "base: expected a file or a list of files, got 5"),
        ("base: [null]\n", "base: expected a file or a list of files, got [None]"),
        ("base: nowhere.yaml\n", "base: no such file: nowhere.yaml"),
        ("base: [run.yaml]\n", "base files go in a circle: run.yaml -> run.yaml"),
        ("base: .\n", "is a folder, not a YAML file"),
        *((text, "not valid YAML") for text in (
            "cups: !!python/object/apply:os.getcwd []", "cups: !goat 1", "cups: 1\n---\ncups: 2", "guests:\n\t- a",
        )),
    ],
)
def test_a_file_that_cannot_be_read_is_named(write_config: WriteConfig, text: str, expected: str) -> None:
    path = write_config({})
    path.write_text(text, encoding="utf-8")
    message = problems(path, [])
    assert expected in message
    assert str(path.parent) in message


def test_no_such_file_and_no_utf8(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml", []) == f"{tmp_path / 'none.yaml'}: no such file"
    (tmp_path / "latin.yaml").write_bytes("guests: [Jos\xe9]".encode("latin-1"))
    assert "not valid YAML" in problems(tmp_path / "latin.yaml", [])


def test_longer_circles_name_the_way_round(write_config: WriteConfig) -> None:
    write_config({"base": "b.yaml"}, "a.yaml")
    write_config({"base": "c.yaml"}, "b.yaml")
    message = problems(write_config({"base": ["a.yaml"]}, "c.yaml"), [])
    assert message.endswith("base files go in a circle: c.yaml -> a.yaml -> b.yaml -> c.yaml")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("cups", "expected key.path=value"),
        ("=3", "expected key.path=value"),
        ("cups=[1", "not valid YAML"),
        ("tea={minutes: 1, minutes: 2}", "not valid YAML"),
        ("guests.2=x", "'2' is not an index into a list of 2"),
        ("guests.-1=x", "'-1' is not an index into a list of 2"),
        ("guests.first=x", "'first' is not an index into a list of 2"),
        ("guests.0.name=x", "guests.0 is 'a', which has no keys"),
        ("cups.x=1", "cups (command line): input should be a valid integer"),
    ],
)
def test_an_override_that_makes_no_sense_is_named(write_config: WriteConfig, override: str, expected: str) -> None:
    message = problems(write_config({"guests": ["a", "b"]}), [override])
    assert expected in message


def change(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        *parents, last = key.split(".")
        target = values
        for parent in parents:
            target = target[parent]
        target[last] = value
    return values


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.lr=-1", "training.lr (command line): input should be greater than 0 (got -1)"),
        ("training.lr=.inf", "training.lr (command line): input should be a finite number (got inf)"),
        ("training.lr=fast", "training.lr (command line): input should be a valid number"),
        ("training.num_epochs=2", "give either num_epochs or max_steps"),
        ("training.max_steps=null", "give either num_epochs or max_steps"),
        ("training.learning_rate=1", "training.learning_rate (command line): unknown key; here it is called 'lr'"),
        ("training.warmup_steps=1.5", "training.warmup_steps (command line): expected a whole number of steps from 0"),
        ("data.bos=line", "data.bos (command line): input should be 'window', 'document' or 'none' (got 'line')"),
        ("data.fraction=0", "data.fraction (command line): input should be greater than 0"),
        ("seed=-1", "seed (command line): input should be greater than or equal to 0 (got -1)"),
        ("name=../escape", "name (command line): string should match pattern"),
        ("name=a/.hidden", "name (command line): string should match pattern"),
        ("student.hiden_size=8", "unknown key 'hiden_size' for architecture 'llama'; did you mean 'hidden_size'?"),
        ("student.architecture=lama", "student.architecture (command line): unknown architecture 'lama'; did you mean"),
        ("objective.logits.weight=1", "objective.logits (command line): unknown key; did you mean 'logit'?"),
        ("objective.logit.temperature=0", "objective.logit.temperature (command line): input should be greater than 0"),
        ("objective.logit.weight=-0.5", "objective.logit.weight (command line): expected a number from 0"),
        ("objective.logit.weight=.inf", "objective.logit.weight (command line): expected a number from 0"),
        ("objective.hidden_state.distance=far", "input should be 'normalized', 'plain' or 'cosine' (got 'far')"),
        ("objective={hard_target: null, logit: null, hidden_state: null}", "no term has a weight above 0"),
        ("evaluation={tasks: [x], convention: 2025}", "(command line): is called evaluation.protocol now"),
        ("teacher_signal.top_k=8", "teacher_signal (command line): is called cached_logits now"),
        ("objective.auxiliary={weight: 1, combine: logits}", "combine (command line): is gone, leave it out: "),
        ("teachers=[]", "teachers (command line): list should have at least 1 item"),
        ("teachers.0.weight=0", "teachers.0.weight (command line): input should be greater than 0"),
        ("teachers.0.layer_mapping=unifrom", "teachers.0.layer_mapping (command line): expected 'uniform', 'last'"),
        ("teachers.0.layer_mapping=[[1, 2, 3]]", "teachers.0.layer_mapping (command line): expected 'uniform', 'last'"),
    ],
)
def test_a_bad_value_of_a_run_is_one_message(write_config: WriteConfig, override: str, expected: str) -> None:
    message = problems(write_config(tiny.distill_values()), [override], DistillConfig)
    assert expected in message
    assert message.splitlines()[0].endswith(": 1 problem")


def test_a_weight_has_to_be_given(write_config: WriteConfig) -> None:
    file = write_config(change(tiny.distill_values(), {"objective.logit": {"temperature": 2}}))
    assert "objective.logit.weight (" in (message := problems(file, [], DistillConfig))
    assert message.endswith("required, but not given")


def test_null_or_weight_0_removes_an_objective(write_config: WriteConfig) -> None:
    file = write_config(tiny.distill_values())
    assert set(load(file, [], DistillConfig).terms) == {"hard_target", "logit", "hidden_state"}
    assert set(load(file, ["objective.logit=null"], DistillConfig).terms) == {"hard_target", "hidden_state"}
    assert set(load(file, ["objective.hidden_state.weight=0"], DistillConfig).terms) == {"hard_target", "logit"}


def test_a_config_of_the_other_program_names_it(write_config: WriteConfig) -> None:
    student = write_config(tiny.distill_values(), "student.yaml")
    assert "it has teachers: python distill.py trains it" in problems(student, [], TrainConfig)
    model = write_config(tiny.train_values(), "model.yaml")
    assert "it has a model without teachers: python train.py trains it" in problems(model, [], DistillConfig)
    both = problems(student, ["model={architecture: llama}"], DistillConfig)
    assert "it has a student and a model, of which train.py trains one and distill.py the other" in both
    assert "unknown key" not in both
    assert "objective (command line): unknown key" in problems(model, ["objective.logit.weight=1"], TrainConfig)


# What would keep a machine busy for ever, or end in a traceback, is refused at once

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: " + "[" * 5000 + "]" * 5000, "nested deeper than 50 levels"),
        ("".join(f"{' ' * n}a:\n" for n in range(200)), "nested deeper than 50 levels"),
        ("tea: &t {minutes: *t}", "*t contains itself"),
        ("a: &a [[1], [*a]]", "*a contains itself"),
        (BOMB, "more than 100,000 values"),
        (MERGE_BOMB, "more than 100,000 values"),
        ("cups: 1" + "0" * 5000, "not valid YAML"),
        ('name: "\\ud800"', "a character that no file can hold"),
        ('name: "a\\0b"', "a character that no file can hold"),
        ("cups: !!bool perhaps", "not valid YAML"),
        ('cups: !!int ""', "not valid YAML"),
        ("# " + "x" * 300_000, "a configuration has at most 262,144"),
    ],
    ids=["flow", "block", "cycle", "cycle in a list", "bomb", "merges", "digits", "surrogate", "NUL", "bool", "int"]
    + ["size"],
)
def test_yaml_without_bounds_is_refused(write_config: WriteConfig, text: str, expected: str) -> None:
    path = write_config({})
    path.write_text(text)
    message = problems(path, [])
    assert expected in message and str(path) in message
    assert len(message) < 1000


def test_an_alias_that_is_used_twice_is_fine(write_config: WriteConfig) -> None:
    path = write_config({})
    path.write_text("a: &t {minutes: 3}\nb: *t\nc: {<<: *t, more: 1}\n")
    assert read_yaml(path) == {"a": {"minutes": 3}, "b": {"minutes": 3}, "c": {"minutes": 3, "more": 1}}


def test_base_files_that_multiply_are_refused(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.yaml").write_text(f"base: [{', '.join([f'{number + 1}.yaml'] * 10)}]")
    (tmp_path / "12.yaml").write_text("cups: 1")
    assert "more than 1000 base files" in problems(tmp_path / "0.yaml", [])


def test_an_override_has_bounds_too(write_config: WriteConfig) -> None:
    path = write_config({})
    for override in (".".join("a" * 5000) + "=1", "cups=" + "[" * 5000, "cups=1" + "0" * 5000, "x" * 5000):
        assert len(problems(path, [override])) < 1000


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "not a regular file" in problems(tmp_path / "pipe.yaml", [])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training={lr: 1, batch_size: 8, max_steps: null, num_epochs: 1e9}", "less than or equal to 10000"),
        ("training.max_steps=1000000000000", "less than or equal to 100000000"),
        ("training.batch_size=1000000000", "less than or equal to 1048576"),
        ("data.seq_length=1000000000", "less than or equal to 1048576"),
        ("training.lr=1e400", "finite number"),
        ("training.lr=.nan", "finite number"),
        ("training.lr=[1, 2]", "training.lr (command line): input should be a valid number"),
        ("name={a: 1}", "name (command line): input should be a valid string"),
        *((f"name={name}", "name (command line): string should match pattern") for name in (
            '""', "..", "/tmp/outside", "a/.lock", '"a\\nb"',
        )),
        ("seed=1" + "0" * 4000, "less than or equal to 9223372036854775807"),
        ("training.batch_size=1" + "0" * 4000, "training.batch_size"),
        ("student.num_hidden_layers=1000000000", "num_hidden_layers is 1000000000, expected at most 1,000"),
        ("student.num_hidden_layers=1" + "0" * 4000, "expected at most 1,000"),
        ("student.hidden_size=1e12", "hidden_size is 1000000000000.0, expected at most 1,000,000"),
        ("student.max_position_embeddings=1000000000000", "expected at most 100,000,000"),
        ("name=" + "x" * 5000, "is too long for a name: expected at most 200 bytes"),
        ("name=" + "/".join(["x" * 100] * 20), "1000 altogether"),
        ("name=kd/evaluation", "'evaluation' is a file or folder within a run"),
        ("name=kd/checkpoint-8", "'checkpoint-8' is a file or folder within a run"),
        ("name=hub/gpt2", "runs/hub/ is for models of the Hugging Face Hub"),
        ("data.name=../other", "the folder that holds such data is paths.data"),
        ("data.name=/etc", "expected the name that prepared data was given"),
        ("data.name=" + "x" * 5000, "is too long for a name"),
    ],
)
def test_absurd_values_are_refused(write_config: WriteConfig, override: str, expected: str) -> None:
    message = problems(write_config(tiny.distill_values()), [override], DistillConfig)
    assert expected in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "key", ["training.lr", "training.batch_size", "seed", "data.dev_samples", "objective.logit.temperature"]
)
def test_a_truth_value_is_no_number(key: str, write_config: WriteConfig) -> None:
    path = write_config(tiny.distill_values())
    with pytest.raises(UserError, match=rf"{key} \(command line\): expected a number, got true"):
        load(path, [f"{key}=true"], DistillConfig)
    assert load(path, ["training.compile=true"], DistillConfig).training.compile is True
