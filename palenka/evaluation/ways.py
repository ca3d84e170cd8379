"""Ways of asking a model for the log-probability of a text.

    causal   sum_t log p(x_t | x_<t)
    mlm      sum_i log p_i(x_i | x with x_i masked)        the pseudo-log-likelihood of Salazar et al. 2020,
             arXiv 1910.14659, from a model that learned by paradigm `masked`, or any masked language model
    mntp     sum_i log p_{i-1}(x_i | x with x_i masked)    the same of one that learned by paradigm `mntp`
    fused    causal + mlm, or causal + mntp                GPT-BERT (Charpentier & Samuel 2024, arXiv 2410.24159)

    mlm_within_word, mntp_within_word    with token i what follows of its word is masked, too, so that a word of several
             tokens does not give itself away: PLL-word-l2r of Kauf & Ivanova 2023, arXiv 2305.10588

A model is asked in each way that it learned. A within-word variant is asked for by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palenka.util.errors import UserError

CAUSAL, FUSED = "causal", "fused"
OF_MASKED = {"masked": "mlm", "mntp": "mntp"}
"""The ways of paradigms that see all of a text. A causal one is the way of its own name."""
WITHIN_WORD = "_within_word"
WAYS = (CAUSAL, *OF_MASKED.values(), FUSED, *(f"{way}{WITHIN_WORD}" for way in OF_MASKED.values()))
"""All that there are, but for those of paradigms of one's own, which are called as these are."""


def way_of(paradigm: str) -> str:
    """The way of a model that learned by a paradigm."""
    return OF_MASKED.get(paradigm, paradigm)


def in_way(task: str, way: str) -> str:
    """What a task's result is called where results of several ways stand side by side."""
    return task if way == CAUSAL else f"{task} ({way})"


@dataclass(frozen=True)
class Part:
    """Scores that a way adds up: by which paradigm, and whether with a token the rest of its word is masked."""

    paradigm: str
    within_word: bool = False

    @property
    def is_masked(self) -> bool:
        return self.paradigm in OF_MASKED


@dataclass(frozen=True)
class Way:
    """A way of asking a model. `is_first`: it is the first that this model learned, whose results are its own."""

    name: str
    parts: tuple[Part, ...]
    is_first: bool = False

    @property
    def folder(self) -> str:
        """Where its results lie, below those of the first way."""
        return "" if self.is_first else self.name

    @property
    def said(self) -> dict[str, str]:
        """What a result says of it; nothing of a causal one, as before there were others."""
        return {} if self.name == CAUSAL else {"way": self.name}

    @property
    def paradigm(self) -> str | None:
        """The paradigm under which text has a cross-entropy; none where scores are more than its predictions."""
        return self.parts[0].paradigm if len(self.parts) == 1 and not self.parts[0].within_word else None


def ways_of(folder: Path, learned: Sequence[str], names: Sequence[str] | None = None) -> list[Way]:
    """The ways in which a folder's model is asked.

    Args:
        folder: the model's.
        learned: names of the paradigms that it learned.
        names: of ways; default each that it learned.

    Raises:
        UserError: it did not learn one of those.
    """
    known = _known(learned)
    for name in names or ():
        if name not in known:
            raise UserError(f"{folder}: cannot be asked in the way {name!r}; what it learned is {', '.join(known)}")
    if names is None:
        return [way for name, way in known.items() if not name.endswith(WITHIN_WORD)]
    return [known[name] for name in dict.fromkeys(names)]


def _known(learned: Sequence[str]) -> dict[str, Way]:
    """All ways of a model that learned by these paradigms, in order."""
    masked = [name for name in learned if name in OF_MASKED]
    parts: dict[str, tuple[Part, ...]] = {way_of(name): (Part(name),) for name in learned}
    if masked and CAUSAL in learned:
        parts[FUSED] = (Part(CAUSAL), Part(masked[0]))
    parts |= {OF_MASKED[name] + WITHIN_WORD: (Part(name, True),) for name in masked}
    return {name: Way(name, of, is_first=number == 0) for number, (name, of) in enumerate(parts.items())}
