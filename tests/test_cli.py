"""Command lines: bad input ends in a message and exit code 2, never in a traceback."""

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from shared_fixtures import Call, WriteConfig

from palenka import cli, commands
from palenka.util.errors import UserError
from palenka.util.paths import ROOT

Script = Callable[..., tuple[int, str, str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, call: Call) -> Script:
    """script("train.py", *arguments) runs a script of the repository; returns exit code, output and errors."""

    def run(name: str, *arguments: Any) -> tuple[int, str, str]:
        monkeypatch.syspath_prepend(ROOT)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return call(runpy.run_path, str(ROOT / name), run_name="__main__")

    return run


def fails(result: tuple[int, str, str], *expected: str) -> None:
    code, output, errors = result
    assert code == 2, errors
    assert "Traceback" not in errors + output
    for text in expected:
        assert text in errors


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.lrr=1", "training.lrr (command line): unknown key; did you mean 'lr'?"),
        ("teachers.0.run=nobody", "no run 'nobody'"),
        ("training.lr", "expected key.path=value"),
    ],
)
def test_wrong_input_to_distill(
    script: Script, teacher: Path, write_config: WriteConfig, override: str, expected: str
) -> None:
    fails(script("distill.py", "--config", write_config(tiny.distill_values()), override), "error: ", expected)


def test_all_problems_are_printed(script: Script, teacher: Path, write_config: WriteConfig) -> None:
    file = write_config(tiny.distill_values())
    result = script("distill.py", "--config", file, "training.lr=-1", "seeed=1", "data.seq_length=2")
    fails(result, "3 problems", "training.lr", "seeed", "data.seq_length")


def test_another_experiment_under_a_taken_name(
    script: Script, teacher: Path, runs_folder: Path, write_config: WriteConfig
) -> None:
    file = write_config(tiny.distill_values(name="teacher", teachers=[{"run": "teacher"}]))
    fails(script("distill.py", "--config", file), "this name is another run's; nothing was changed", "config.training")


def test_a_config_that_is_not_there(script: Script, tmp_path: Path) -> None:
    fails(script("train.py", "--config", tmp_path / "none.yaml"), f"error: {tmp_path / 'none.yaml'}: no such file")


def test_a_config_has_to_be_given(script: Script) -> None:
    fails(script("train.py"), "--config")


def test_the_method_has_a_config_of_its_own(script: Script, teacher: Path) -> None:
    """dskd_noaux.py without --config: its default needs data that is not prepared here."""
    fails(script("dskd_noaux.py"), "strict-small: no prepared data there")


@pytest.mark.slow
def test_dry_run_prints_config_and_plan_and_trains_nothing(
    script: Script, teacher: Path, runs_folder: Path, write_config: WriteConfig
) -> None:
    file = write_config(tiny.distill_values())
    for name in ("distill.py", "dskd_noaux.py"):
        code, output, _ = script(name, "--config", file, "training.lr=3e-3", "--dry-run", "name=dry")
        assert code == 0
        config = yaml.safe_load(output.split("\n\n")[0])
        set_to = config["name"], config["training"]["lr"], config["objective"]["logit"]["temperature"]
        assert set_to == ("dry", 3e-3, 2.0)
        plan = [r"dry: llama, [\d,]+ parameters .*", "  teacher teacher: .*", "  objectives: 768 .*", "  data tiny: .*"]
        assert re.search("\n".join([*plan, "  8 steps"]), output)
    assert [path.name for path in runs_folder.iterdir()] == ["teacher"]


def test_dry_run_of_a_baseline(script: Script, prepared: Path, runs_folder: Path, write_config: WriteConfig) -> None:
    code, output, _ = script("train.py", "--dry-run", "--config", write_config(tiny.train_values()))
    assert code == 0
    assert "baseline: llama" in output
    assert not list(runs_folder.iterdir())


def test_overrides_and_options_may_stand_in_any_order(script: Script, teacher: Path, write_config: WriteConfig) -> None:
    file = write_config(tiny.distill_values())
    code, output, _ = script("distill.py", "seed=3", "--config", file, "name=a", "--dry-run", "training.max_steps=5")
    assert code == 0
    assert "5 steps of 8 sequences" in output


