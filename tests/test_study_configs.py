"""The shipped configs: each says what it is and what it costs, fits its program, and has the published shape."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import tiny

from palenka.cost.dry_run import describe
from palenka.data.prepare import prepare
from palenka.models.huggingface import ModelConfig, count_parameters_of
from palenka.search.cost import read_estimate
from palenka.training.plan import load_plan
from palenka.training.schema import DistillConfig, TrainConfig
from palenka.util.config import compose, read_yaml
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

CONFIG = ROOT / "config"
RUNS = {
    path.relative_to(CONFIG).as_posix(): path
    for path in CONFIG.rglob("*.yaml")
    if "name" in (values := read_yaml(path)) and "grid" not in values
}
PUBLISHED_VOCABULARY = tiny.TOKEN_IDS | {"vocab_size": 16_000}

# Of the study's configs under Hugging Face's own classes, with 16,000 tokens.
PUBLISHED_PARAMETERS = {
    "gpt2-44m": (26_661_888, 14_373_888),
    "llama-60m": (38_735_616, 14_159_616),
    "gpt2-97m": (97_540_608, 85_252_608),
    "gpt2-705m": (704_928_768, 680_352_768),
    "llama-360m": (359_973_888, 327_205_888),
    "llama-16m": (16_584_960, 8_392_960),
    "llama-58m": (58_343_936, 41_959_936),
    "llama-24m": (24_977_664, 16_785_664),
    "gpt-j-97m": (97_304_704, 85_016_704),
    "llama-97m": (97_241_856, 84_953_856),
}
SHAPE_OF = {
    "baseline/GPT2-44M.yaml": "gpt2-44m",
    "distillation/DistilledGPT-44M.yaml": "gpt2-44m",
    "baseline/Llama-60M.yaml": "llama-60m",
    "baseline/GPT2-small-97M.yaml": "gpt2-97m",
    "baseline/GPT2-705M.yaml": "gpt2-705m",
    "teacher/BabyLlama1-Teacher-GPT2-705M.yaml": "gpt2-705m",
    "baseline/Llama-360M.yaml": "llama-360m",
    "teacher/BabyLlama1-Teacher-Llama-360M.yaml": "llama-360m",
    "teacher/Llama-16M.yaml": "llama-16m",
    "teacher/GPT2-97M.yaml": "gpt2-97m",
    "distillation/BabyLlama1-58M.yaml": "llama-58m",
    "distillation/BabyLlama1-58M-control.yaml": "llama-58m",
    "distillation/PalenkaLlama1-58M.yaml": "llama-58m",
    "milestone/KD.yaml": "llama-58m",
    "milestone/hidden-state.yaml": "llama-24m",
    "baseline/GPT-J-97M.yaml": "gpt-j-97m",
    "baseline/Llama-97M.yaml": "llama-97m",
}  # fmt: skip


def shape_of(path: Path) -> ModelConfig:
    values = compose(path)
    return ModelConfig.model_validate(values.get("model") or values["student"])


def header_of(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


def command_of(path: Path) -> list[str]:
    """The words of the command in a config's header."""
    found = re.search(r"^#   (.*)$", header_of(path), re.MULTILINE)
    assert found, f"{path}: no command in its header"
    return found[1].split()


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_shapes_have_the_published_parameters(name: str) -> None:
    config = ModelConfig.model_validate(read_yaml(CONFIG / "shape" / f"{name}.yaml")).hugging_face(PUBLISHED_VOCABULARY)
    counted = count_parameters_of(config)
    assert (counted["total"], counted["non_embedding"]) == PUBLISHED_PARAMETERS[name]
    assert f"{counted['total']:,} parameters" in header_of(CONFIG / "shape" / f"{name}.yaml")
    assert config.max_position_embeddings == 256


@pytest.mark.parametrize("run", SHAPE_OF)
def test_runs_have_the_shapes_of_their_names(run: str) -> None:
    assert shape_of(RUNS[run]) == ModelConfig.model_validate(read_yaml(CONFIG / "shape" / f"{SHAPE_OF[run]}.yaml"))


def test_the_whole_study_is_there_and_names_are_unique() -> None:
    names = {name: read_yaml(path)["name"] for name, path in RUNS.items()}
    assert set(SHAPE_OF) <= set(names)
    assert len(set(names.values())) == len(names)
    for name in names:
        assert names[name].split("/")[-1] == Path(name).stem


@pytest.mark.parametrize("run", sorted(RUNS))
def test_headers_say_what_how_at_what_cost_and_what_to_expect(run: str) -> None:
    header, command = header_of(RUNS[run]), command_of(RUNS[run])
    assert command[-2:] == ["--config", f"config/{run}"]
    assert (ROOT / command[-3]).is_file()
    assert "\n# Cost: " in header
    assert "\n# Expect" in header


