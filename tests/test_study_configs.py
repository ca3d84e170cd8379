"""The shipped runs: each has one command, says what it is and what was published, and has the published shape."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny

from palenka.cost.dry_run import describe
from palenka.data.prepare import prepare
from palenka.models.config import ModelConfig
from palenka.models.huggingface import count_parameters_of
from palenka.training.plan import load_plan
from palenka.training.recipes import CONFIGS, VARIANTS, Recipe, find_recipe, read_command
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.config import read_yaml
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

PUBLISHED_VOCABULARY = tiny.TOKEN_IDS | {"vocab_size": 16_000}


class Command(NamedTuple):
    """`python PROGRAM --config …`"""

    program: str
    recipe: Recipe

    @classmethod
    def read(cls, text: str) -> "Command":
        return cls(text.split(" --config ")[0].split()[-1], read_command(text))


def header_of(path: Path) -> str:
    return "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))


def command_of(path: Path) -> Command:
    """The command in a config's header."""
    found = re.search(r"^#   (.*)$", header_of(path), re.MULTILINE)
    assert found, f"{path}: no command in its header"
    return Command.read(found[1])


FILES = [
    path
    for path in sorted(CONFIGS.rglob("*.yaml"))
    if "name" in (values := read_yaml(path)) and "grid" not in values
    if path.parent.name not in ("finetuning", "search")
]
COMMANDS = [*map(command_of, FILES), *map(Command.read, read_yaml(VARIANTS)["runs"])]
RUNS = {command.recipe.values["name"]: command for command in COMMANDS}

# Under Hugging Face's own classes, with 16,000 tokens: all parameters, and those outside the embeddings.
PUBLISHED_PARAMETERS = {
    ("GPT2-44M", "DistilledGPT-Teacher-GPT2-44M", "DistilledGPT-44M", "DistilledGPT-44M-control"): (
        26_661_888, 14_373_888,
    ),
    ("Llama-60M", "DistilledGPT-Teacher-Llama-60M"): (38_735_616, 14_159_616),
    ("GPT2-small-97M", "GPT2-97M", "strict/GPT2-97M"): (97_540_608, 85_252_608),
    ("GPT2-705M", "BabyLlama1-Teacher-GPT2-705M", "BabyLlama1-Teacher-GPT2-705M-as-published"): (
        704_928_768, 680_352_768,
    ),
    ("Llama-360M", "BabyLlama1-Teacher-Llama-360M", "strict/BabyLlama1-Teacher-Llama-360M"): (359_973_888, 327_205_888),
    ("Llama-16M",): (16_584_960, 8_392_960),
    ("BabyLlama1-58M", "BabyLlama1-58M-control", "PalenkaLlama1-58M", "PalenkaLlama1-58M-L0.1-H0.3", "milestone/KD"): (
        58_343_936, 41_959_936,
    ),
    ("milestone/hidden-state",): (24_977_664, 16_785_664),
    ("GPT-J-97M",): (97_304_704, 85_016_704),
    ("Llama-97M",): (97_241_856, 84_953_856),
    ("BabyLlama2-345M", "BabyLlama2-345M-control", "BabyLlama2-Teacher-1", "BabyLlama2-345M-as-published"): (
        345_355_200, 314_635_200,
    ),
    ("AntLM-Llama-58M", "AntLM-Llama-58M-mntp"): (58_343_936, 41_959_936),
    ("AntLM-LTG-BERT-98M", "AntLM-LTG-BERT-98M-causal"): (97_934_464, 85_646_464),
    ("LTG-BERT-28M",): (27_594_112, 21_450_112),
    ("GPT-BERT-31M", "GPT-BERT-31M-mixed"): (32_898_244, 26_754_244),
    ("GPT-BERT-119M",): (119_159_236, 106_871_236),
    ("cpu/control-3M", "cpu/mix-3M", "cpu/student-kd-mix-3M", "cpu/babyllama2-3M"): (3_327_616, 1_279_616),
    ("cpu/ltg-bert-3M",): (3_371_392, 1_323_392),
    ("cpu/gpt-bert-3M",): (3_321_562, 1_273_562),
}  # fmt: skip
SIZES = {name: sizes for names, sizes in PUBLISHED_PARAMETERS.items() for name in names}


def model_of(run: str) -> dict[str, Any]:
    values = RUNS[run].recipe.values
    model: dict[str, Any] = values.get("model") or values["student"]
    return model


@pytest.mark.parametrize("run", SIZES)
def test_runs_have_the_published_parameters(run: str) -> None:
    config = ModelConfig.model_validate(model_of(run)).hugging_face(PUBLISHED_VOCABULARY)
    counted = count_parameters_of(config)
    assert (counted["total"], counted["non_embedding"]) == SIZES[run]
    assert config.max_position_embeddings == (512 if config.model_type.endswith("_bert") else 256)


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


