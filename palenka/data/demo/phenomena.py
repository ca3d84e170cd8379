"""The phenomena of the demo's little language.

Every phenomenon is a `Contrast`: two frames and two words, each word at home in one frame only ("the dog ___ in the
barn" and "the dogs ___ in the barn": sleeps, sleep). Both words stand equally often in a good and in a bad sentence,
and what tells the frames apart lies beyond four words, or is a combination held out of the text (`lexicon.held_out`).
So word frequencies and n-grams decide by chance, and who has learnt the classes of words decides rightly.
The same contrasts make the text (of combinations that are not held out) and the minimal pairs (of those that are).
"""

from collections.abc import Callable
from dataclasses import dataclass

from palenka.data.demo import lexicon as lex
from palenka.data.demo.lexicon import Noun
from palenka.data.demo.scene import Scene, finish, the


@dataclass(frozen=True)
class Contrast:
    """Two frames, each a left and a right part, and two words: word i fits frame i and not the other."""

    frames: tuple[tuple[str, str], tuple[str, str]]
    words: tuple[str, str]

    def sentence(self, frame: int, word: int) -> str:
        """Grammatical exactly if `frame == word`."""
        left, right = self.frames[frame]
        return finish(f"{left} {self.words[word]} {right}")


def subject_verb_agreement(scene: Scene) -> Contrast:
    """The dog sleeps | the dogs sleep."""
    noun = scene.noun()
    verb, rest = scene.predicate(noun)
    singular, plural = scene.numbers(noun)
    return Contrast(((singular, f"{rest}."), (plural, f"{rest}.")), (verb.third, verb.text))


def attracted(scene: Scene, noun: Noun, attractor: Noun) -> list[tuple[str, str, bool]]:
    """The noun in singular and plural, each with the attractor, and whether that is plural; unlike in the pairs."""
    result = []
    others = scene.numbers(attractor)
    for number, phrase in enumerate(scene.numbers(noun)):
        plural = 1 - number if scene.pairs else scene.rng.randrange(2)
        result.append((phrase, others[plural], bool(plural)))
    return result


def distractor_agreement_prepositional_phrase(scene: Scene) -> Contrast:
    """The dog near the geese sleeps | the dogs near the goose sleep."""
    noun = scene.noun()
    attractor = scene.other(noun, [*scene.landmarks, *scene.animals])
    verb, rest = scene.predicate(noun, others=[attractor])
    near = scene.near()
    singular, plural = (f"{phrase} {near} {other}" for phrase, other, _ in attracted(scene, noun, attractor))
    return Contrast(((singular, f"{rest}."), (plural, f"{rest}.")), (verb.third, verb.text))


def distractor_agreement_relative_clause(scene: Scene) -> Contrast:
    """The dog that likes the geese sleeps | the dogs that like the goose sleep; or: that the goose likes."""
    noun = scene.animate()
    attractor = scene.other(noun, [*scene.animals, *scene.people])
    verb, rest = scene.predicate(noun, others=[attractor])
    phrases = attracted(scene, noun, attractor)
    if scene.chance(0.5):
        likes = scene.usual(lex.ENCOUNTERS, noun)
        singular, plural = (
            f"{phrase} that {form} {other}"
            for (phrase, other, _), form in zip(phrases, (likes.third, likes.text), strict=True)
        )
    else:
        likes = scene.usual(lex.ENCOUNTERS, attractor)
        singular, plural = (
            f"{phrase} that {other} {likes.text if many else likes.third}" for phrase, other, many in phrases
        )
    return Contrast(((singular, f"{rest}."), (plural, f"{rest}.")), (verb.third, verb.text))


def subject_verb_agreement_coordination(scene: Scene) -> Contrast:
    """The dog and the goose sleep | the dog near the goose sleeps."""
    noun = scene.animate()
    companion = scene.companion(noun)
    verb, rest = scene.predicate(noun, companion)
    first, second = scene.numbers(noun)[0], scene.numbers(companion)[0]
    together, apart = f"{first} and {second}", f"{first} {scene.near()} {second}"
    return Contrast(((together, f"{rest}."), (apart, f"{rest}.")), (verb.text, verb.third))


def anaphor_gender_agreement(scene: Scene) -> Contrast:
    """The aunt washed herself | the uncle washed himself."""
    woman, man = scene.couple()
    verb = scene.fit(lex.REFLEXIVES, woman, man).past
    rest = f"{scene.anywhere()}."
    return Contrast(((f"{the(woman)} {verb}", rest), (f"{the(man)} {verb}", rest)), ("herself", "himself"))


