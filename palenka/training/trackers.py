"""wandb, trackio and TensorBoard beside `metrics.jsonl`, where a config asks for them; none is required.

A tracker is sent each record as it is written, and at a resume all records that were kept: `metrics.jsonl` is the
truth, and a process that is killed loses what its tracker has not flushed. accelerate's trackers are not used: they
give no control of the step axis or of what happens without a network.

    tracking: {wandb: {group: study, mode: offline}, trackio: true, tensorboard: true}
"""

import contextlib
import contextvars
import io
import netrc
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from palenka.util.files import read_json, write_json
from palenka.util.section import Section

if TYPE_CHECKING:
    import trackio
    import wandb

PROJECT = "palenka"
CONNECT_SECONDS = 60.0
UPLOAD_SECONDS = 300.0  # at the end of a run, before what is left must be sent with `wandb sync`
POSITION = ("step", "epoch", "tokens", "words")
NAMES = ("split", "domains", "revision", "reason")


class WandbConfig(Section):
    """Where a run appears in wandb. `group` is by default the part of the run's name before its last '/'."""

    project: str = Field(default=PROJECT, description="of wandb")
    entity: str | None = Field(default=None, description="user or team; wandb's own unless given")
    group: str | None = Field(default=None, description="the run's name before its last '/' unless given")
    tags: tuple[str, ...] = Field(default=(), description="labels of the run")
    mode: Literal["online", "offline"] | None = Field(default=None, description="WANDB_MODE, else online, unless given")

    @property
    def resolved_mode(self) -> str:
        """`mode`, else what WANDB_MODE says, else online. Whatever disables wandb overrides all of them."""
        from_environment = os.environ.get("WANDB_MODE") or "online"
        if from_environment == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on"):
            return "disabled"
        return self.mode or from_environment


def _from_switch(value: Any) -> Any:
    """`true` is all defaults, `false` is nothing."""
    if isinstance(value, bool):
        return {} if value else None
    return value


class TrackingConfig(Section):
    """Trackers of a run's records; not part of the run's identity."""

    wandb: Annotated[WandbConfig | None, BeforeValidator(_from_switch)] = Field(
        default=None, description="true, or how the run appears there"
    )
    trackio: bool = Field(default=False, description="log to its database on this machine (TRACKIO_DIR)")
    tensorboard: bool = Field(default=False, description="write its files beside the run's")

    @property
    def active_wandb(self) -> WandbConfig | None:
        return self.wandb if self.wandb and self.wandb.resolved_mode != "disabled" else None


@dataclass(frozen=True)
class TrackedRun:
    """What trackers show of a run beside its records."""

    name: str
    folder: Path
    method: str
    config: dict[str, Any]


class Tracker(Protocol):
    """One place that records go to. It lacks the records from `first_step` on."""

    first_step: int

    def log(self, record: dict[str, Any]) -> None:
        """Take one record of metrics.jsonl."""

    def finish(self, result: dict[str, Any] | None) -> None:
        """Take result.json, or None of an interrupted run, and close."""


# Checks, before any long work


def tracking_problems(config: TrackingConfig) -> Iterator[str]:
    """What a config's trackers need that is missing on this machine."""
    if config.tensorboard:
        yield from _import_problems("tracking.tensorboard", "tensorboard", _import_tensorboard)
    if config.trackio:
        yield from _import_problems("tracking.trackio", "trackio", _import_trackio)
    if config.active_wandb:
        missing = list(_import_problems("tracking.wandb", "wandb", _import_wandb))
        yield from missing or _wandb_problems(config.active_wandb.resolved_mode)


def _import_problems(key: str, package: str, load: Callable[[], Any]) -> Iterator[str]:
    try:
        load()
    except ImportError as error:
        yield f"{key}: the package {package} cannot be imported ({error}); pip install {package}, or remove this key"


def _import_wandb() -> Any:
    # A folder of runs named wandb/ can be imported too, as an empty package; it has no init.
    from wandb import init

    return init


