"""Scripts, README and documentation name what exists, and run wherever they are called from."""

import os
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from palenka.cli import main
from palenka.util.config import compose
from palenka.util.paths import ROOT

SHELL = [*sorted(path for path in (ROOT / "scripts").iterdir() if path.name != "cluster.env"), ROOT / ".ci" / "run"]
JOBS = [path for path in SHELL if path.suffix == ".slurm"]
SOURCED = [ROOT / "scripts" / name for name in ("preamble.sh", "job.sh", "cluster.example.env")]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROSE_AND_CODE = [*SHELL, *TEXTS, ROOT / "Makefile", *sorted((ROOT / "config").rglob("*.yaml"))]

FOLDERS = "config|scripts|palenka|docs|tests|benchmarks|results|distillation_type_experiments"
FILES = r"[a-z]\w*\.py|[a-z]+\.txt|[A-Z]+\.md|CITATION\.cff"
NAMED_PATH = re.compile(rf"(?<![\w./<-])(?:(?:{FOLDERS})/[\w./-]*\w/?|{FILES})(?![\w*<-])")
# The examples of the README and of the pages of doors, a file of the user's own, and files of the official pipelines.
INVENTED = {
    "palenka/objectives/total_variation.py", "config/demo/student-variation.yaml", "scripts/cluster.env", "previous.py",
    "palenka/optimizers/signum.py", "palenka/models/architectures/mixer.py", "word_order.py", "sentences.txt",
    "collate_preds.py", "compute_results.py", "scripts/eval_aoa.sh", "scripts/eval_finetuning.sh",
    "scripts/eval_zero_shot.sh",
}  # fmt: skip
SOMEBODYS_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|scratch|work|mnt|data|Users|net)/")
MAKE_COMMAND = re.compile(r"^(?:\$ )?make((?: [a-z]+)+)|`make ([a-z]+)", re.MULTILINE)
SUBCOMMAND = re.compile(r"(?<![\w./])palenka ([a-z-]+)([^\n`]*(?:\\\n[^\n`]*)*)")
SITE_DIRECTIVES = ("partition", "account", "gres", "gpus", "mail", "qos", "constraint")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SHELL, ids=name)
@pytest.mark.usefixtures("processes")
def test_bash_can_read_it(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("path", SHELL, ids=name)
@pytest.mark.usefixtures("processes")
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
    """(file, subcommand, its options as one string) of every `palenka …` in scripts and texts."""
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


def test_a_job_is_its_directives_and_one_call() -> None:
    calls = set()
    for path in JOBS:
        lines = path.read_text(encoding="utf-8").splitlines()
        *_, call = (line for line in lines if not line.startswith("#"))
        assert f'/job.sh" {path.stem} "$@"' in call
        commands = [line for line in lines if line and not line.startswith("#")]
        calls.add("\n".join(commands).replace(f" {path.stem} ", " JOB "))
    assert len(calls) == 1


@pytest.mark.parametrize("path", JOBS, ids=name)
def test_what_leaves_checkpoints_is_told_of_its_time_limit(path: Path) -> None:
    trains = path.stem in ("grid", "search") or path.stem.startswith(("train", "distill"))
    assert trains == ("#SBATCH --signal=B:USR1@120\n" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [path for path in JOBS if "baselines" in path.name], ids=name)
def test_an_array_has_a_task_for_each_baseline(path: Path) -> None:
    last = len(list((ROOT / "config" / "baseline").glob("*.yaml"))) - 1
    assert f"#SBATCH --array=0-{last}\n" in path.read_text(encoding="utf-8")


@pytest.mark.usefixtures("processes")
def test_the_file_of_a_cluster_is_read_and_what_the_shell_exports_comes_before_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("cluster.env"))
    site = "export SBATCH_PARTITION=file SBATCH_ACCOUNT=file PALENKA_RUNS=/file\n"
    site += "PATH=$PATH:/nowhere\necho $UNSET_IN_A_MODULE\n"
    (tmp_path / "scripts" / "cluster.env").write_text(site)
    shown = 'source scripts/preamble.sh; echo "$SBATCH_PARTITION $SBATCH_ACCOUNT $PALENKA_RUNS ${PATH##*:} $OPTION"'
    environment = {"PATH": os.environ["PATH"], "SBATCH_ACCOUNT": "shell", "PALENKA_RUNS": "/shell", "OPTION": "-"}
    done = subprocess.run(["bash", "-c", shown], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "file shell /shell /nowhere -"
    assert "make setup" in done.stderr


@pytest.fixture
def repository(tmp_path: Path, processes: None) -> Path:
    """The scripts, and a Python that only says what it is to do."""
    folder = tmp_path / "a repository"
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("cluster.env"))
    write_program(folder / ".venv" / "bin" / "python", 'echo "python $*"')
    return folder


