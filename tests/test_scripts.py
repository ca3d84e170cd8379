"""Scripts, README and documentation name what exists, and run wherever they are called from."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from palenka.cli import main
from palenka.paths import ROOT

SHELL = [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"]
JOBS = [path for path in SHELL if path.suffix == ".slurm"]
SOURCED = [ROOT / "scripts" / "preamble.sh"]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROSE_AND_CODE = [*SHELL, *TEXTS, ROOT / "Makefile", *sorted((ROOT / "config").rglob("*.yaml"))]

FOLDERS = "config|scripts|palenka|docs|tests|benchmarks|results|distillation_type_experiments"
FILES = r"[a-z]\w*\.py|[a-z]+\.txt|[A-Z]+\.md|CITATION\.cff"
NAMED_PATH = re.compile(rf"(?<![\w./<-])(?:(?:{FOLDERS})/[\w./-]*\w/?|{FILES})(?![\w*<-])")
# The README's example of a method.
INVENTED = {"palenka/objectives/total_variation.py", "config/demo/student-variation.yaml"}
SOMEBODYS_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|scratch|work|mnt|data|Users|net)/")
MAKE_COMMAND = re.compile(r"^(?:\$ )?make((?: [a-z]+)+)|`make ([a-z]+)", re.MULTILINE)
SUBCOMMAND = re.compile(r"python -m palenka ([a-z-]+)([^\n`]*(?:\\\n[^\n`]*)*)")
SITE_DIRECTIVES = ("partition", "account", "gres", "gpus", "mail", "qos", "constraint")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SHELL, ids=name)
def test_bash_can_read_it(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("path", SHELL, ids=name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", "--external-sources", name(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [path for path in SHELL if path not in SOURCED], ids=name)
def test_it_is_executable(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("#!")
    assert path.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("path", PROSE_AND_CODE, ids=name)
def test_it_names_no_folder_of_one_machine(path: Path) -> None:
    assert not SOMEBODYS_PATH.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [path for path in (*SHELL, *TEXTS) if path.name != "replication.md"], ids=name)
def test_every_path_that_it_names_exists(path: Path) -> None:
    """But for the replication notes, whose paths are those of the published repository."""
    named = set(NAMED_PATH.findall(path.read_text(encoding="utf-8"))) - INVENTED
    absent = [each for each in sorted(named) if not (ROOT / each).exists() and not (path.parent / each).exists()]
    assert not absent


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_every_make_target_that_it_names_exists(path: Path) -> None:
    found = MAKE_COMMAND.findall(path.read_text(encoding="utf-8"))
    named = {target for groups in found for group in groups for target in group.split()}
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert named <= set(targets)


def commands() -> list[tuple[str, str, str]]:
    """(file, subcommand, its options as one string) of every `python -m palenka …` in scripts and texts."""
    return [
        (name(path), subcommand, " ".join(sorted(set(re.findall(r"(?<!\S)--[a-z-]+", rest)))))
        for path in [*SHELL, *TEXTS]
        for subcommand, rest in SUBCOMMAND.findall(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("file", "subcommand", "options"), sorted(set(commands())))
def test_every_command_that_it_names_exists(
    file: str, subcommand: str, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([subcommand, "--help"])
    assert ended.value.code == 0
    assert set(options.split()) <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


@pytest.mark.parametrize("path", JOBS, ids=name)
def test_a_job_says_everything_to_slurm_first_and_nothing_of_a_site(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    directives = [index for index, line in enumerate(lines) if line.startswith("#SBATCH")]
    first_command = next(index for index, line in enumerate(lines) if line and not line.startswith("#"))
    assert directives and max(directives) < first_command, "SLURM reads no #SBATCH after the first command"
    assert not [lines[index] for index in directives if any(word in lines[index] for word in SITE_DIRECTIVES)]


@pytest.mark.parametrize("path", JOBS, ids=name)
def test_a_job_outside_slurm_says_how_to_submit_it(path: Path, tmp_path: Path) -> None:
    outside = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    done = subprocess.run(["bash", str(path)], cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"sbatch scripts/{path.name}" in done.stderr


def test_the_demo_without_an_installation_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "demo.sh", tmp_path / "scripts")
    done = subprocess.run(["bash", str(tmp_path / "scripts" / "demo.sh")], cwd="/", capture_output=True, text=True)
    assert done.returncode == 1
    assert "make setup" in done.stderr
