"""Runs sent to a stand-in for the hub by the hub's own client, which meets faults on the way."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import tiny
import yaml
from hub_stand_in import CUT, StandInHub
from huggingface_hub import HfApi, ModelCard, constants
from huggingface_hub.errors import RevisionNotFoundError
from made_runs import made_result
from shared_fixtures import Call

from palenka.cli import main
from palenka.models.folder import weights_sha256
from palenka.runs.ledger import LEDGER, Ledger
from palenka.util.files import write_json

TOKEN = "hf_" + "a" * 34
TO = "somebody/tiny"
SENT = {
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md", "config.yaml", LEDGER,
}  # fmt: skip
SENT_WHERE_THERE = {"generation_config.json", "special_tokens_map.json", ".gitattributes"}
Push = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandInHub]:
    found = StandInHub(TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", found.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "nobody" / "token"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the client's attempts
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield found
    found.close()


def finish(folder: Path, **result: object) -> None:
    """Make a model folder a finished run, with its records."""
    name, sha = folder.name, weights_sha256(folder)
    config = {"name": name, "model": dict(tiny.LLAMA), "data": {"name": "tiny"}, "seed": 1}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_json(folder / LEDGER, asdict(Ledger({"a" * 64: {"name": "tiny/text", "words": 1234}})))
    write_json(folder / "result.json", made_result(name, False, 3.0, 16) | {"weights_sha256": sha} | result)


@pytest.fixture
def run(prepared: Path, runs_folder: Path) -> Path:
    """A finished run with two milestones."""
    folder = tiny.write_finished_run(runs_folder / "tiny", tiny.LLAMA, prepared / "tokenizer")
    finish(folder)
    for seed, name in enumerate(("chck_1M", "chck_10M"), start=5):
        milestone = tiny.write_finished_run(folder / "revisions" / name, tiny.LLAMA, prepared / "tokenizer", seed)
        finish(milestone)
        (milestone / "result.json").unlink()
    return folder


@pytest.fixture
def push(call: Call, hub: StandInHub, run: Path) -> Push:
    return lambda *more: call(main, ["push", run.name, "--to", TO, "--licence", "cc-by-nc-sa-4.0", *more])


def test_it_is_shown_what_would_be_sent_and_nothing_is(push: Push, hub: StandInHub, run: Path) -> None:
    code, shown, _ = push("--revisions")
    assert code == 0 and hub.repositories == {} and hub.asked("POST", "") == 0
    assert f"{TO}, which is not there yet and will be public" in shown and "--yes sends it" in shown
    size = f"{(run / 'model.safetensors').stat().st_size:,}"
    assert shown.count(size) >= 3 and all(f"{name} (new)" in shown for name in ("main", "chck_1M", "chck_10M"))
    sizes = [int(line.split()[-1].replace(",", "")) for line in shown.splitlines() if line.rstrip()[-1:].isdigit()]
    assert f"to be sent: {len(sizes)} files, {sum(sizes):,} bytes" in shown


def test_a_run_and_its_milestones_arrive(push: Push, hub: StandInHub, run: Path) -> None:
    code, shown, errors = push("--revisions", "--yes")
    assert code == 0, errors
    branches = hub.repositories[TO]
    assert set(branches) == {"main", "chck_1M", "chck_10M"}
    milestones = {path.name: path for path in (run / "revisions").iterdir()}
    for name, folder in {"main": run, **milestones}.items():
        assert SENT <= set(branches[name]) <= SENT | SENT_WHERE_THERE
        for path in SENT - {"README.md"}:
            assert branches[name][path] == (folder / path).read_bytes(), path
    card = ModelCard(branches["main"]["README.md"].decode())
    assert card.data.license == "cc-by-nc-sa-4.0" and card.data.eval_results
    assert f'from_pretrained("{TO}")' in card.text and "words of text: 1,234" in card.text and "`tiny`" in card.text
    milestone = ModelCard(branches["chck_1M"]["README.md"].decode())
    assert milestone.data.license == "cc-by-nc-sa-4.0" and not milestone.data.eval_results
    assert milestone.text.strip().startswith("# tiny, chck_1M")
    made = [path for method, path in hub.requests if method == "POST" and ("/branch/" in path or "/commit/" in path)]
    assert [path.split("/")[5] for path in made] == ["branch"] * 2 + ["commit"] * 3
    assert not (run / "README.md").exists()  # what is sent is made for the hub


def test_what_is_there_already_is_not_sent_again(push: Push, hub: StandInHub, run: Path) -> None:
    push("--revisions", "--yes")
    before, commits = hub.sent, hub.asked("POST", "/commit/")
    code, shown, _ = push("--revisions", "--yes")
    assert code == 0 and (hub.sent, hub.asked("POST", "/commit/")) == (before, commits)
    assert "to be sent: 0 files, 0 bytes" in shown
    (run / "revisions" / "chck_1M" / "config.yaml").write_text("name: other\n")
    code, shown, _ = push("--revisions", "--yes")
    assert "to be sent: 1 file, 12 bytes" in shown and hub.sent == before + 12
    assert hub.repositories[TO]["chck_1M"]["config.yaml"] == b"name: other\n"


@pytest.mark.parametrize(
    ("method", "part", "answers", "expected"),
    [
        ("POST", "/commit/chck_1M", [CUT], "no answer from the hub"),
        ("POST", "/commit/chck_1M", [500], "the hub cannot do it now (HTTP 500: made up 500)"),
        ("POST", "/commit/main", [409], "somebody else is changing the repository at this moment"),
        ("POST", "/branch/chck_1M", [403], "the token may not write there"),
        ("POST", "/preupload/chck_10M", [401], "log in with a token that may write"),
        ("PUT", "/large/", [500] * 20, "the hub cannot do it now"),
        ("PUT", "/large/", [CUT] * 20, "no answer from the hub"),
        ("POST", "/api/repos/create", [404], "no such place for this token"),
    ],
)
def test_a_push_that_failed_is_resumed(
    push: Push, hub: StandInHub, method: str, part: str, answers: list[int], expected: str
) -> None:
    whole = push("--revisions", "--yes")[1]
    sent, goal = hub.sent, json.dumps({name: sorted(files) for name, files in hub.repositories[TO].items()})
    hub.repositories.clear()
    hub.large.clear()
    hub.sent = 0
    hub.fault(method, part, *answers)
    code, shown, error = push("--revisions", "--yes")
    assert code == 2 and expected in error and "the same command sends the rest" in error
    assert len(error.partition(f"error: {TO}: ")[2].splitlines()) == 1 and TOKEN not in error + shown
    hub.faults.clear()
    code, _, error = push("--revisions", "--yes")
    assert code == 0, error
    assert json.dumps({name: sorted(files) for name, files in hub.repositories[TO].items()}) == goal
    assert hub.sent == sent and whole  # nothing came twice


def test_the_client_makes_no_branches(push: Push, hub: StandInHub, run: Path) -> None:
    """So we do: this would go to a branch that is not there."""
    push("--yes")
    with pytest.raises(RevisionNotFoundError):
        HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=TO, revision="chck_1M")
    assert hub.asked("POST", "/branch/") == 0 and set(hub.repositories[TO]) == {"main"}


def test_a_short_fault_is_passed_over(push: Push, hub: StandInHub) -> None:
    hub.fault("PUT", "/large/", 503, CUT)
    code, _, error = push("--yes")
    assert code == 0, error


def test_without_a_token(push: Push, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    code, _, error = push("--yes")
    assert code == 2 and "log in with a token that may write: export HF_TOKEN=" in error and not hub.repositories


def test_without_a_network(push: Push, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.close()
    code, _, error = push("--yes")
    assert code == 2 and "no answer from the hub" in error
    code, _, error = push()
    assert code == 2 and "Nothing was sent; what would be depends on what is there" in error
    assert "sends the rest" not in error
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, _, error = push("--yes")
    assert code == 2 and "OfflineModeIsEnabled" in error


def test_what_is_refused_before_the_hub_is_asked(push: Push, hub: StandInHub, run: Path, call: Call) -> None:
    for more, expected in ((["--with-code"], "leave --with-code out"), ([], None)):
        code, _, error = push(*more)
        assert (code, bool(hub.requests)) == ((2, False) if expected else (0, True)) and (expected or "") in error
    hub.requests.clear()
    weights = run / "revisions" / "chck_1M" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert push("--revisions")[0] == 2
    for milestone in (run / "revisions").iterdir():
        milestone.rename(run.parent / milestone.name)
    assert "there are no milestones" in push("--revisions")[2]
    (run / "result.json").unlink()
    assert "not a finished run" in push()[2] and not hub.requests


def test_an_architecture_of_our_own_brings_its_code(
    prepared: Path, runs_folder: Path, hub: StandInHub, call: Call
) -> None:
    keys = {"architecture": "ltg_bert", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2}  # fmt: skip
    folder = tiny.write_finished_run(runs_folder / "own", keys, prepared / "tokenizer")
    finish(folder, architecture="ltg_bert", paradigms=["masked"])
    arguments = ["push", "own", "--to", TO, "--licence", "other", "--yes"]
    assert "add --with-code" in call(main, arguments)[2]
    code, _, error = call(main, [*arguments, "--with-code"])
    assert code == 0, error
    files = hub.repositories[TO]["main"]
    assert "auto_map" in json.loads(files["config.json"]) and b"class LtgBert" in files["ltg_bert.py"]
    card = files["README.md"].decode()
    assert "trust_remote_code=True" in card and "make_known" not in card