def as_job(repository: Path, **variables: str) -> dict[str, str]:
    """The environment of a job on one node, without a SLURM."""
    slurm = {"JOB_ID": "5", "JOB_NAME": "x", "JOB_NUM_NODES": "1", "CPUS_ON_NODE": "1"} | variables
    settings = {f"SLURM_{key}": value for key, value in slurm.items()}
    return {"PATH": os.environ["PATH"], "PALENKA_ROOT": str(repository), **settings}


@pytest.mark.parametrize(
    ("task", "arguments", "expected"),
    [
        ("", "a.yaml seed=3", "python train.py --config a.yaml seed=3"),
        ("1", "a.yaml b.yaml seed=3 training.lr=1", "python train.py --config b.yaml seed=3 training.lr=1"),
        ("2", "a.yaml b.yaml seed=3", "task 2 has no CONFIG: 2 were given, the first is for task 0"),
        ("0", "seed=3", "no CONFIG was given: sbatch scripts/train.slurm CONFIG [key.path=value …]"),
    ],
)
def test_each_task_of_an_array_gets_a_config_and_all_overrides(
    repository: Path, task: str, arguments: str, expected: str
) -> None:
    command = ["bash", repository / "scripts" / "train.slurm", *arguments.split()]
    environment = as_job(repository, ARRAY_TASK_ID=task)
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].replace(f"{repository}/", "") == expected
    assert done.returncode == (0 if expected.startswith("python") else 2)


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ("grid", ["grid --config {grid} --part 1/8 seed=3"]),
        (
            "train_gridsearch_finalist",
            ["grid --config {grid} --select seed=3", "grid --config {grid} --finalist 1 seed=3"],
        ),
    ],
)
@pytest.mark.parametrize("given", [["mine.yaml"], []], ids=["of a config", "of the study's grid"])
def test_the_jobs_of_a_grid_pass_on_what_is_overridden(
    repository: Path, job: str, expected: list[str], given: list[str]
) -> None:
    command = ["bash", repository / "scripts" / f"{job}.slurm", *given, "seed=3"]
    environment = as_job(repository, ARRAY_TASK_ID="1", ARRAY_TASK_COUNT="8")
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    grid = given[0] if given else f"{repository}/config/grid/PalenkaLlama1-58M.yaml"
    assert [line for line in done.stdout.splitlines() if line.startswith("python")] == [
        f"python -m palenka {arguments.format(grid=grid)}" for arguments in expected
    ]


def test_baselines_are_not_given_a_config(repository: Path) -> None:
    (repository / "config" / "baseline").mkdir(parents=True)
    (repository / "config" / "baseline" / "a.yaml").write_text("name: baseline/a\n")
    command = ["bash", repository / "scripts" / "train_baselines.slurm", "mine.yaml"]
    environment = as_job(repository, ARRAY_TASK_ID="0")
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.splitlines()[-1].endswith("your own config: sbatch scripts/train.slurm mine.yaml")


@pytest.mark.parametrize("path", [path for path in JOBS if "baselines" in path.name], ids=name)
def test_a_task_beyond_the_baselines_says_how_many_there_are(repository: Path, path: Path) -> None:
    (repository / "config" / "baseline").mkdir(parents=True)
    for config in ("a", "b"):
        (repository / "config" / "baseline" / f"{config}.yaml").write_text(f"name: baseline/{config}\n")
    command = ["bash", repository / "scripts" / path.name]
    environment = as_job(repository, ARRAY_TASK_ID="2")
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "task 2 has no baseline: config/baseline/ has 2, the first is for task 0"
    assert not done.stderr


