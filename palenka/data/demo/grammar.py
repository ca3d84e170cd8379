"""The demo's corpus of village life, in BabyLM's layout, and its minimal pairs, in BLiMP's.

Three domains in their own formats: simple_wiki (articles), childes (conversations) and gutenberg (tales). A document
keeps to a small cast; it mixes the phenomena with sentences that only tell. Nothing but the seed decides the bytes.
"""

import json
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from palenka.data.demo import lexicon as lex
from palenka.data.demo.lexicon import Noun
from palenka.data.demo.phenomena import (
    PHENOMENA,
    Contrast,
    Phenomenon,
    anaphor_gender_agreement,
    distractor_agreement_prepositional_phrase,
    distractor_agreement_relative_clause,
    embedded_question_word_order,
    question_auxiliary_agreement,
    question_verb_form,
    tag_question_agreement,
)
from palenka.data.demo.scene import Scene, a, finish
from palenka.util.files import write_text

PAIRS = 200  # a phenomenon
SHARES = {"train": 1.0, "dev": 0.08, "test": 0.08}  # of the words asked for

QUESTIONS: list[Phenomenon] = [
    question_verb_form,
    question_auxiliary_agreement,
    tag_question_agreement,
    embedded_question_word_order,
]
# Learnt last, and therefore told more often.
HARD: list[Phenomenon] = [
    anaphor_gender_agreement,
    distractor_agreement_prepositional_phrase,
    distractor_agreement_relative_clause,
]
STATEMENTS = [phenomenon for phenomenon in PHENOMENA if phenomenon not in QUESTIONS] + 2 * HARD

ANSWERS = (
    "Yes, of course!",
    "No, never.",
    "I think so.",
    "Nobody knows.",
    "Yes, and it is very funny.",
    "Ask the cat.",
    "No, not before breakfast.",
    "Yes, in the summer.",
)
DIRECTIONS = (
    "Look behind the well.",
    "Not in my pocket.",
    "Here I am, and I see nobody.",
    "Near the plum cake, I think.",
)
REMARKS = (
    "Really?",
    "How funny!",
    "Oh dear.",
    "That was a good day.",
    "Tell me more.",
    "Again?",
    "What a village!",
    "And then it was time for supper.",
)
BEGINNINGS = (
    "Once upon a time, {} and {} lived in the village.",
    "This is the story of {} and {}.",
    "It was a warm evening, and the plums were ripe. In the village lived {} and {}.",
    "When the snow came, {} and {} stayed by the oven.",
)
ENDINGS = (
    "And that is the end of the story.",
    "The moon came up, and the village was quiet.",
    "Then they all had plum cake, and nobody was hungry.",
    "And if the plums are still ripe, they are dancing there today.",
)


def told(scene: Scene, phenomena: list[Phenomenon]) -> str:
    """A good sentence of one of the phenomena, or one or two about somebody."""
    if scene.chance(0.35):
        return scene.rng.choice(NARRATIONS)(scene)
    contrast = scene.rng.choice(phenomena)(scene)
    side = scene.rng.randrange(2)
    return contrast.sentence(side, side)


def hero(scene: Scene) -> tuple[Noun, str, str, str]:
    """Whom or what a narration is about: the noun, its phrase, its pronoun, and was or were."""
    noun = scene.rng.choice([*scene.couple(), *scene.couple(), scene.rng.choice(scene.animals), scene.thing()])
    if scene.topic.pronoun and scene.chance(0.4):
        noun = scene.topic
    if not noun.plural:
        return noun, noun.text, noun.pronoun, "was"
    singular, plural = scene.numbers(noun)
    if scene.chance(0.3):
        return noun, plural, "they", "were"
    return noun, singular, noun.pronoun, "was"


def whereabouts(scene: Scene) -> str:
    """The goose was near the pond. It was very happy."""
    noun, subject, pronoun, was = hero(scene)
    very = scene.either("very", "so", "")
    return f"{finish(f'{subject} {was} {scene.place()}.')} {finish(f'{pronoun} {was} {very} {scene.adjective(noun)}.')}"


def possession(scene: Scene) -> str:
    """Mila lost her hat in the orchard."""
    noun, subject, pronoun, _ = hero(scene)
    if noun in lex.THINGS:
        return whereabouts(scene)
    own = {"she": "her", "he": "his", "it": "its", "they": "their"}[pronoun]
    thing = scene.thing()
    verb = scene.fit(lex.ERRANDS, noun).past
    return finish(f"{subject} {verb} {own} {scene.either(thing.text, thing.plural)} {scene.anywhere()}.")


def reason(scene: Scene) -> str:
    """The bees danced because they were happy."""
    noun, subject, pronoun, was = hero(scene)
    verb, rest = scene.predicate(noun)
    return finish(f"{subject} {verb.past} {rest} because {pronoun} {was} {scene.adjective(noun)}.")


def sequel(scene: Scene) -> str:
    """Emil mended a ladder. In the evening he sang in the barn."""
    noun, subject, pronoun, _ = hero(scene)
    verb, rest = scene.predicate(noun)
    candidates = lex.STIRRINGS if noun in lex.THINGS else lex.ACTIONS
    second = scene.fit([candidate for candidate in candidates if candidate is not verb], noun)
    then = scene.either("then", "soon", "in the evening")
    return f"{finish(f'{subject} {verb.past} {rest}.')} {finish(f'{then} {pronoun} {second.past} {scene.anywhere()}.')}"