def anaphor_number_agreement(scene: Scene) -> Contrast:
    """The aunt washed herself | the aunts washed themselves."""
    noun = scene.rng.choice([*scene.rng.choice(scene.couples), *scene.rng.sample(scene.animals, 2)])
    verb = scene.fit(lex.REFLEXIVES, noun).past
    rest = f"{scene.anywhere()}."
    singular, plural = scene.numbers(noun)
    itself = {"she": "herself", "he": "himself", "it": "itself"}[noun.pronoun]
    return Contrast(((f"{singular} {verb}", rest), (f"{plural} {verb}", rest)), (itself, "themselves"))


def determiner_noun_agreement(scene: Scene) -> Contrast:
    """Mila found this jug | Mila found these jugs."""
    return determined(scene, scene.fit(scene.things + scene.animals, lex.THIS), "")


def determiner_noun_agreement_with_adjective(scene: Scene) -> Contrast:
    """Mila found this old jug | Mila found these old jugs."""
    noun = scene.usual(scene.things + scene.animals, lex.THIS)
    adjectives = lex.LOOKS if noun in lex.THINGS else lex.TEMPERS
    return determined(scene, noun, scene.fit(adjectives, noun).text)


def determined(scene: Scene, noun: Noun, adjective: str) -> Contrast:
    finder = scene.rng.choice(scene.couple())
    found = scene.usual(lex.ERRANDS if noun in lex.THINGS else lex.ENCOUNTERS, finder).past
    this, these = scene.rng.choice((("this", "these"), ("that", "those")))
    rest = f"{scene.anywhere()}."
    frames = (f"{the(finder)} {found} {this} {adjective}", rest), (f"{the(finder)} {found} {these} {adjective}", rest)
    return Contrast(frames, (noun.text, noun.plural))


def npi_licensing(scene: Scene) -> Contrast:
    """No baker near the well has ever sung | every baker near the well has already sung."""
    noun = scene.animate()
    verb, rest = scene.predicate(noun)
    where = scene.place() if scene.pairs else scene.anywhere()
    none, some = f"no {noun.text}", f"{scene.either('every', 'some')} {noun.text}"
    if not scene.pairs and scene.chance(0.3):
        none, some = "nobody", scene.either("everybody", "somebody")
    sung = f"{verb.participle} {rest}."
    return Contrast(((f"{none} {where} has", sung), (f"{some} {where} has", sung)), ("ever", "already"))


def question_verb_form(scene: Scene) -> Contrast:
    """Does the dog near the well sleep? | Do you know that the dog near the well sleeps?"""
    noun = scene.animate()
    verb, rest = scene.predicate(noun)
    where = scene.place() if scene.pairs else scene.anywhere()
    number = scene.rng.randrange(2)
    if number == 0 and scene.chance(0.6):
        does, do, form = "does", "do", verb.third
    else:
        does, do, form = "did", "did", verb.past
    subject = f"{scene.numbers(noun)[number]} {where}"
    frames = (f"{does} {subject}", f"{rest}?"), (f"{do} you know that {subject}", f"{rest}?")
    return Contrast(frames, (verb.text, form))


def question_auxiliary_agreement(scene: Scene) -> Contrast:
    """Does the old dog sleep? | Do the old dogs sleep?"""
    noun = scene.animate()
    adjective = scene.fit(lex.TEMPERS, noun).text
    verb, rest = scene.predicate(noun)
    words, then = ("does", "do"), f"{verb.text} {rest}?"
    if scene.chance(0.5):
        words, then = ("is", "are"), f"{scene.place()}?"
    return Contrast((("", f"the {adjective} {noun.text} {then}"), ("", f"the {adjective} {noun.plural} {then}")), words)


def tag_question_agreement(scene: Scene) -> Contrast:
    """The aunt likes the pears, doesn't she? | The uncle likes the pears, doesn't he?"""
    if scene.chance(0.5):
        woman, man = scene.couple()
        verb, rest = scene.predicate(woman, man)
        form, auxiliary = scene.rng.choice(((verb.third, "doesn't"), (verb.past, "didn't")))
        subjects, words = (the(woman), the(man)), ("she", "he")
    else:
        noun = scene.rng.choice([scene.rng.choice(scene.animals), scene.thing()])
        verb, rest = scene.predicate(noun)
        form, auxiliary = scene.rng.choice(((f"can {verb.text}", "can't"), (verb.past, "didn't")))
        subjects, words = scene.numbers(noun), ("it", "they")
    first, second = (f"{subject} {form} {rest}, {auxiliary}" for subject in subjects)
    return Contrast(((first, "?"), (second, "?")), words)


