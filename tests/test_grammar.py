"""The demo's language: its text, its minimal pairs, and that frequencies and n-grams do not give the pairs away."""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palenka.data.demo import lexicon as lex
from palenka.data.demo.grammar import write_demo
from palenka.data.demo.phenomena import PHENOMENA, Phenomenon, determiner_noun_agreement
from palenka.data.demo.scene import Scene

Pairs = dict[str, list[dict]]
SPLITS = ("train", "dev", "test")
DOMAINS = ("simple_wiki", "childes", "gutenberg")


@dataclass
class Demo:
    text: dict[str, dict[str, str]]  # split: domain: text
    pairs: Pairs

    @property
    def lines(self) -> Iterator[str]:
        """The training text's lines, without titles and speakers."""
        for text in self.text["train"].values():
            for line in text.splitlines():
                if line and not line.startswith("= = ="):
                    yield line.split("\t")[-1]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder / "text", folder / "pairs", words=150_000)
    return Demo(
        {split: {d: (folder / f"text/{split}/{d}.{split}").read_text("utf-8") for d in DOMAINS} for split in SPLITS},
        {path.stem: [json.loads(line) for line in path.open()] for path in sorted((folder / "pairs").iterdir())},
    )


def tokens(sentence: str) -> list[str]:
    """Words and marks, with a beginning."""
    return ["<s>", *re.findall(r"[A-Za-z']+|[.,?!]", sentence)]


# Files