@pytest.mark.parametrize("name", ["train.py", "distill.py", "dskd_noaux.py"])
def test_help_shows_how_to_call(script: Script, name: str) -> None:
    code, output, _ = script(name, "--help")
    assert code == 0
    assert f"python {name}" in output
    assert "key.path=value" in output


def palenka(call: Call, *arguments: Any) -> tuple[int, str, str]:
    return call(cli.main, [str(argument) for argument in arguments])


def test_wrong_input_to_the_commands(
    call: Call, tmp_path: Path, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALENKA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PALENKA_EVAL", str(tmp_path / "items"))
    (tmp_path / "empty").mkdir()
    prepare = ("prepare", "--name", "x", "--dev", tmp_path / "empty", "--train")
    fails(palenka(call, *prepare, tmp_path / "nowhere"), "nowhere: no such folder")
    fails(palenka(call, *prepare, tmp_path / "empty"), "empty: no files named <domain>.train")
    fails(palenka(call, "evaluate", "nobody"), "no run 'nobody'")
    fails(palenka(call, "evaluate", "owner/name-2"), "no run 'owner/name-2'", "Hub would be hf:owner/name-2")
    fails(palenka(call, "report", "nobody", "--out", tmp_path / "report.html"), "nobody")
    fails(palenka(call, "nonsense"), "nonsense")
    fails(palenka(call, "report", "nobody", "--convention=2025"), "--convention is called --protocol now")
    fails(palenka(call, "teacher-signal", "--config", "x.yaml"), "teacher-signal is called cache-logits now")
    fails(palenka(call), "COMMAND")
    assert not (tmp_path / "report.html").exists()


def test_words_and_options_of_a_command_may_stand_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list[Any]()
    monkeypatch.setattr(commands.find("finetune"), "run", lambda arguments: found.append(vars(arguments)))
    for words in ("a b=1 --tasks rte --seeds 1", "a --tasks rte b=1 --seeds 1", "--seeds 1 --tasks rte a b=1"):
        cli.main(["finetune", *words.split()])
    assert found[0]["words"] == ["a", "b=1"]
    assert found[1:] == [found[0]] * 2


@pytest.mark.usefixtures("processes")
def test_help_lists_every_command_and_imports_none() -> None:
    show = "import sys; from palenka import cli\ntry: cli.main(['--help'])\nfinally: print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", show], cwd=ROOT, capture_output=True, text=True).stdout
    assert output.endswith("False\n")
    for name in ("prepare", "demo-text", "evaluate", "report"):
        assert re.search(rf"^ +{name}\s+\w", output, re.MULTILINE)


@pytest.mark.parametrize("name", commands.available())
def test_each_command_says_what_it_takes(call: Call, name: str) -> None:
    code, output, _ = palenka(call, name, "--help")
    assert code == 0
    assert f"palenka {name}" in output


def test_a_keyboard_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    @cli.command
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        interrupted()
    assert end.value.code == 130
    assert "resumes from the last checkpoint" in capsys.readouterr().err


def test_each_of_several_processes_says_what_is_wrong_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @cli.command
    def wrong() -> None:
        raise UserError("wrong")

    for rank, expected in (("0", "error: wrong\n"), ("1", "error in process 1: wrong\n")):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as end:
            wrong()
        assert end.value.code == 2
        assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    "arguments",
    [
        (str(ROOT / "train.py"), "--config", "none.yaml"),
        (str(ROOT / "distill.py"), "--config", str(ROOT / "config/distillation/BabyLlama1-58M.yaml"), "paths.data=."),
    ],
    ids=["no such file", "no data"],
)
@pytest.mark.usefixtures("processes")
def test_a_real_process_from_another_folder(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    fails((done.returncode, done.stdout, done.stderr), "error: ")
    assert done.stdout == ""


@pytest.mark.usefixtures("processes")
def test_a_reader_who_has_seen_enough_gets_no_traceback() -> None:
    command = [sys.executable, "-m", "palenka", "download", "--list"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 141
    assert errors == ""
