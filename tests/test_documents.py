"""Documents stay documents: where each domain's boundaries are seen, and where there are none to see."""

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palenka.data.clean import BOUNDARY, DOMAINS, Effects, clean_text
from palenka.data.documents import ROW_END, split_documents


def documents(domain: str, text: str) -> list[list[str]]:
    """The clean documents of a raw text."""
    found: list[list[str]] = [[]]
    for line in clean_text(domain, text.splitlines(keepends=True), Effects()):
        if line == BOUNDARY:
            found.append([])
        else:
            found[-1].append(line)
    return found if found != [[]] else []


def test_articles_keep_their_title_as_the_first_line() -> None:
    text = "It ends here.\n\n= = = Bee (insect) = = =\nA bee flies.\nIt hums.\n\n= = = Ant = = =\nAn ant walks.\n"
    assert documents("simple_wiki", text) == [
        ["It ends here."],
        ["Bee (insect)", "A bee flies.", "It hums."],
        ["Ant", "An ant walks."],
    ]


def test_an_article_is_never_glued_to_the_next_even_without_a_blank_line() -> None:
    assert documents("simple_wiki", "First article ends here\n= = = B = = =\nSecond.\n") == [
        ["First article ends here"],
        ["B", "Second."],
    ]


def test_transcripts_lose_their_header() -> None:
    text = "= = = UK/Anna/010203.cha = = =\n*MOT:\thello.\n\n= = = UK/Anna/010204.cha = = =\n*CHI: bye.\n"
    assert documents("childes", text) == [["MOT: hello."], ["CHI: bye."]]


def test_in_books_only_a_header_parts() -> None:
    text = "= = = PG12 = = =\nOnce upon a time.\n\nThere was a fox.\n\n= = = PG13 = = =\nAnother book.\n"
    assert documents("gutenberg", text) == [["Once upon a time.", "There was a fox."], ["Another book."]]


def test_recordings_end_at_a_blank_line() -> None:
    assert documents("bnc_spoken", "Yes .\n\nNo\n") == [["Yes."], ["No"]]


def test_films_are_one_document() -> None:
    assert documents("open_subtitles", "Run!\nWhere to?\n") == [["Run!", "Where to?"]]


def test_articles_of_2023() -> None:
    """Their titles are lines like any other; in wikipedia headers mark them, and blank lines part paragraphs."""
    assert documents("simple_wikipedia", "Bee\nA bee flies.\n\nAnt\nAn ant walks.\n") == [
        ["Bee", "A bee flies."],
        ["Ant", "An ant walks."],
    ]
    text = "Cut off.\n\n = = = Bee = = = \n\nA bee flies.\n\n = = Life = = \nShort.\n = = = Ant = = =\nAn ant walks.\n"
    assert documents("wikipedia", text) == [
        ["Cut off."],
        ["Bee", "A bee flies.", "Life", "Short."],
        ["Ant", "An ant walks."],
    ]


def test_books_of_the_childrens_book_test_start_at_their_title() -> None:
    text = "It ended .\n_BOOK_TITLE_ : A_B___A_Tale.txt.out\nOnce .\n\nTwice .\n_BOOK_TITLE_ : C.txt.out\nNow .\n"
    assert documents("cbt", text) == [["It ended."], ["Once.", "Twice."], ["Now."]]


def test_a_tale_ends_at_a_blank_line_but_its_title_stays_with_it() -> None:
    text = "The Fox\n\nOnce there was a fox.\nIt slept.\n\nThe Hen\n\n\nA hen sat.\nIt rose.\n"
    assert documents("children_stories", text) == [
        ["The Fox", "Once there was a fox.", "It slept."],
        ["The Hen", "A hen sat.", "It rose."],
    ]


def test_blank_lines_between_lectures_mean_nothing() -> None:
    assert documents("qed", "So here we go.\n\nOkay.\n") == [["So here we go.", "Okay."]]


def test_transcripts_of_2023_are_one_document() -> None:
    assert documents("aochildes", "look .\nwhat 's that ?\n") == [["look.", "what's that?"]]
    assert documents("switchboard", "Bye-bye.\nBye.\n" + 4 * "so,\n") == [["Bye-bye.", "Bye.", *4 * ["so,"]]]


WORDS = [f"word{number}" for number in range(400)]
WRAPPED = textwrap.fill(" ".join(WORDS), 70)
VERSE = "The fox has slept\nBeneath the tree\nAnd never wept\n"


def test_paragraphs_in_lines_of_fixed_width_are_joined() -> None:
    text = f"CHAPTER I\n\n{WRAPPED}\n\n{VERSE}\n  {WRAPPED}\n= = = PG2 = = =\n{WRAPPED}\n"
    assert documents("gutenberg", text) == [
        ["CHAPTER I", " ".join(WORDS), *VERSE.splitlines(), " ".join(WORDS)],
        [" ".join(WORDS)],
    ]