NARRATIONS = (whereabouts, possession, reason, sequel)


def article(rng: random.Random, number: int) -> str:
    """An encyclopaedia's article on a word of the village, as simple_wiki has it."""
    scene = Scene(rng)
    topic = scene.topic
    if topic in lex.ANIMALS:
        opening = f"{a(topic.text)} is an animal. Many {topic.plural} live {scene.place()}."
    else:
        opening = f"every village needs {a(topic.text)}. Some {topic.plural} are {scene.adjective(topic)}."
    first, *others = paragraphs(scene, questions=0.0)
    return document(topic.text.capitalize(), [f"{finish(opening)} {first}", *others])


def tale(rng: random.Random, number: int) -> str:
    """A story that wonders now and then, as gutenberg has it."""
    scene = Scene(rng)
    friend = rng.choice([friend for couple in scene.named_couples for friend in couple])
    beginning = rng.choice(BEGINNINGS).format(a(scene.topic.text), friend.text)
    return document(f"PG{number}", [beginning, *paragraphs(scene, questions=0.3), rng.choice(ENDINGS)])


def conversation(rng: random.Random, number: int) -> str:
    """A child and its elders, as childes has it."""
    scene = Scene(rng)
    speakers = rng.choice(("MOT", "FAT", "GRM")), "CHI"
    lines = []
    for _ in range(rng.randint(4, 7)):
        first, second = rng.sample(speakers, 2)
        turn = told(scene, QUESTIONS if scene.chance(0.7) else STATEMENTS)
        lines += [f"*{first}:\t{turn}", f"*{second}:\t{reply(scene, turn)}"]
    return document(f"village/{number:05d}.cha", lines)


def reply(scene: Scene, turn: str) -> str:
    if not turn.endswith("?"):
        return scene.either(*REMARKS)
    return scene.either(*(DIRECTIONS if turn.startswith("Where") else ANSWERS))


def paragraphs(scene: Scene, questions: float) -> list[str]:
    """Two to four paragraphs of two to four tellings each, of which the share `questions` asks."""
    return [
        " ".join(
            told(scene, QUESTIONS if scene.chance(questions) else STATEMENTS) for _ in range(scene.rng.randint(2, 4))
        )
        for _ in range(scene.rng.randint(2, 4))
    ]


def document(title: str, lines: list[str]) -> str:
    return "\n".join([f"= = = {title} = = =", *lines]) + "\n\n"


DocumentKind = Callable[[random.Random, int], str]

# Domain: kind of document, share of the words.
DOMAINS: dict[str, tuple[DocumentKind, float]] = {
    "simple_wiki": (article, 0.4),
    "childes": (conversation, 0.3),
    "gutenberg": (tale, 0.3),
}


def documents(kind: DocumentKind, words: float, rng: random.Random, first: int) -> Iterator[str]:
    """Documents, numbered from `first`, until they hold so many words."""
    number = first
    while words > 0:
        made = kind(rng, number)
        words -= len(made.split())
        number += 1
        yield made


def contrasts(phenomenon: Phenomenon, rng: random.Random) -> Iterator[Contrast]:
    """Contrasts without end, no good sentence twice."""
    scene = Scene(rng, pairs=True)
    seen: set[str] = set()
    while True:
        contrast = phenomenon(scene)
        good = {contrast.sentence(side, side) for side in range(2)}
        if not good & seen:
            seen |= good
            yield contrast


def minimal_pairs(phenomenon: Phenomenon, rng: random.Random) -> Iterator[dict[str, str | int]]:
    """`PAIRS` items in BLiMP's shape: of each contrast two, in which its words are good in turn."""
    field, term = PHENOMENA[phenomenon]
    for number, contrast in enumerate(islice(contrasts(phenomenon, rng), PAIRS // 2)):
        for side in range(2):
            yield {
                "sentence_good": contrast.sentence(side, side),
                "sentence_bad": contrast.sentence(side, 1 - side),
                "field": field,
                "linguistics_term": term,
                "UID": phenomenon.__name__,
                "pair_id": 2 * number + side,
            }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def write_demo(folder: Path, pairs_folder: Path, words: int = 300_000, seed: int = 1) -> None:
    """Write the corpus, `folder`/{train,dev,test}/<domain>.<split>, and the minimal pairs, `pairs_folder`/<UID>.jsonl.

    `words` is the size of the training text; dev and test have `SHARES` of it each.
    """
    for domain, (kind, part) in DOMAINS.items():
        first = 1
        for split, share in SHARES.items():
            made = list(documents(kind, words * part * share, random.Random(f"{seed} {domain} {split}"), first))
            first += len(made)
            write(folder / split / f"{domain}.{split}", "".join(made))
    for phenomenon in PHENOMENA:
        items = minimal_pairs(phenomenon, random.Random(f"{seed} {phenomenon.__name__}"))
        write(pairs_folder / f"{phenomenon.__name__}.jsonl", "".join(json.dumps(item) + "\n" for item in items))