@pytest.mark.usefixtures("processes")
def test_a_job_whose_repository_is_gone_says_so(tmp_path: Path) -> None:
    command = ["bash", ROOT / "scripts" / "train.slurm", "a.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=as_job(tmp_path / "gone"), capture_output=True)
    assert done.returncode == 1
    assert "gone/scripts/job.sh" in (tmp_path / "slurm-5.out").read_text()


def write_program(path: Path, lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{lines}\n")
    path.chmod(0o755)


def signalled(repository: Path, tmp_path: Path, grace: int, first: str) -> tuple[list[str], int]:
    """What a job says that is sent USR1 once a line begins so, and its exit code; squeue and scontrol are in bin/."""
    preamble = repository / "scripts" / "preamble.sh"
    preamble.write_text(preamble.read_text().replace("GRACE=110", f"GRACE={grace}"))
    environment = as_job(repository)
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    command = ["bash", repository / "scripts" / "train.slurm", "a.yaml"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(first):
            pass
        process.send_signal(signal.SIGUSR1)
        shown = process.stdout.read()
    return shown.splitlines(), process.returncode


def test_a_training_that_takes_too_long_over_its_checkpoint_is_killed_and_its_job_requeued(
    repository: Path, tmp_path: Path
) -> None:
    """A job that reaches its time limit would not go back to the queue."""
    program = 'trap "echo signalled" USR1\necho ready\nwhile true; do sleep 0.1; done'
    write_program(repository / ".venv/bin/python", program)
    write_program(tmp_path / "bin/squeue", 'touch "$0.asked.$$"; [ "$(ls "$0".* | wc -l)" = 1 ] || echo RUNNING')
    write_program(tmp_path / "bin/scontrol", 'echo "$@"; exit 1')
    shown, code = signalled(repository, tmp_path, grace=1, first="ready\n")
    assert shown == ["signalled", "interrupted: back to the queue", "requeue 5"]
    assert code == 137


def test_a_signal_that_comes_as_the_training_starts_reaches_it(repository: Path, tmp_path: Path) -> None:
    """It is passed on as soon as there is a process, which for a moment is still the shell, and forgets it."""
    write_program(repository / ".venv/bin/python", "sleep 5 & wait")
    write_program(tmp_path / "bin/squeue", "echo CANCELLED")
    _, code = signalled(repository, tmp_path, grace=2, first="devices")
    assert code == 128 + signal.SIGUSR1


def test_ctrl_c_reaches_a_training_that_no_job_has(repository: Path) -> None:
    """Bash has what it starts in the background ignore it."""
    program = '[ "$1" = -c ] && exec echo 0\ntrap "echo interrupted; exit" INT\necho ready\nsleep 60 & wait'
    write_program(repository / ".venv/bin/python", program)
    command = ["bash", "-c", "source scripts/preamble.sh; run train.py"]
    handles = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "start_new_session": True}
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True, **handles) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            pass
        os.killpg(process.pid, signal.SIGINT)
        assert "interrupted" in process.stdout.read()


def test_git_ignores_the_file_of_a_cluster_and_the_logs() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/scripts/cluster.env", "/logs/"} <= set(ignored)


@pytest.mark.parametrize(
    ("script", "student"),
    [
        ("distill-BabyLlama1-58M-strict.sh", "distill.py BabyLlama1-58M"),
        ("distill-DistilledGPT-44M-strict.sh", "distill.py DistilledGPT-44M"),
        ("dkds_noaux-PalenkaLlama1-58M-strict.sh", "dskd_noaux.py PalenkaLlama1-58M"),
    ],
)
def test_a_wrapper_trains_the_teachers_first_from_any_folder(
    repository: Path, tmp_path: Path, script: str, student: str
) -> None:
    """A stand-in for Python notes what it is to run; a teacher that fails is not taught from."""
    note = '[ "$1" = -c ] && { echo 0; exit; }\necho "$(basename "$1") $(basename "$3" .yaml) $4" >> "$NOTES"\n'
    write_program(repository / ".venv" / "bin" / "python", f'{note}[ "$FAILING" != "$(basename "$3" .yaml)" ]')
    program, run = student.split()
    teachers = [teacher["run"] for teacher in compose(ROOT / "config" / "distillation" / f"{run}.yaml")["teachers"]]

    def called(failing: str) -> list[str]:
        (tmp_path / "notes").unlink(missing_ok=True)
        environment = {"PATH": os.environ["PATH"], "NOTES": str(tmp_path / "notes"), "FAILING": failing}
        command = ["bash", repository / "scripts" / script, "seed=3"]
        subprocess.run(command, cwd="/", env=environment, capture_output=True)
        return [line.strip() for line in (tmp_path / "notes").read_text().splitlines()]

    trained = [f"train.py {teacher}" for teacher in teachers]
    assert called("none") == [*trained, f"{program} {run} seed=3"]
    assert called(teachers[1]) == trained


@pytest.mark.parametrize("path", JOBS, ids=name)
@pytest.mark.usefixtures("processes")
def test_a_job_outside_slurm_says_how_to_submit_it(path: Path, tmp_path: Path) -> None:
    outside = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    done = subprocess.run(["bash", str(path)], cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 1
    assert "submit this file with sbatch" in done.stderr


@pytest.mark.usefixtures("processes")
def test_the_demo_without_an_installation_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "demo.sh", tmp_path / "scripts")
    done = subprocess.run(["bash", str(tmp_path / "scripts" / "demo.sh")], cwd="/", capture_output=True, text=True)
    assert done.returncode == 1
    assert "make setup" in done.stderr