@pytest.mark.parametrize("text", [VERSE * 20, 30 * (" ".join(WORDS[:30]) + "\n"), WRAPPED[:700]])
def test_lines_that_are_paragraphs_stay_apart(text: str) -> None:
    """Verse alone, whole paragraphs a line as in 2024, and too little to tell."""
    assert documents("gutenberg", text) == [text.splitlines()]


def test_any_other_text_is_parted_by_blank_lines_alone() -> None:
    assert documents("mine", "= = = A = = =\nOne .\n\n\n_BOOK_TITLE_ : b\n") == [
        ["= = = A = = =", "One ."],
        ["_BOOK_TITLE_ : b"],
    ]


@pytest.mark.parametrize("domain", [*DOMAINS, "mine"])
def test_a_row_is_a_document_in_every_domain(domain: str) -> None:
    effects = Effects()
    clean = list(clean_text(domain, ["One.", "Two.", ROW_END, "Three.", ROW_END, ROW_END, "Four.", ROW_END], effects))
    assert clean == ["One.", "Two.", BOUNDARY, "Three.", BOUNDARY, "Four."]
    assert effects == Effects(
        lines=4, documents=3, bytes_in=19, bytes_out=23, removed={"line_ends": -4, "blank_lines_and_headers": 0}
    )


CALL = "A:\tSo long then.\nB:\tBye-bye.\nA:\tBye.\n"
NEXT = "B:\tDo you fish?\nA:\tI do.\nB:\tOften?\nA:\tYes.\n"


def test_a_call_ends_where_both_have_said_good_bye() -> None:
    assert documents("switchboard", CALL + NEXT) == [
        ["A: So long then.", "B: Bye-bye.", "A: Bye."],
        ["B: Do you fish?", "A: I do.", "B: Often?", "A: Yes."],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "A:\tBye-bye.\n" + NEXT,  # one of them alone
        "A:\tI told him bye-bye and that was the end of it.\nB:\tBye he said, to his boss and all.\n" + NEXT,
        NEXT,
    ],
)
def test_elsewhere_calls_stay_joined(text: str) -> None:
    assert len(documents("switchboard", text)) == 1


def test_a_call_is_not_cut_between_its_farewells() -> None:
    text = "A:\tBye.\nB:\tBye.\nA:\tTake care.\nB:\tYou too.\nA:\tOkay, bye-bye.\n" + NEXT
    assert [document[-1] for document in documents("switchboard", text)] == ["A: Okay, bye-bye.", "A: Yes."]


def test_farewells_at_the_end_of_a_file_lose_nothing() -> None:
    assert documents("switchboard", CALL + "A:\tOops.\n") == [
        ["A: So long then.", "B: Bye-bye.", "A: Bye.", "A: Oops."]
    ]


raw_lines = st.lists(
    st.sampled_from(
        ["", "  ", "= = =", "= = = Title = = =", "words of text.", "A:\tBye.", "B:\tBye-bye.", "A:\tso", "."]
    ),
    max_size=30,
)


@settings(deadline=None)
@given(lines=raw_lines, domain=st.sampled_from([*DOMAINS, "mine"]))
def test_boundaries_stand_between_documents_only(lines: list[str], domain: str) -> None:
    effects = Effects()
    clean = list(clean_text(domain, [f"{line}\n" for line in lines], effects))
    assert effects.documents == (clean.count(BOUNDARY) + 1 if clean else 0)
    assert clean[:1] != [BOUNDARY] and clean[-1:] != [BOUNDARY]
    assert (BOUNDARY, BOUNDARY) not in set(zip(clean, clean[1:], strict=False))


@settings(deadline=None)
@given(lines=raw_lines, domain=st.sampled_from(DOMAINS))
def test_splitting_passes_every_line_of_text_on_in_order(lines: list[str], domain: str) -> None:
    passed = [line for line in split_documents(domain, lines) if line != BOUNDARY]
    text = [line for line in lines if line.strip() and not line.startswith("= = =")]
    assert [line for line in passed if line != "Title"] == text
    assert all(passed)


def test_effects_are_counted() -> None:
    raw = ["= = = UK/a.cha = = =\n", "*MOT:\thello.\n", "*CHI:\t[squeals].\n", "\n", "an unchanged line.\n"]
    effects = Effects()
    assert list(clean_text("childes", raw, effects)) == ["MOT: hello.", "", "an unchanged line."]
    assert effects == Effects(
        lines=5, dropped=1, changed=1, documents=2, bytes_in=sum(map(len, raw)), bytes_out=12 + 19,
        removed={
            "blank_lines_and_headers": len(raw[0]) + 1, "spaces": 1, "bracketed_comments": 9, "lines_without_words": 6,
            "speaker_marks": 2,
        },
    )  # fmt: skip