def _import_trackio() -> Any:
    from trackio import init

    return init


def _import_tensorboard() -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter


def _wandb_problems(mode: str) -> Iterator[str]:
    if mode not in ("online", "offline"):
        yield f"tracking.wandb: WANDB_MODE is {mode!r}; expected online, offline or disabled"
    if mode == "online" and not _has_wandb_key():
        yield (
            "tracking.wandb: there is no API key for online logging; set WANDB_API_KEY, log in with `wandb login` "
            "(WANDB_BASE_URL names a server of your own), or set tracking.wandb.mode=offline"
        )


def _has_wandb_key() -> bool:
    """Whether wandb will find a key without asking for one; wandb's own test needs the network."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import wandb

    host = urlsplit(os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url).netloc
    files = [Path(os.environ["NETRC"])] if os.environ.get("NETRC") else [Path("~/.netrc"), Path("~/_netrc")]
    return any({host, "api.wandb.ai"} & _netrc_hosts(path.expanduser()) for path in files)


def _netrc_hosts(path: Path) -> set[str]:
    try:
        return set(netrc.netrc(path).hosts)
    except (OSError, netrc.NetrcParseError):
        return set()


# Trackers


class Trackers:
    """Those of one run. A failing tracker (a dead service, a full disk) never ends a training."""

    def __init__(self) -> None:
        self.active: dict[str, Tracker] = {}

    def start(self, config: TrackingConfig, run: TrackedRun, records: list[dict[str, Any]]) -> None:
        """Open what the config asks for, in the main process alone, and tell it the `records` that were kept."""
        if config.tensorboard:
            self._guard("tensorboard", self._add, "tensorboard", lambda: TensorBoardTracker(run.folder), records)
        if config.trackio:
            self._guard("trackio", self._add, "trackio", lambda: TrackioTracker(run), records)
        settings = config.active_wandb
        if settings:
            self._guard("wandb", self._add, "wandb", lambda: WandbTracker(settings, run), records)

    def _add(self, name: str, opened: Callable[[], Tracker], records: list[dict[str, Any]]) -> None:
        tracker = self.active[name] = opened()
        for record in records:
            if record["step"] >= tracker.first_step:
                tracker.log(record)

    def log(self, record: dict[str, Any]) -> None:
        for name, tracker in list(self.active.items()):
            self._guard(name, tracker.log, record)

    def finish(self, result: dict[str, Any] | None) -> None:
        for name, tracker in list(self.active.items()):
            self._guard(name, tracker.finish, result)
        self.active.clear()

    def _guard(self, name: str, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except Exception as error:
            self.active.pop(name, None)
            _say(f"{name} failed and is switched off; metrics.jsonl holds everything ({_brief(error)})")


class TensorBoardTracker:
    """Events in `<run>/tensorboard/`. Those of an earlier process are purged by readers, and written again."""

    first_step = 0

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=0)

    def log(self, record: dict[str, Any]) -> None:
        for key, value in scalars(record).items():
            self.writer.add_scalar(key, value, record["step"])

    def finish(self, result: dict[str, Any] | None) -> None:
        self.writer.close()


class TrackioTracker:
    """A run in trackio's database, by its id in `<run>/tracking.json`; a resume writes it anew, each step once."""

    first_step = 0

    def __init__(self, run: TrackedRun) -> None:
        with _quiet():
            _remove_from_trackio(_known_ids(run.folder).get("trackio_id"))
            self.run = _open_trackio(run)
        _keep_id(run.folder, "trackio_id", self.run.id)

    def log(self, record: dict[str, Any]) -> None:
        self.run.log({key: record[key] for key in POSITION[1:]} | scalars(record), step=record["step"])

    def finish(self, result: dict[str, Any] | None) -> None:
        with _quiet():
            self.run.finish()


