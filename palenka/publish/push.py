"""A run as a repository of the Hugging Face Hub: the model on `main`, each milestone on a branch of its name.

What is on a branch already, with the same content, is not sent again: so a push that was cut off is resumed by the same
command. A branch gets its files in one commit, whole or not at all. Files of other names stay on the branch.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from palenka.models.standalone import check_export, export_folder, files_of_model
from palenka.report.model_card import milestone_card, model_card
from palenka.runs.directory import find_run
from palenka.runs.milestones import milestones_of
from palenka.util.errors import UserError
from palenka.util.files import sha256
from palenka.util.system_errors import KINDS
from palenka.util.tables import text_table
from palenka.util.text import count

MAIN = "main"
ADVICE = {
    401: "log in with a token that may write: export HF_TOKEN=…, or hf auth login",
    403: "the token may not write there: make one that may, or name a repository of yours",
    404: "no such place for this token: is the owner's name right, and may it create repositories there?",
    409: "somebody else is changing the repository at this moment",
}

Content = Path | bytes


@dataclass(frozen=True)
class Branch:
    """What one branch is to hold, and what of it is not there yet."""

    name: str
    files: Mapping[str, Content]
    missing: Sequence[str]
    exists: bool


def push(run: str, repository: str, licence: str, revisions: bool = False, with_code: bool = False,
         sends: bool = False) -> None:  # fmt: skip
    """Show what a push would send, and send it if told to.

    Args:
        run: a finished run's name or folder.
        repository: OWNER/NAME.
        licence: of the weights, as the hub abbreviates it.
        revisions: whether to send the milestones, too.
        with_code: see `palenka.models.standalone.export_folder`.
        sends: whether to send.

    Raises:
        UserError: there is no such run, it is not finished, a folder is not whole, or the hub refuses.
    """
    folder = find_run(run)
    if not (folder / "result.json").exists():
        raise UserError(f"{folder}: not a finished run; there is nothing to publish")
    folders = {MAIN: folder} | (_milestones(folder) if revisions else {})
    for each in folders.values():
        check_export(each, with_code)
    api = HfApi()
    card = model_card(folder, licence, repository, with_code)
    with TemporaryDirectory(prefix="palenka-push-") as scratch:
        contents = {
            name: _contents(each, card if name == MAIN else milestone_card(card, name), with_code, Path(scratch, name))
            for name, each in folders.items()
        }
        with clear_refusals(repository, sends):
            is_new = not _is_there(api, repository)
            branches = [_compare(api, repository, name, files, is_new) for name, files in contents.items()]
        print(_shown(repository, branches, is_new))
        if not sends:
            print("\nnothing was sent; --yes sends it")
            return
        with clear_refusals(repository, sends):
            _send(api, repository, branches)


def _milestones(folder: Path) -> dict[str, Path]:
    found = milestones_of(folder, [])
    if not found:
        raise UserError(f"{folder / 'revisions'}: there are no milestones; train with evaluation: in the config")
    return {milestone.name: milestone.folder for milestone in found}


def _contents(folder: Path, card: str, with_code: bool, scratch: Path) -> dict[str, Content]:
    code: list[Path] = []
    if with_code:
        export_folder(folder, scratch, with_code)
        folder, code = scratch, list(scratch.glob("*.py"))
    return {path.name: path for path in (*files_of_model(folder), *code)} | {"README.md": card.encode()}


def _is_there(api: HfApi, repository: str) -> bool:
    try:
        api.model_info(repository)
    except RepositoryNotFoundError as error:
        if error.response.status_code == 404:
            return False
        raise
    return True


def _compare(api: HfApi, repository: str, name: str, files: Mapping[str, Content], is_new: bool) -> Branch:
    try:
        there = [] if is_new else list(api.list_repo_tree(repository, revision=name))
    except RevisionNotFoundError:
        return Branch(name, files, list(files), exists=False)
    known = {entry.path: entry for entry in there if isinstance(entry, RepoFile)}
    missing = [path for path, content in files.items() if path not in known or not _is_equal(known[path], content)]
    return Branch(name, files, missing, exists=not is_new)


def _is_equal(there: RepoFile, content: Content) -> bool:
    if there.lfs:
        return isinstance(content, Path) and there.lfs.sha256 == sha256(content)
    data = content.read_bytes() if isinstance(content, Path) else content
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _size(content: Content) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _shown(repository: str, branches: Sequence[Branch], is_new: bool) -> str:
    rows = [["branch", "file", "bytes", ""]]
    for branch in branches:
        names = itertools.chain([branch.name if branch.exists else f"{branch.name} (new)"], itertools.repeat(""))
        for name, (path, content) in zip(names, branch.files.items(), strict=False):
            rows.append([name, path, f"{_size(content):,}", "" if path in branch.missing else "there already"])
    sent = [branch.files[path] for branch in branches for path in branch.missing]
    head = f"{repository}{', which is not there yet and will be public' if is_new else ''}"
    return f"{head}\n\n{text_table(rows)}\n\nto be sent: {count(len(sent), 'file')}, {sum(map(_size, sent)):,} bytes"


def _send(api: HfApi, repository: str, branches: Sequence[Branch]) -> None:
    api.create_repo(repository, exist_ok=True)
    for branch in branches:  # before any commit: those that are made now start from an empty main
        if not branch.exists and branch.name != MAIN:
            api.create_branch(repository, branch=branch.name, exist_ok=True)
    for branch in branches:
        if branch.missing:
            added = [CommitOperationAdd(path, branch.files[path]) for path in branch.missing]
            api.create_commit(repository, added, commit_message=f"Add {branch.name}", revision=branch.name)
        print(f"{branch.name}: {count(len(branch.missing), 'file')} sent", flush=True)


@contextmanager
def clear_refusals(repository: str, sends: bool) -> Iterator[None]:
    """The hub's answers as one line, with what helps.

    Its client raises what its network library of the day does, and wraps what meets an upload.
    """
    again = (
        "What was sent stays; the same command sends the rest"
        if sends
        else "Nothing was sent; what would be depends on what is there"
    )
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in KINDS:  # of this machine: a full disk, say
            raise
        answer = error if isinstance(error, HfHubHTTPError) else error.__cause__
        if not isinstance(answer, HfHubHTTPError):
            why = " ".join(str(answer or error).split())
            raise UserError(f"{repository}: no answer from the hub ({type(error).__name__}: {why}). {again}") from None
        code = answer.response.status_code
        advice = ADVICE.get(code, "the hub cannot do it now" if code >= 500 else "the hub does not take it")
        said = answer.server_message or answer.response.reason_phrase
        raise UserError(f"{repository}: {advice} (HTTP {code}: {said}). {again}") from None
