"""The words of the demo's little language, their forms, and which of them never meet in its text.

Held out of the text are combinations, not words: a noun and a verb (or an adjective and a noun, …) whose indices sum
to a multiple of `RESIDUES` never stand together there as subject and verb. Each word so misses a quarter of its
possible partners, and the minimal pairs are made of exactly those.
"""

from dataclasses import dataclass

RESIDUES = 4
VOWELS = "aeiou"


@dataclass(frozen=True)
class Word:
    """A word and its place in its list; `text` is the singular of a noun, the base of a verb."""

    text: str
    index: int


@dataclass(frozen=True)
class Noun(Word):
    """`plural` is empty for a name; `pronoun` is that of the singular, empty where it is anybody's guess."""

    plural: str
    pronoun: str


@dataclass(frozen=True)
class Verb(Word):
    third: str
    past: str
    participle: str


def held_out(one: Word, other: Word) -> bool:
    """Whether the two never stand together in the text."""
    return (one.index + other.index) % RESIDUES == 0


def with_s(word: str) -> str:
    """The regular plural of a noun, or third person of a verb: cherry → cherries, fox → foxes, dog → dogs."""
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def with_ed(word: str) -> str:
    """The regular past of a verb: carry → carried, dance → danced, help → helped."""
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ied"
    return word + ("d" if word.endswith("e") else "ed")


def nouns(table: str, pronoun: str) -> tuple[Noun, ...]:
    """Nouns from `singular` or `singular/plural` entries."""
    entries = [entry.split("/") for entry in table.split()]
    return tuple(
        Noun(forms[0], index, forms[1] if forms[1:] else with_s(forms[0]), pronoun)
        for index, forms in enumerate(entries)
    )


def names(table: str, pronoun: str) -> tuple[Noun, ...]:
    return tuple(Noun(name, index, "", pronoun) for index, name in enumerate(table.split()))


def verbs(table: str) -> tuple[Verb, ...]:
    """Verbs from `base`, or from `base/past/participle` where the past is not regular."""
    entries = [entry.split("/") for entry in table.split()]
    return tuple(
        Verb(base, index, with_s(base), *(past or (with_ed(base), with_ed(base))))
        for index, (base, *past) in enumerate(entries)
    )


def words(table: str) -> tuple[Word, ...]:
    return tuple(Word(text, index) for index, text in enumerate(table.split()))


# A woman's word and its man's counterpart share their index, so that a pair of sentences may contrast the two.
WOMEN = nouns("girl woman/women grandmother aunt queen witch", "she")
MEN = nouns("boy man/men grandfather uncle king wizard", "he")
WOMEN_NAMES = names("Mila Ana Zora Vera", "she")
MEN_NAMES = names("Emil Ivan Pavel Oto", "he")
TRADES = nouns("baker miller gardener fiddler beekeeper distiller", "")
ANIMALS = nouns("dog cat goose/geese mouse/mice hen hedgehog owl fox bee donkey", "it")
ANIMATE = frozenset(WOMEN + MEN + WOMEN_NAMES + MEN_NAMES + TRADES + ANIMALS)
THINGS = nouns("plum pear jug basket barrel kettle spoon lamp bell ladder loaf/loaves hat", "it")
ROOMS = nouns("garden barn kitchen cellar orchard mill", "it")  # one is in them
LANDMARKS = nouns("well gate bridge pond hill oven", "it")  # one is near them

ACTIONS = verbs(
    "sleep/slept/slept sing/sang/sung dance sneeze yawn swim/swam/swum whistle snore hum/hummed/hummed run/ran/run "
    "wait jump"
)
STIRRINGS = verbs("shine/shone/shone creak fall/fell/fallen wobble glitter rattle tumble sway")  # what things do
ENCOUNTERS = verbs("see/saw/seen follow like hear/heard/heard know/knew/known meet/met/met chase visit greet tickle")
ERRANDS = verbs(  # none of them does without its object
    "bring/brought/brought carry take/took/taken find/found/found hold/held/held mend lose/lost/lost polish"
)
REFLEXIVES = verbs("wash dry warm praise comfort weigh amuse surprise")

TEMPERS = words("old young little happy hungry sleepy brave clever")
LOOKS = words("old new little big red round heavy clean")

THIS = Word("this", 0)  # this, these, that, those
WHO = Word("who", 3)  # who, which