@pytest.mark.usefixtures("processes")
def test_only_the_seed_decides_the_bytes(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from palenka.data.demo.grammar import write_demo as w; "
    code += "folder = Path(sys.argv[1]); w(folder / 'text', folder / 'pairs', words=5000, seed=int(sys.argv[2]))"
    for name, seed, hashing in (("one", "3", "1"), ("two", "3", "2"), ("other", "4", "1")):
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name), seed], env=environment, check=True)
    one, two, other = (files(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


def test_size_and_shares(demo: Demo) -> None:
    words = {split: sum(len(text.split()) for text in demo.text[split].values()) for split in SPLITS}
    assert 150_000 <= words["train"] <= 151_000
    assert 12_000 <= words["dev"] <= 13_000
    assert 12_000 <= words["test"] <= 13_000


@pytest.mark.parametrize("split", SPLITS)
def test_documents_have_the_layout_of_their_domains(demo: Demo, split: str) -> None:
    titles = {"simple_wiki": r"[A-Z][a-z]+", "childes": r"village/\d{5}\.cha", "gutenberg": r"PG\d+"}
    lines = {
        "simple_wiki": r"[A-Z].*[.?]",
        "childes": r"\*(MOT|FAT|GRM|CHI):\t[A-Z].*[.?!]",
        "gutenberg": r"[A-Z].*[.?]",
    }
    for domain, text in demo.text[split].items():
        assert text.endswith("\n\n")
        for document in text.rstrip("\n").split("\n\n"):
            title, *body = document.split("\n")
            assert re.fullmatch(rf"= = = {titles[domain]} = = =", title)
            assert len(body) >= 2
            assert all(re.fullmatch(lines[domain], line) for line in body)


def test_no_document_stands_twice(demo: Demo) -> None:
    documents = [
        document.split("\n", 1)[1]
        for split in SPLITS
        for text in demo.text[split].values()
        for document in text.strip().split("\n\n")
    ]
    assert len(set(documents)) == len(documents) > 1000


def test_pairs_have_the_shape_of_blimp(demo: Demo) -> None:
    assert len(demo.pairs) >= 8
    for name, items in demo.pairs.items():
        assert len(items) == 200
        assert [item["pair_id"] for item in items] == list(range(200))
        assert {item["UID"] for item in items} == {name}
        assert all(
            item.keys() == {"sentence_good", "sentence_bad", "field", "linguistics_term", "UID", "pair_id"}
            for item in items
        )
        assert len({item["sentence_good"] for item in items}) == 200


# English


def test_forms_of_words() -> None:
    everything = lex.WOMEN + lex.MEN + lex.ANIMALS + lex.THINGS
    plurals = {noun.text: noun.plural for noun in everything}
    regular = {"girl": "girls", "boy": "boys", "witch": "witches", "fox": "foxes", "donkey": "donkeys", "plum": "plums"}
    irregular = {"woman": "women", "man": "men", "goose": "geese", "mouse": "mice", "loaf": "loaves"}
    for singular, plural in {**regular, **irregular}.items():
        assert plurals[singular] == plural
    verbs = {verb.text: verb for verb in lex.ACTIONS + lex.ERRANDS + lex.REFLEXIVES}
    forms = {
        "carry": "carries carried carried",
        "sing": "sings sang sung",
        "wash": "washes washed washed",
        "dance": "dances danced danced",
        "hum": "hums hummed hummed",
    }
    for base, others in forms.items():
        assert f"{verbs[base].third} {verbs[base].past} {verbs[base].participle}" == others


def test_articles_before_vowels(demo: Demo) -> None:
    text = "\n".join(demo.lines)
    assert re.search(r"\b[Aa]n owl\b", text)
    assert not re.search(r"\b[Aa] [aeiou]", text)
    assert not re.search(r"\b[Aa]n [^aeiou]", text)
    assert not re.search(r"  | [.,?!]", text)


IRREGULAR = {"women": "woman", "men": "man", "geese": "goose", "mice": "mouse", "loaves": "loaf"}
SHE = {"Mila", "Ana", "Zora", "Vera", "girl", "woman", "grandmother", "aunt", "queen", "witch"}
HE = {"Emil", "Ivan", "Pavel", "Oto", "boy", "man", "grandfather", "uncle", "king", "wizard"}
ANYBODY = {"baker", "miller", "gardener", "fiddler", "beekeeper", "distiller"}
ANIMALS = {"dog", "cat", "goose", "mouse", "hen", "hedgehog", "owl", "fox", "bee", "donkey"}
LIFELESS = {"plum", "pear", "jug", "basket", "barrel", "kettle", "spoon", "lamp", "bell", "ladder", "loaf", "hat"}
BARE = set(re.findall(r"\w+", """
    sleep sing dance sneeze yawn swim whistle snore hum run wait jump see follow like hear know meet chase visit greet
    tickle bring carry take find hold mend lose polish
"""))  # fmt: skip
PLACES = {"garden", "barn", "kitchen", "cellar", "orchard", "mill", "well", "gate", "bridge", "pond", "hill", "oven"}
NOUNS = SHE | HE | ANYBODY | ANIMALS | LIFELESS | PLACES


def nouns(sentence: str) -> list[tuple[str, bool]]:
    """Each noun or name, as (singular, whether it is plural), in order."""
    found = []
    for word in tokens(sentence):
        singular = IRREGULAR.get(word) or next(
            (word.removesuffix(end) for end in ("es", "s") if word.removesuffix(end) in NOUNS), word
        )
        if singular in NOUNS:
            found.append((singular, singular != word))
    return found


def head_agrees(sentence: str, verb: str) -> bool:
    return verb.endswith("s") != nouns(sentence)[0][1]


def joined_subject_agrees(sentence: str, verb: str) -> bool:
    return verb.endswith("s") != (" and " in sentence)


def pronoun_agrees(sentence: str, pronoun: str) -> bool:
    noun, plural = nouns(sentence)[0]
    gender = "she" if noun in SHE else "he" if noun in HE else "it"
    right = {"she": ("she", "herself"), "he": ("he", "himself"), "it": ("it", "itself")}[gender]
    return pronoun in (("they", "themselves") if plural else right)


def noun_agrees(sentence: str, word: str) -> bool:
    determiner = re.search(r"\b(this|that|these|those)\b", sentence)
    assert determiner
    return nouns(word) == [(nouns(word)[0][0], determiner[1] in ("these", "those"))]


def question_agrees(sentence: str, auxiliary: str) -> bool:
    return auxiliary.endswith("s") != nouns(sentence)[0][1]


def verb_is_bare_after_does(sentence: str, verb: str) -> bool:
    return (verb in BARE) != ("you know that" in sentence)


def polarity_fits(sentence: str, word: str) -> bool:
    return sentence.startswith("No ") == (word == "ever")


def gap_fits(sentence: str, word: str) -> bool:
    """`what` leaves the embedded verb, which ends the sentence, without its object."""
    return (word == "what") == (len(nouns(sentence)) == 2)


def relative_fits(sentence: str, pronoun: str) -> bool:
    antecedent = re.search(rf"(\w+) {pronoun}\b", sentence)
    assert antecedent
    return (antecedent[1] in LIFELESS) == (pronoun == "which")


def correlative_fits(sentence: str, word: str) -> bool:
    return {"Both": "and", "Neither": "nor", "Either": "or"}[sentence.split()[0]] == word


def order_fits(sentence: str, words: str) -> bool:
    return sentence.startswith("Where") == words.startswith(("is", "are"))


CHECKERS: dict[str, Callable[[str, str], bool]] = {
    "subject_verb_agreement": head_agrees,
    "distractor_agreement_prepositional_phrase": head_agrees,
    "distractor_agreement_relative_clause": head_agrees,
    "subject_verb_agreement_coordination": joined_subject_agrees,
    "question_auxiliary_agreement": question_agrees,
    "anaphor_gender_agreement": pronoun_agrees,
    "anaphor_number_agreement": pronoun_agrees,
    "tag_question_agreement": pronoun_agrees,
    "determiner_noun_agreement": noun_agrees,
    "determiner_noun_agreement_with_adjective": noun_agrees,
    "question_verb_form": verb_is_bare_after_does,
    "npi_licensing": polarity_fits,
    "relative_pronoun_animacy": relative_fits,
    "wh_vs_that_gap": gap_fits,
    "correlative_conjunction": correlative_fits,
    "embedded_question_word_order": order_fits,
}


def difference(one: str, other: str) -> tuple[str, str]:
    """What stands in the one sentence only, and in the other only."""
    first, second = one.rstrip(".?").split(), other.rstrip(".?").split()
    places = [place for place, words in enumerate(zip(first, second, strict=True)) if words[0] != words[1]]
    cut = slice(places[0], places[-1] + 1)
    return " ".join(first[cut]).lower(), " ".join(second[cut]).lower()


def test_good_is_english_and_bad_is_not(demo: Demo) -> None:
    assert demo.pairs.keys() == CHECKERS.keys()
    for name, items in demo.pairs.items():
        for item in items:
            good, bad = item["sentence_good"], item["sentence_bad"]
            right, wrong = difference(good, bad)
            assert CHECKERS[name](good, right), good
            assert not CHECKERS[name](bad, wrong), bad


@pytest.mark.parametrize("phenomenon", PHENOMENA, ids=lambda phenomenon: phenomenon.__name__)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_sentences_of_a_pair_have_as_many_words(phenomenon: Phenomenon, seed: int) -> None:
    contrast = phenomenon(Scene(Random(seed), pairs=True))
    for side in range(2):
        good, bad = contrast.sentence(side, side), contrast.sentence(side, 1 - side)
        assert good != bad
        assert len(good.split()) == len(bad.split())


# No giveaway


def test_word_frequencies_say_nothing(demo: Demo) -> None:
    """Two neighbouring pairs have the same words on the good side as on the bad."""
    for items in demo.pairs.values():
        for one, two in zip(items[::2], items[1::2], strict=True):
            good, bad = (Counter(tokens((one[side] + two[side]).lower())) for side in ("sentence_good", "sentence_bad"))
            assert good == bad


FORMS = {
    form: verb
    for verb in lex.ACTIONS + lex.STIRRINGS + lex.ENCOUNTERS + lex.ERRANDS + lex.REFLEXIVES
    for form in (verb.text, verb.third, verb.past, verb.participle)
}
NAMED = {
    form: noun
    for noun in lex.WOMEN + lex.MEN + lex.TRADES + lex.ANIMALS + lex.THINGS + lex.WOMEN_NAMES + lex.MEN_NAMES
    for form in (noun.text, noun.plural)
    if form
}


def partner(word: str, following: str) -> tuple[lex.Word, lex.Word] | None:
    """The two words of the lexicon, if this is a kind of bigram that the pairs hang on."""
    if word in NAMED and following in FORMS:
        return NAMED[word], FORMS[following]
    if word in NAMED and following in ("who", "which"):
        return NAMED[word], lex.WHO
    if word in ("this", "these", "that", "those") and following in NAMED:
        return lex.THIS, NAMED[following]
    described = {adjective.text: adjective for adjective in lex.TEMPERS + lex.LOOKS}
    if word in described and following in NAMED:
        return described[word], NAMED[following]
    return None


def test_held_out_combinations_are_not_in_the_text(demo: Demo) -> None:
    seen = set()
    for line in demo.lines:
        words = tokens(line)
        seen |= set(zip(words, words[1:], strict=False))
    combinations = [both for bigram in seen if (both := partner(*bigram))]
    assert len(combinations) > 2000
    assert [both for both in combinations if lex.held_out(*both)] == []


def test_held_out_verbs_are_not_in_the_text_across_a_phrase_either(demo: Demo) -> None:
    combinations = [
        (NAMED[match[1]], FORMS[match[2]])
        for line in demo.lines
        for match in re.finditer(r"(\w+) (?:near|behind|in) the (?:\w+ )?\w+ (\w+)", line)
        if match[1] in NAMED and match[2] in FORMS
    ]
    assert len(combinations) > 500
    assert not any(lex.held_out(*both) for both in combinations)


def test_no_sentence_of_a_pair_is_in_the_text(demo: Demo) -> None:
    sentences = {sentence for line in demo.lines for sentence in re.findall(r"[A-Z][^.?!]*[.?!]", line)}
    for items in demo.pairs.values():
        for item in items:
            assert item["sentence_good"] not in sentences
            assert item["sentence_bad"] not in sentences


class FiveGrams:
    """Stupid backoff (Brants et al. 2007) over words."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        for line in lines:
            words = tokens(line)
            self.counts[()] += len(words)
            for order in range(1, 6):
                self.counts.update(tuple(words[i : i + order]) for i in range(len(words) - order + 1))

    def score(self, sentence: str) -> float:
        words = tokens(sentence)
        return sum(self.word(tuple(words[max(0, i - 4) : i + 1])) for i in range(1, len(words)))

    def word(self, gram: tuple[str, ...]) -> float:
        if self.counts[gram]:
            return math.log(self.counts[gram] / self.counts[gram[:-1]])
        return math.log(0.4) + self.word(gram[1:]) if len(gram) > 1 else -20.0


def accuracy(score: Callable[[str], float], pairs: list[tuple[str, str]]) -> float:
    """Share of (good, bad) in which the good one scores higher; a tie, up to rounding, counts half."""
    differences = [round(score(good) - score(bad), 9) for good, bad in pairs]
    return sum(1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in differences) / len(pairs)


@pytest.fixture(scope="module")
def five_grams(demo: Demo) -> FiveGrams:
    return FiveGrams(demo.lines)


def test_five_grams_know_what_they_have_seen(five_grams: FiveGrams) -> None:
    """The same phenomenon with combinations of the text: the n-gram is no straw man."""
    contrasts = [determiner_noun_agreement(Scene(Random(seed))) for seed in range(100)]
    pairs = [(c.sentence(side, side), c.sentence(side, 1 - side)) for c in contrasts for side in range(2)]
    assert accuracy(five_grams.score, pairs) > 0.9


def test_five_grams_decide_the_pairs_by_chance(demo: Demo, five_grams: FiveGrams) -> None:
    accuracies = {
        name: accuracy(five_grams.score, [(item["sentence_good"], item["sentence_bad"]) for item in items])
        for name, items in demo.pairs.items()
    }
    assert max(accuracies.values()) < 0.6, accuracies
    assert 0.4 < sum(accuracies.values()) / len(accuracies) < 0.55
