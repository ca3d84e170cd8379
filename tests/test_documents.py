"""Documents stay documents: where each domain's boundaries are seen, and where there are none to see."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palenka.corpus import BOUNDARY, DOMAINS, Effects, clean_text
from palenka.corpus.documents import split_documents


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
@given(lines=raw_lines, domain=st.sampled_from(DOMAINS))
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
        lines=5, dropped=1, changed=1, documents=2, bytes_in=sum(map(len, raw)), bytes_out=12 + 19
    )
