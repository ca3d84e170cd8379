"""What a search tries next: a function of its config, the trial's number and the trials before it.

Each number has random numbers of its own, so that a search which is started again proposes what it would have proposed,
and no two workers draw the same.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from palenka.search.space import Axis, Coordinate, Point, SearchConfig
from palenka.util.seeds import named_seed

optuna.logging.set_verbosity(optuna.logging.ERROR)


def propose(config: SearchConfig, number: int, before: Sequence[FrozenTrial]) -> Point:
    """The point of the `number`-th trial, from 0; TPE's depends on the trials before, running ones too."""
    if config.sampler == "grid":
        return config.cells()[number]
    if config.sampler == "tpe":
        return _propose_by_tpe(config, number, before)
    shares = dict(zip(config.axes, _shares(config, number), strict=True))
    return config.draw(lambda key, axis: axis.coordinate(shares[key]))


def _shares(config: SearchConfig, number: int) -> list[float]:
    """A number from 0 to below 1 for each axis: at random, or of a scrambled Sobol sequence."""
    if config.sampler == "random":
        return np.random.default_rng(named_seed(config.seed, "trial", number)).random(len(config.axes)).tolist()
    sequence = qmc.Sobol(len(config.axes), rng=np.random.default_rng(named_seed(config.seed, "sobol")))
    if number:  # 0 is an OverflowError
        sequence.fast_forward(number)
    return sequence.random(1)[0].tolist()


def _propose_by_tpe(config: SearchConfig, number: int, before: Sequence[FrozenTrial]) -> Point:
    """Tree-structured Parzen estimators (Bergstra et al. 2011), multivariate, in which running trials count as bad."""
    seed = named_seed(config.seed, "trial", number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`: for axes that have a `when`
        sampler = TPESampler(seed=seed, group=any(axis.when for axis in config.axes.values()))
    study = optuna.create_study(sampler=sampler)
    study.add_trials(before)
    trial = study.ask()

    def suggest(key: str, axis: Axis) -> Coordinate:
        if axis.choice is not None:
            return int(trial.suggest_categorical(key, range(len(axis.choice))))
        return trial.suggest_float(key, 0.0, 1.0)

    return config.draw(suggest)


def distributions(config: SearchConfig, point: Point) -> dict[str, BaseDistribution]:
    """Of a point's coordinates, as Optuna stores them."""
    choices = {key: config.axes[key].choice for key in point.coordinates}
    return {
        key: FloatDistribution(0.0, 1.0) if choice is None else CategoricalDistribution(range(len(choice)))
        for key, choice in choices.items()
    }
