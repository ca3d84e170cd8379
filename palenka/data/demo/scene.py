"""The scenes of the demo's little language: who and what may be spoken of, and the phrases to do it with."""

import random
from collections.abc import Sequence
from typing import TypeVar

from palenka.data.demo import lexicon as lex
from palenka.data.demo.lexicon import Noun, Verb, Word, held_out

Choice = TypeVar("Choice")
AnyWord = TypeVar("AnyWord", bound=Word)


def finish(text: str) -> str:
    """Single spaces, none before punctuation, a capital to begin with."""
    text = " ".join(text.split())
    for mark in ".,?":
        text = text.replace(f" {mark}", mark)
    return text[0].upper() + text[1:]


def a(noun: str) -> str:
    return ("an " if noun[0] in lex.VOWELS else "a ") + noun


def the(noun: Noun) -> str:
    return f"the {noun.text}" if noun.plural else noun.text


class Scene:
    """Who and what may be spoken of: a small cast in a document's text, the whole lexicon in the minimal pairs.

    In the pairs, what a contrast hangs on is a combination held out of the text; in the text, nothing is.
    """

    def __init__(self, rng: random.Random, pairs: bool = False) -> None:
        self.rng = rng
        self.pairs = pairs
        self.couples = self.cast(tuple(zip(lex.WOMEN, lex.MEN, strict=True)))
        self.named_couples = self.cast(tuple(zip(lex.WOMEN_NAMES, lex.MEN_NAMES, strict=True)))
        self.trades = self.cast(lex.TRADES)
        self.animals = self.cast(lex.ANIMALS)
        self.things = self.cast(lex.THINGS)
        self.rooms = self.cast(lex.ROOMS)
        self.landmarks = self.cast(lex.LANDMARKS)
        self.people = [person for couple in self.couples for person in couple] + self.trades
        self.topic = rng.choice([*self.people, *self.animals, *self.things])

    # Words

    def cast(self, words: Sequence[Choice]) -> list[Choice]:
        """All in the pairs; in a text two, held out from different words, so that every word goes with one of them."""
        if self.pairs:
            return list(words)
        residues = self.rng.sample(range(lex.RESIDUES), 2)
        return [self.rng.choice(words[residue :: lex.RESIDUES]) for residue in residues]

    def fit(self, candidates: Sequence[AnyWord], *heads: Word, others: Sequence[Word] = ()) -> AnyWord:
        """A word held out from all heads (pairs), or from none of the heads and others (text)."""
        if self.pairs:
            return self.rng.choice([word for word in candidates if all(held_out(word, head) for head in heads)])
        return self.usual(candidates, *heads, *others)

    def usual(self, candidates: Sequence[AnyWord], *partners: Word) -> AnyWord:
        """A word that is met beside each of the partners in the text."""
        return self.rng.choice(
            [word for word in candidates if not any(held_out(word, partner) for partner in partners)]
        )

    def other(self, noun: Noun, candidates: Sequence[Noun]) -> Noun:
        return self.rng.choice([candidate for candidate in candidates if candidate is not noun])

    def companion(self, noun: Noun) -> Noun:
        """Another person or animal; in the pairs, one that is held out from the same words."""
        candidates = [*self.people, *self.animals]
        if self.pairs:
            candidates = [other for other in candidates if (other.index - noun.index) % lex.RESIDUES == 0]
        return self.other(noun, candidates)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def either(self, *options: str) -> str:
        return self.rng.choice(options)

    def couple(self) -> tuple[Noun, Noun]:
        """A woman and her male counterpart, by noun or by name."""
        return self.rng.choice(self.named_couples if self.chance(0.4) else self.couples)

    def animate(self) -> Noun:
        """A person or an animal that can be counted: no name. The topic comes up more often."""
        if self.topic not in lex.THINGS and self.chance(0.0 if self.pairs else 0.4):
            return self.topic
        return self.rng.choice([self.rng.choice(self.people), self.rng.choice(self.animals)])

    def thing(self) -> Noun:
        if self.topic in lex.THINGS and self.chance(0.0 if self.pairs else 0.4):
            return self.topic
        return self.rng.choice(self.things)

    def noun(self) -> Noun:
        return self.thing() if self.chance(0.2) else self.animate()

    # Phrases

    def adjective(self, noun: Noun) -> str:
        return self.usual(lex.TEMPERS if noun in lex.ANIMATE else lex.LOOKS, noun).text

    def numbers(self, noun: Noun, described: float = 0.15) -> tuple[str, str]:
        """The dog, the dogs: the same phrase in singular and plural, with an adjective now and then."""
        adjective = self.adjective(noun) if self.chance(described) else ""
        return f"the {adjective} {noun.text}", f"the {adjective} {noun.plural}"

    def object(self, noun: Noun) -> str:
        """A noun phrase of any number and determiner."""
        if self.chance(0.4):
            return self.rng.choice(self.numbers(noun))
        if self.chance(0.5):
            return f"{self.either('two', 'three', 'many', 'some')} {noun.plural}"
        return a(noun.text)

    def place(self) -> str:
        if self.chance(0.5):
            return f"in {self.numbers(self.rng.choice(self.rooms))[0]}"
        return f"{self.near()} {self.numbers(self.rng.choice(self.landmarks))[0]}"

    def near(self) -> str:
        return self.either("near", "behind")

    def anywhere(self) -> str:
        return self.place() if self.chance(0.5) else ""

    def predicate(self, *subjects: Noun, others: Sequence[Noun] = ()) -> tuple[Verb, str]:
        """What the subjects may do (without `others` being in the way), and what follows the verb."""
        if subjects[0] in lex.THINGS:
            return self.fit(lex.STIRRINGS, *subjects, others=others), self.anywhere()
        if self.chance(0.5):
            return self.fit(lex.ACTIONS, *subjects, others=others), self.anywhere()
        if self.chance(0.5):
            verb = self.fit(lex.ENCOUNTERS, *subjects, others=others)
            return verb, self.object(self.other(subjects[0], self.animals))
        return self.fit(lex.ERRANDS, *subjects, others=others), self.object(self.thing())
