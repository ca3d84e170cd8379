"""What a search may try: axes and their distributions, what each sampler takes of them, and what is refused."""

import math
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError

from palenka.search.samplers import distributions, propose
from palenka.search.space import Axis, Point, SearchConfig
from palenka.search.storage import JOURNAL, Trials
from palenka.util.errors import UserError
from palenka.util.seeds import named_seed

LR, DECAY = "training.lr", "training.weight_decay"
SAMPLERS = ("random", "quasi_random", "tpe")


def config(**keys: Any) -> SearchConfig:
    axes = {LR: {"log_uniform": [1e-4, 1e-2]}, DECAY: {"uniform": [0.0, 1.0]}}
    return SearchConfig.model_validate({"name": "search", "run": "run.yaml", "axes": axes, "trials": 64} | keys)


def conditional(**keys: Any) -> SearchConfig:
    axes = {
        "training.optimizer.name": ["adamw", "muon"],
        "training.optimizer.adam_lr": {"choice": [1, 2, 3], "when": {"training.optimizer.name": "muon"}},
        "training.schedule": ["cosine", "linear"],
    }
    return config(axes=axes, **keys)


# Axes


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ({"uniform": [2, 4]}, [2.0, 3.0, 4.0]),
        ({"log_uniform": [1e-4, 1e-2]}, [1e-4, 1e-3, 1e-2]),
        ({"log_normal": [0, 1]}, [0.04979, 1.0, 20.09]),  # e^-3, 1, e^3
        ({"log_normal": [5, 1.5], "multiple_of": 1}, [2, 148, 13360]),  # e^0.5, e^5, e^9.5
        ({"uniform": [0, 100], "multiple_of": 32}, [32, 64, 96]),
        ({"log_uniform": [1e-2, 1.0], "complement": True}, [0.99, 0.9, 0.0]),
        ({"uniform": [0.123456, 0.2]}, [0.1235, 0.1617, 0.2]),
    ],
)  # fmt: skip
def test_quantiles_by_hand(axis: dict[str, Any], expected: list[float]) -> None:
    made = Axis.model_validate(axis)
    values = [made.value(share) for share in (0.0, 0.5, 1.0)]
    assert values == expected
    assert [type(value) for value in values] == [type(value) for value in expected]
    assert made.outermost == [values[0], values[-1]]


def test_a_log_normals_sigmas_are_where_they_belong() -> None:
    axis = Axis.model_validate({"log_normal": [-7.3, 0.7]})
    within = sorted(axis.value(share / 10_000) for share in range(1, 10_000))
    low, middle, high = (within[round(share * len(within))] for share in (0.1587, 0.5, 0.8413))
    assert (low, middle, high) == pytest.approx((3.36e-4, 6.76e-4, 1.36e-3), rel=0.01)  # e^(-7.3 ∓ 0.7)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ({}, "expected one of choice, uniform, log_uniform, log_normal, got none"),
        ({"choice": [1], "uniform": [0, 1]}, "got choice and uniform"),
        ({"uniform": [1, 1]}, "expected [from, to] with from below to, got [1, 1]"),
        ({"log_uniform": [0, 1]}, "both above 0, got [0, 1]"),
        ({"log_normal": [0, 0]}, "expected a standard deviation above 0"),
        ({"choice": [1], "complement": True}, "leave out multiple_of and complement"),
        ({"uniform": [0, 1], "complement": True, "multiple_of": 1}, "not both"),
        ([], "at least 1 item"),
        ({"uniform": [0, 1], "step": 1}, "step"),
    ],
)
def test_what_is_no_axis(axis: Any, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(axes={LR: axis})
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"axes": {"name": ["a"]}}, "name changes no weight"),
        ({"axes": {"tracking.wandb": [True]}}, "tracking changes no weight"),
        ({"axes": {"data.seq_length": [16, 32]}}, "changes what dev loss is measured on"),
        ({"axes": {"paradigm.rate": [0.1]}}, "changes what dev loss is measured on"),
        ({"axes": {LR: {"choice": [1], "when": {"training.schedul": 1}}}}, "training.schedul is no axis above it"),
        ({"axes": {"a": [1], "b": {"choice": [1], "when": {"a": 2}}}}, "when: a has no choice 2"),
        ({"axes": {"b": {"choice": [1], "when": {"a": 1}}, "a": [1]}}, "a is no axis above it"),
        ({"sampler": "grid"}, "sampler grid takes choices"),
        ({"sampler": "grid", "axes": {"a": [1, 2]}, "trials": 3}, "the grid has 2 combinations, fewer than 3"),
        ({"sampler": "grid", "axes": {f"a{n}": list(range(100)) for n in range(3)}}, "more than 10,000 combinations"),
        ({"trials": None}, "sampler tpe has no end of its own"),
        ({"sampler": "bayes"}, "sampler"),
        ({"storage": "sqlite:///trials.db"}, "SQLite is not safe with several machines"),
        ({"storage": "trials.db"}, "expected the URL of a database"),
    ],
)
def test_what_is_no_search(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**keys)
    assert expected in str(caught.value)


# Samplers


def test_a_grid_takes_all_combinations_and_leaves_out_what_does_not_apply() -> None:
    grid = conditional(sampler="grid", trials=None)
    cells = [list(propose(grid, number, []).values.values()) for number in range(grid.number_of_trials)]
    assert cells == [
        ["adamw", "cosine"], ["adamw", "linear"],
        ["muon", 1, "cosine"], ["muon", 1, "linear"], ["muon", 2, "cosine"], ["muon", 2, "linear"],
        ["muon", 3, "cosine"], ["muon", 3, "linear"],
    ]  # fmt: skip