def wh_vs_that_gap(scene: Scene) -> Contrast:
    """Mila guesses what the baker brought | Mila guesses that the baker brought a jug."""
    guesser = scene.rng.choice(scene.couple())
    guesses = f"{the(guesser)} {scene.either('guesses', 'remembers', 'notices', 'forgets')}"
    agent = scene.rng.choice(scene.people)
    brought = f"{scene.rng.choice(scene.numbers(agent))} {scene.fit(lex.ERRANDS, agent).past}"
    return Contrast(
        ((guesses, f"{brought}."), (guesses, f"{brought} {scene.object(scene.thing())}.")), ("what", "that")
    )


def relative_pronoun_animacy(scene: Scene) -> Contrast:
    """Mila noticed the baker who was in the barn | Mila noticed the jug which was in the barn."""
    finder = scene.rng.choice(scene.couple())
    noticed = f"{the(finder)} {scene.either('noticed', 'remembered', 'forgot', 'painted')}"
    somebody, something = scene.fit(scene.people, lex.WHO), scene.fit(scene.things, lex.WHO)
    rest = f"was {scene.place()}."
    frames = (f"{noticed} the {somebody.text}", rest), (f"{noticed} the {something.text}", rest)
    return Contrast(frames, ("who", "which"))


def correlative_conjunction(scene: Scene) -> Contrast:
    """Both the dog in the barn and the cat sang | neither the dog in the barn nor the cat sang."""
    noun = scene.animate()
    companion = scene.companion(noun)
    verb, rest = scene.predicate(noun, companion)
    kinds = scene.rng.sample((("both", "and"), ("neither", "nor"), ("either", "or")), 2)
    left = f"the {noun.text} {scene.place() if scene.pairs else scene.anywhere()}"
    right = f"the {companion.text} {verb.past} {rest}."
    (both, and_), (neither, nor) = kinds
    return Contrast(((f"{both} {left}", right), (f"{neither} {left}", right)), (and_, nor))


def embedded_question_word_order(scene: Scene) -> Contrast:
    """Where in the old barn is the dog? | Do you know where in the old barn the dog is?"""
    number = scene.rng.randrange(2)
    subject, verb = scene.numbers(scene.noun())[number], ("is", "are")[number]
    room = scene.rng.choice(scene.rooms)
    where = "where"
    if scene.pairs or scene.chance(0.4):
        where = f"where in the {scene.fit(lex.LOOKS, room).text} {room.text}"
    name = scene.rng.choice(scene.rng.choice(scene.named_couples)).text
    asking = scene.either("do you know", f"does {name} remember", f"can {name} guess")
    return Contrast(((where, "?"), (f"{asking} {where}", "?")), (f"{verb} {subject}", f"{subject} {verb}"))


Phenomenon = Callable[[Scene], Contrast]

# Field and linguistics term of each, in BLiMP's manner; its UID is its function's name.
PHENOMENA: dict[Phenomenon, tuple[str, str]] = {
    subject_verb_agreement: ("morphology", "subject_verb_agreement"),
    distractor_agreement_prepositional_phrase: ("morphology", "subject_verb_agreement"),
    distractor_agreement_relative_clause: ("morphology", "subject_verb_agreement"),
    subject_verb_agreement_coordination: ("morphology", "subject_verb_agreement"),
    question_auxiliary_agreement: ("morphology", "subject_verb_agreement"),
    anaphor_gender_agreement: ("morphology", "anaphor_agreement"),
    anaphor_number_agreement: ("morphology", "anaphor_agreement"),
    tag_question_agreement: ("morphology", "anaphor_agreement"),
    determiner_noun_agreement: ("morphology", "determiner_noun_agreement"),
    determiner_noun_agreement_with_adjective: ("morphology", "determiner_noun_agreement"),
    question_verb_form: ("morphology", "verb_form"),
    npi_licensing: ("semantics", "npi_licensing"),
    relative_pronoun_animacy: ("syntax_semantics", "relative_pronouns"),
    wh_vs_that_gap: ("syntax", "filler_gap_dependency"),
    correlative_conjunction: ("syntax", "coordination"),
    embedded_question_word_order: ("syntax", "word_order"),
}