def _open_trackio(run: TrackedRun) -> "trackio.Run":
    import trackio

    # It ends the run that its context holds; several may be trained in one process.
    return contextvars.copy_context().run(
        trackio.init, project=PROJECT, name=run.name, group=_group(run), config=run.config, embed=False,
        auto_log_gpu=False, auto_log_cpu=False,
    )  # fmt: skip


def _remove_from_trackio(identifier: str | None) -> None:
    import trackio

    if identifier is None:
        return
    with contextlib.suppress(ValueError):  # the database is another one, without this project
        for known in list(trackio.Api().runs(PROJECT)):
            if known.id == identifier:
                known.delete()


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """trackio prints how to look at it, for each run."""
    return contextlib.redirect_stdout(io.StringIO())


class WandbTracker:
    """A wandb run, its files in `<run>/wandb/`. Its id is drawn once and kept in `<run>/tracking.json`."""

    def __init__(self, config: WandbConfig, run: TrackedRun) -> None:
        self.run = _open_wandb(config, run)
        # The optimizer step is a metric, and the x axis of the others: wandb's own step cannot go back, as a resume
        # does, and its rewinding needs the server.
        self.run.define_metric("step")
        for split in ("train", "dev", "evaluation"):
            self.run.define_metric(f"{split}/*", step_metric="step")
        # A server that knows the run says how far; an offline file always holds the whole run.
        self.first_step = self.run.summary.get("step") or 0

    def log(self, record: dict[str, Any]) -> None:
        self.run.log({key: record[key] for key in POSITION} | scalars(record))

    def finish(self, result: dict[str, Any] | None) -> None:
        if result:
            dev = result["dev"]
            best = {"dev_loss": dev["cross_entropy"]}
            best |= {"dev_bits_per_byte": dev["bits_per_byte"]} if "bits_per_byte" in dev else {}
            self.run.summary.update({"best_step": result["best_step"]} | {f"best_{k}": v for k, v in best.items()})
        self.run.finish(exit_code=0 if result else 1)


def _open_wandb(config: WandbConfig, run: TrackedRun) -> "wandb.Run":
    import wandb

    options: dict[str, Any] = {
        "project": config.project, "entity": config.entity, "tags": config.tags, "name": run.name,
        "group": config.group or _group(run), "job_type": run.method, "config": run.config,
        "dir": run.folder, "id": _wandb_id(run.folder), "resume": "allow",
        "reinit": "create_new",  # several runs may be trained in one process
        "settings": wandb.Settings(
            quiet=True, console="off", init_timeout=CONNECT_SECONDS, finish_timeout=UPLOAD_SECONDS
        ),
    }  # fmt: skip
    if config.resolved_mode == "online":
        try:
            return wandb.init(mode="online", **options)
        except Exception as error:
            _say(f"wandb cannot be reached, logging {run.name} offline ({_brief(error)})")
            wandb.teardown()  # its service holds on to the id
    return wandb.init(mode="offline", **options)


def _wandb_id(folder: Path) -> str:
    if "wandb_id" not in _known_ids(folder):
        _keep_id(folder, "wandb_id", secrets.token_hex(8))
    return _known_ids(folder)["wandb_id"]


def _known_ids(folder: Path) -> dict[str, str]:
    path = folder / "tracking.json"
    return dict(read_json(path)) if path.exists() else {}


def _keep_id(folder: Path, key: str, identifier: str) -> None:
    write_json(folder / "tracking.json", _known_ids(folder) | {key: identifier})


def _group(run: TrackedRun) -> str | None:
    return run.name.rpartition("/")[0] or None


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """The figures of a record under the names that trackers show: `train/loss`, `dev/<domain>`, `evaluation/<task>`…"""
    figures = {key: value for key, value in record.items() if key not in (*POSITION, *NAMES)}
    figures |= {name: domain["cross_entropy"] for name, domain in record.get("domains", {}).items()}
    return {f"{record['split']}/{key}": value for key, value in figures.items()}


def _brief(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _say(text: str) -> None:
    print(f"tracking: {text}", file=sys.stderr, flush=True)