def done(search: SearchConfig, point: Point, loss: float | None) -> FrozenTrial:
    """A trial as it is stored; without a loss it runs."""
    return create_trial(
        state=TrialState.RUNNING if loss is None else TrialState.COMPLETE, value=loss,
        params=dict(point.coordinates), distributions=distributions(search, point),
    )  # fmt: skip


def follow(search: SearchConfig, number: int, before: list[FrozenTrial] | None = None) -> list[FrozenTrial]:
    """So many trials of a search whose loss is least at lr 1e-3 and weight decay 0.25."""
    trials = list(before or [])
    while len(trials) < number:
        point = propose(search, len(trials), trials)
        loss = math.log10(point.values[LR] / 1e-3) ** 2 + (point.values[DECAY] - 0.25) ** 2
        trials.append(done(search, point, loss))
    return trials


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_is_started_again_proposes_what_it_would_have_proposed(sampler: str) -> None:
    search = config(sampler=sampler)
    whole = [trial.params for trial in follow(search, 24)]
    for kept in (4, 10, 16):
        assert [trial.params for trial in follow(search, 24, follow(search, kept))] == whole
    assert len({tuple(params.values()) for params in whole}) == 24, "no draw comes again"
    assert [trial.params for trial in follow(config(sampler=sampler, seed=1), 24)] != whole


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_does_not_apply_is_not_drawn(sampler: str) -> None:
    search = conditional(sampler=sampler)
    trials: list[FrozenTrial] = []
    for number in range(20):
        point = propose(search, number, trials)
        trials.append(done(search, point, float(number)))
        assert ("training.optimizer.adam_lr" in point.values) == (point.values["training.optimizer.name"] == "muon")
    assert {len(trial.params) for trial in trials} == {2, 3}


def test_quasi_random_points_fill_the_space() -> None:
    """Each cell of 8 × 8 has one of the first 64 points of a Sobol sequence; random ones leave a third empty."""
    held = {}
    for sampler in ("random", "quasi_random"):
        search = config(sampler=sampler)
        points = [propose(search, number, []).coordinates for number in range(64)]
        held[sampler] = len({(int(8 * point[LR]), int(8 * point[DECAY])) for point in points})
    assert held["quasi_random"] == 64
    assert held["random"] < 56


def test_tpe_learns_from_the_trials_before() -> None:
    found = {sampler: [trial.value for trial in follow(config(sampler=sampler), 60)][30:] for sampler in SAMPLERS}
    assert median(found["tpe"]) < 0.25 * median(found["random"])


def test_tpe_is_optunas_with_the_seed_of_the_trial() -> None:
    search = config()
    before = follow(search, 12)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=named_seed(0, "trial", 12) % 2**32))
    study.add_trials(before)
    trial = study.ask()
    expected = {key: trial.suggest_float(key, 0, 1) for key in (LR, DECAY)}
    assert propose(search, 12, before).coordinates == expected


def test_running_trials_keep_others_from_their_places() -> None:
    """Proposed together, without an outcome in between, they are not one and the same."""
    search = config()
    trials = follow(search, 12)
    for _ in range(6):
        trials.append(done(search, propose(search, len(trials), trials), None))
    assert len({trial.params[LR] for trial in trials[12:]}) == 6


def test_one_that_diverged_is_worse_than_any_other() -> None:
    search = config()
    trials = follow(search, 12)
    diverged = [create_trial(value=math.inf, params=t.params, distributions=t.distributions) for t in trials[:6]]
    point = propose(search, 12, [*diverged, *trials[6:]])
    assert all(0 <= share <= 1 for share in point.coordinates.values())


# Storage


def begin(folder: Path) -> Trials:
    trials = Trials("search", folder)
    trials.add({"a": 0.5}, {"a": FloatDistribution(0.0, 1.0)}, {"training.lr": 1e-3})
    return trials


def test_trials_outlive_their_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("relative").mkdir()
    begin(Path("relative"))
    again = Trials("search", tmp_path / "relative")
    again.complete(0, 3.5)
    again.note(again.add({}, {}, {}), "starts", [0, 1])
    again.complete(again.add({}, {}, {}), math.inf)
    again.refuse(1, "a reason")
    states = [(trial.number, trial.state.name, trial.value) for trial in Trials("search", tmp_path / "relative").all()]
    assert states == [(0, "COMPLETE", 3.5), (1, "FAIL", None), (2, "COMPLETE", math.inf)]
    assert Trials("search", tmp_path / "relative").all()[1].user_attrs["refused"] == "a reason"


@pytest.mark.parametrize("half", [b'{"op_code":6,"trial', b"\0" * 5000, b"{"])
def test_half_a_line_that_a_killed_writer_left_is_cut(tmp_path: Path, half: bytes) -> None:
    begin(tmp_path)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + half)
    trials = Trials("search", tmp_path)
    trials.complete(0, 3.5)
    assert (tmp_path / JOURNAL).read_bytes().startswith(whole + b'{"op_code":')
    assert [trial.value for trial in Trials("search", tmp_path).all()] == [3.5]


def test_a_journal_that_is_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / JOURNAL).write_bytes(b"half a li\n" + (tmp_path / JOURNAL).read_bytes())
    with pytest.raises(UserError, match=r"trials\.journal: damaged .*Put back a copy"):
        Trials("search", tmp_path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nonsense://user:secret@host/x", r"storage: nonsense://…@host/x: Can't load plugin"),
        ("mssql+nodriver://host/x", "storage: mssql"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(tmp_path: Path, url: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        Trials("search", tmp_path, url)
    assert "secret" not in str(caught.value)