@pytest.mark.parametrize("run", sorted(run for run in RUNS if " FLOPs" in header_of(RUNS[run])))
def test_the_cost_in_a_header_is_what_the_run_will_compute(
    run: str, runs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path))
    stated = re.search(r"# Cost: (\S+) FLOPs, (\d+(?:\.\d)?) (h|min) of one A100", header_of(RUNS[run]))
    assert stated
    words = 10**8 if compose(RUNS[run])["data"]["name"] == "strict" else 10**7
    estimate = read_estimate(RUNS[run], [words])
    flops = estimate.flops.of() * estimate.tokens_per_step * estimate.lengths[0].steps
    assert float(stated[1]) == pytest.approx(flops, rel=0.05)
    seconds = float(stated[2]) * {"h": 3600, "min": 60}[stated[3]]
    assert seconds == pytest.approx(flops / (0.4 * 312e12), rel=0.06, abs=31)


@pytest.fixture(scope="module")
def prepared_for_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data under every name that the configs use, and an item of the demo's task."""
    root = tmp_path_factory.mktemp("data")
    (root / "demo_pairs").mkdir()
    (root / "demo_pairs" / "one.jsonl").write_text('{"sentence_good": "A cat.", "sentence_bad": "Cat a."}\n')
    tiny.write_raw_text(root / "raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALENKA_DATA", str(root))
        for name in {compose(path)["data"]["name"] for path in RUNS.values()}:
            prepare(root / "raw" / "train", root / "raw" / "dev", None, name, tiny.VOCABULARY)
    return root


@pytest.mark.parametrize("run", sorted(RUNS))
def test_every_config_has_a_plan_before_its_teachers_are_trained(
    run: str, prepared_for_all: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PALENKA_DATA", "PALENKA_EVAL"):
        monkeypatch.setenv(variable, str(prepared_for_all))
    monkeypatch.setattr("palenka.cost.dry_run.this_machine", lambda: tiny.MACHINE)
    program = command_of(RUNS[run])[-3]
    schema = TrainConfig if program == "train.py" else DistillConfig
    plan = load_plan(RUNS[run], ["training.num_epochs=40", "training.max_steps=null"], schema, dry_run=True)
    described = describe(plan)
    assert f"name: {plan.config.name}" in described
    assert all("not trained yet: python train.py --config config/" in line
               for line in described.splitlines() if line.startswith("  teacher "))  # fmt: skip
    if plan.teachers:
        with pytest.raises(UserError, match=r"train it first: python train\.py --config config/"):
            load_plan(RUNS[run], [], schema)


EXPERIMENTS = sorted((ROOT / "distillation_type_experiments").glob("*.py"))


@pytest.mark.parametrize("script", EXPERIMENTS, ids=lambda path: path.stem)
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
    (config,) = (path for path in RUNS.values() if command_of(path)[-3] == script.relative_to(ROOT).as_posix())
    assert printed.startswith(f"name: {read_yaml(config)['name']}\n")
    assert "teacher Llama-16M" in printed
    assert ("teacher GPT2-97M" in printed) == (script.stem != "dskd-distillation-1-teacher")


def test_students_differ_from_their_controls_by_distillation_alone() -> None:
    for student, control in (
        ("BabyLlama1-58M", "BabyLlama1-58M-control"), ("DistilledGPT-44M", "DistilledGPT-44M-control"),
    ):  # fmt: skip
        first, second = (compose(RUNS[f"distillation/{name}.yaml"]) for name in (student, control))
        second["student"] = second.pop("model")
        for values in (first, second):
            for key in ("name", "teachers", "objective"):
                values.pop(key, None)
        assert first == second


def test_as_published_means_the_published_objective_and_optimisation() -> None:
    for name, weights in (
        ("BabyLlama1-58M", (0.5, 0.5)), ("DistilledGPT-44M", (0.5, 0.5)), ("PalenkaLlama1-58M", (1.0, 0.1)),
    ):  # fmt: skip
        values = compose(RUNS[f"as-published/{name}-as-published.yaml"])
        assert set(values["objective"]) == {"hard_target", "logit"}
        assert (values["objective"]["hard_target"]["weight"], values["objective"]["logit"]["weight"]) == weights
        assert values["objective"]["logit"] | {"weight": 0} == {
            "weight": 0, "temperature": 2.0, "reduction": "sequence_sum",
        }  # fmt: skip
        assert values["training"] == {
            "lr": 2.5e-4, "batch_size": 64, "num_epochs": 6, "warmup_steps": 200, "weight_decay": 0.1,
        }  # fmt: skip
        windows = {key: values["data"][key] for key in ("bos", "crop", "window_start", "seq_length")}
        assert windows == {"bos": "none", "crop": "random", "window_start": "anywhere", "seq_length": 128}
        assert all(teacher["run"].endswith("-as-published") for teacher in values["teachers"])