@pytest.mark.parametrize("run", [run for run in SIZES if model_of(run)["architecture"].endswith("_bert")])
def test_encoders_have_the_parameters_of_their_papers_layers(run: str) -> None:
    model = model_of(run)
    width, inner, layers = (model[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    is_gated = model["architecture"] == "gpt_bert"
    values = linear(width, 2 * width) if is_gated else linear(width, width)
    attention = linear(width, 2 * width) + values + linear(width, width) + (0 if is_gated else 2 * width)
    feed_forward = width * 2 * inner + inner * width
    positions = 63 * width + 2 * width
    dense = sum(sublayer + 1 for sublayer in range(1, 2 * layers + 1)) if is_gated else 0
    head = linear(width, width) + 16_000
    assert SIZES[run][0] == 16_000 * width + positions + layers * (attention + feed_forward) + dense + head


@pytest.mark.parametrize(
    ("run", "vocabulary", "published"),
    [
        ("GPT-BERT-31M", 16_384, 39_337_540 - 16_384 * 384),  # weights of 2025's baseline, without the head's own copy
        ("GPT-BERT-31M", 8_192, "30M"),
        ("GPT-BERT-119M", 16_384, "119M"),
        ("AntLM-LTG-BERT-98M", 16_384, "98M"),
    ],
)
def test_encoders_have_the_published_size_in_the_published_vocabulary(
    run: str, vocabulary: int, published: int | str
) -> None:
    config = ModelConfig.model_validate(model_of(run)).hugging_face(tiny.TOKEN_IDS | {"vocab_size": vocabulary})
    counted = count_parameters_of(config)["total"]
    assert published in (counted, f"{counted / 1e6:.0f}M")


@pytest.mark.slow
def test_a_name_is_one_run_and_is_found_by_it() -> None:
    assert len(RUNS) == len(COMMANDS)
    assert {name: find_recipe(name) for name in RUNS} == {name: command.recipe for name, command in RUNS.items()}
    assert find_recipe("nobody") is None


def test_every_teacher_has_a_command() -> None:
    teachers = {teacher["run"] for command in COMMANDS for teacher in command.recipe.values.get("teachers", [])}
    assert teachers <= set(RUNS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_file_says_how_it_is_run_and_what_to_expect(path: Path) -> None:
    command = command_of(path)
    assert command.recipe == Recipe(path)
    assert (ROOT / command.program).is_file()
    assert read_yaml(path)["name"].split("/")[-1] == path.stem
    assert re.search(r"^# (Published|Expect)\b", header_of(path), re.MULTILINE)


@pytest.fixture(scope="module")
def prepared_for_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data under every name that the configs use, and an item of the demo's task."""
    root = tmp_path_factory.mktemp("data")
    (root / "demo_pairs").mkdir()
    (root / "demo_pairs" / "one.jsonl").write_text('{"sentence_good": "A cat.", "sentence_bad": "Cat a."}\n')
    tiny.write_raw_text(root / "raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_DATA", str(root))
        for name in {command.recipe.values["data"]["name"] for command in COMMANDS}:
            prepare(root / "raw" / "train", root / "raw" / "dev", None, name, tiny.VOCABULARY)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_every_run_has_a_plan_before_its_teachers_are_trained(
    run: str, prepared_for_all: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PALENKA_DATA", "PALENKA_EVAL"):
        monkeypatch.setenv(variable, str(prepared_for_all))
    monkeypatch.setattr("palenka.cost.dry_run.this_machine", lambda: tiny.MACHINE)
    program, recipe = RUNS[run]
    schema = TrainConfig if program == "train.py" else DistillConfig
    short = [*recipe.overrides, "training.num_epochs=40", "training.max_steps=null"]
    plan = load_plan(recipe.file, short, schema, dry_run=True)
    described = describe(plan)
    assert f"name: {run}\n" in described
    for teacher in plan.teachers:
        assert f"not trained yet: python train.py --config {RUNS[teacher.name].recipe}\n" in described
    if plan.teachers:
        with pytest.raises(UserError, match=r"train it first: python train\.py --config config/"):
            load_plan(recipe.file, recipe.overrides, schema)


EXPERIMENTS = sorted((ROOT / "distillation_type_experiments").glob("*.py"))


@pytest.mark.parametrize("script", EXPERIMENTS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_an_experiment_plans_its_own_config_from_any_folder(
    script: Path, prepared: Path, runs_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("palenka.cost.dry_run.this_machine", lambda: tiny.MACHINE)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    short = ["data.name=tiny", "training.num_epochs=null", "training.max_steps=3"]
    monkeypatch.setattr(sys, "argv", [str(script), *short, "--dry-run"])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    (run,) = (name for name, command in RUNS.items() if command.program == script.relative_to(ROOT).as_posix())
    assert printed.startswith(f"name: {run}\n")
    assert "teacher Llama-16M" in printed
    assert ("teacher GPT2-97M" in printed) == (script.stem != "dskd-distillation-1-teacher")


def test_students_differ_from_their_controls_by_distillation_alone() -> None:
    for student in ("BabyLlama1-58M", "PalenkaLlama1-58M", "DistilledGPT-44M", "BabyLlama2-345M"):
        control = student.replace("Palenka", "Baby") + "-control"
        first, second = (RUNS[name].recipe.values for name in (student, control))
        second["student"] = second.pop("model")
        for values in (first, second):
            for key in ("name", "teachers", "objective"):
                values.pop(key, None)
        assert first == second


@pytest.mark.parametrize("run", [name for name in RUNS if name.startswith("strict/")])
def test_strict_is_the_same_run_with_other_data(run: str) -> None:
    values, original = RUNS[run].recipe.values, RUNS[run.removeprefix("strict/")].recipe.values
    for teacher in original.get("teachers", []):
        teacher["run"] = f"strict/{teacher['run']}"
    assert values == original | {"name": run, "data": original["data"] | {"name": "strict"}}


def test_as_published_means_the_published_objective_and_optimisation() -> None:
    weights = {"BabyLlama1-58M": (0.5, 0.5), "DistilledGPT-44M": (0.5, 0.5), "PalenkaLlama1-58M": (1.0, 0.1)}
    published = {name.removesuffix("-as-published"): RUNS[name].recipe.values for name in RUNS
                 if "published" in name and "Llama2" not in name}  # fmt: skip
    assert weights.keys() < published.keys() and len(published) == 7
    for name, values in published.items():
        windows = {"bos": "none", "crop": "random", "window_start": "anywhere"}
        assert values["data"] == {"name": "strict-small", **windows}
        original = RUNS[name].recipe.values["training"]
        assert values["training"] == original | {"batch_size": 2 * original["batch_size"]}
        if name in weights:
            cross_entropy, logit = weights[name]
            scale = {"temperature": 2.0, "reduction": "sequence_sum"}
            terms = {"hard_target": {"weight": cross_entropy}, "logit": {"weight": logit, **scale}}
            assert values["objective"] == terms
            assert all(teacher["run"].removesuffix("-as-published") in published for teacher in values["teachers"])


def test_babyllama2_has_teachers_of_its_own_shape_that_differ_by_seed() -> None:
    control = RUNS["BabyLlama2-345M-control"].recipe.values
    for student, suffix in (("BabyLlama2-345M", ""), ("BabyLlama2-345M-as-published", "-as-published")):
        teachers = [RUNS[teacher["run"]].recipe.values for teacher in RUNS[student].recipe.values["teachers"]]
        data = RUNS[f"BabyLlama2-345M-control{suffix}"].recipe.values["data"]
        for seed, teacher in enumerate(teachers, start=1):
            assert teacher == control | {"name": f"BabyLlama2-Teacher-{seed}{suffix}", "seed": seed, "data": data}
        assert RUNS[student].recipe.values["data"] == data
    published = RUNS["BabyLlama2-345M-as-published"].recipe.values
    windows = {"bos": "none", "crop": "random", "window_start": "anywhere"}
    assert published["data"] == {"name": "strict-small-9.5M", **windows}
    ours = RUNS["BabyLlama2-345M"].recipe.values["objective"]["logit"]
    assert published["objective"]["logit"] == ours | {"reduction": "sequence_sum"}


PARADIGMS = {
    "AntLM-Llama-58M": ["-causal", "-masked", "-mntp"],
    "AntLM-LTG-BERT-98M": ["-causal", "-masked"],
    "GPT-BERT-31M": ["-mixed", "-causal-focus"],
    "cpu/control-3M": ["cpu/masked-3M", "cpu/mntp-3M", "cpu/mix-3M", "cpu/alternate-3M"],
}


@pytest.mark.parametrize(
    ("run", "other"), [(run, other) for run, others in PARADIGMS.items() for other in others], ids="{}".format
)
def test_runs_of_another_paradigm_are_otherwise_the_same(run: str, other: str) -> None:
    one, two = RUNS[run].recipe.values, RUNS[other if "/" in other else run + other].recipe.values
    assert one.pop("paradigm", None) != two.pop("paradigm")
    assert one | {"name": two["name"]} == two
