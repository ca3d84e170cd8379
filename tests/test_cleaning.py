"""Cleaning: what each domain's function repairs, what it leaves, and what holds for any line."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palenka.data.clean import BOUNDARY, DOMAINS, Effects, clean_text
from palenka.data.cleaning import PLAIN, RULES, clean_line, cleaner_name, join_turns
from palenka.data.documents import ROW_END
from palenka.data.effects import NO_TEXT

# Raw line -> clean lines. A changed expectation here means that cleaning.VERSION has to be raised.
EXAMPLES: dict[str, list[tuple[str, list[str]]]] = {
    "aochildes": [
        ("look at the doggie .", ["look at the doggie."]),
        ("i do n't know what 's in it , do you ?", ["i don't know what's in it, do you?"]),
        ("you 're gon na get ta it and give me that .", ["you're gonna get ta it and give me that."]),
        ("the 's' here , not can not", ["the 's' here, not can not"]),
        (".", []),
    ],
    "bnc_spoken": [
        ("Yes . ", ["Yes."]),
        ("Well , I\tdo  n't know ,  do you ?", ["Well, I do n't know, do you?"]),
        ("Fish &amp; chips <pause> please", ["Fish & chips please"]),
        (".", []),
    ],
    "cbt": [
        ("`` I ca n't , '' said Tom 's aunt ; `` wait ! ''", ['"I can\'t," said Tom\'s aunt; "wait!"']),
        ("` Well , ' said he .", ["'Well,' said he."]),
        ("The girls ' dog was there -LRB- and ran -RRB- .", ["The girls' dog was there (and ran)."]),
        ("CHAPTER I. -LCB- Picture : p1.jpg -RCB- Once there was a fox .", ["CHAPTER I. Once there was a fox."]),
        ("He slept . -LSB- 12 -RSB- _So_ it was -LSB- he said -RSB- .", ["He slept. So it was [he said]."]),
        ("and\\/or \\* \\* \\*", ["and/or"]),
        ("-LCB- Picture : p2.jpg -RCB-", []),
    ],
    "childes": [
        ("*MOT:\twhere is the ball?", ["MOT: where is the ball?"]),
        ("*MOT: okay.", ["MOT: okay."]),
        ("*CHI:\t[squeals].", []),
        ("*CHI:\txxx.", []),
        ("[playing with blocks]", []),
        ("%add:\tCHI", []),
        ("*CHI:\tI want [points] that one. [MOT nods] %add: fat", ["CHI: I want that one."]),
        ("*CHI:\twant xxx yyy ball.", ["CHI: want ... ball."]),
        ("*CHI:\txxx the ball.", ["CHI: ... the ball."]),
        ("*MOT:\tgive it to Jwww [friend].", ["MOT: give it to J."]),
        ("*MOT:\tis it Jwww's hat?", ["MOT: is it J.'s hat?"]),
        ("*MOT:\tthat's for Awww.", ["MOT: that's for A."]),
        ("*MOT:\tthat's for Awww ?", ["MOT: that's for A.?"]),
        ("*CHI:\t&-uh I can('t) do it +//.", ["CHI: uh I can't do it ..."]),
        ("*CHI:\tthe &+fr frog went &=laughs away +...", ["CHI: the frog went away ..."]),
        ("*CHI:\tthe <big dog> [//] small dog@c barked.", ["CHI: the big dog small dog barked."]),
        ("*CHI:\ta jack+in+the+box!", ["CHI: a jack-in-the-box!"]),
        ("*MOT:\tlook ⌈at that⌉.", ["MOT: look at that."]),
        ("*CHI:\tgo ↫b-b↫boat.", ["CHI: go boat."]),
        ("*CHI:\tgo. %add: MOT *MOT:\tto [points *CHI: bed.", ["CHI: go.", "MOT: to", "CHI: bed."]),
        ('*MOT:\t" come in.', ['MOT: "come in."']),
        ('*MOT:\t" come in. "', ['MOT: "come in."']),
        ("*JO:\tnow you! *R: me?", ["JO: now you!", "R: me?"]),
        ("*MOT:\tcome here. [CHI runs", ["MOT: come here."]),
        ("*MOT:\t, well,, sit down.", ["MOT: well, sit down."]),
    ],
    "children_stories": [
        ("“Stay,” said the _fox_ .", ["“Stay,” said the fox."]),
        ("    It rained. [Illustration: A FOX]", ["It rained."]),
    ],
    "gutenberg": [
        ("She _did_ say =so=, and im_patient_ly.", ["She did say so, and impatiently."]),
        ("“No,” said he.", ["“No,” said he."]),
        ('He came. [Illustration: "THE _MAN_ CAME"] She went.', ["He came. She went."]),
        ("The river.[12] [Footnote 12: See p. 3.] It flows {iv}.", ["The river. It flows."]),
        ("* * * * *", []),
        ("He slept. * * * * * Morning came.", ["He slept. Morning came."]),
        ("*CHAPTER II* It rained.", ["CHAPTER II It rained."]),
        ("THE END. End of the Project Gutenberg EBook of A Tale, by B. C.", ["THE END."]),
        ("Produced by Ann Onymous", []),
        (
            "Produced by A. B. and the Online Distributed Proofreading Team at http://www.pgdp.net THE TALE",
            ["THE TALE"],
        ),
        ("Transcriber's Note: Hyphens were kept.", []),
        ("`Well,' said he, y^e olde ship.", ["'Well,' said he, ye olde ship."]),
        ("and then.... . . . silence", ["and then... silence"]),
        ("Mr. ---- was not in", ["Mr. ---- was not in"]),
    ],
    "open_subtitles": [
        ("- Who is there?", ["Who is there?"]),
        ("- Who is there? - Me. -You?", ["Who is there?", "Me.", "You?"]),
        ("Stay. — Why? ~ Because.", ["Stay.", "Why?", "Because."]),
        ("Not with-- You know.", ["Not with-- You know."]),
        ("WHERE IS DR. SMITH? I AM IN LONDON, ON TV.", ["Where is Dr. Smith? I am in London, on TV."]),
        ("OK.", ["OK."]),
        ("I'M NOT AFRAID.", ["I'm not afraid."]),
        ("MAN: Watch out!", ["Man: Watch out!"]),
        ("TOM: RUN!", ["Tom: Run!"]),
        ("McCoy: IT IS DEAD.", ["McCoy: It is dead."]),
        ("MAN 2:Wait.", ["MAN 2:Wait."]),
        ("Good. DOCTOR: Can you hear me?", ["Good.", "Doctor: Can you hear me?"]),
        ("Hello. (door closes) [MUSIC] {\\pos(1,2)}Bye.", ["Hello. Bye."]),
        ("You wanna ask if {\\she thinks}we're here?", ["You wanna ask if she thinks we're here?"]),
        ("♪ Oh, my love ♪", ["Oh, my love"]),
        ("# Oh, my love #", ["Oh, my love"]),
        ("We're # 1", ["We're 1"]),
        ("Subtitles by Somebody", []),
        ("Synced and corrected by nobody", []),
        ("www.a-page.com", []),
        ("Download from OpenSubtitles now", []),
        ("They synced by accident.", ["They synced by accident."]),
        (
            "l think l'm late, I'II go, feeI it, lt's AII right.",
            ["I think I'm late, I'll go, feel it, It's All right."],
        ),
        ("McIntyre and MacIver live in Iowa.", ["McIntyre and MacIver live in Iowa."]),
        ("I \ufffdm sure you don \ufffdt.", ["I'm sure you don't."]),
        ("What ? !", ["What?!"]),
        ("That was. . . . it", ["That was... it"]),
        ("He went.. ..and came.", ["He went... and came."]),
        ("$1 ,000,000", ["$1,000,000"]),
        ("Tom &amp; Ann <i>laugh</i>", ["Tom & Ann laugh"]),
    ],
    "qed": [
        ("- So let's see. - Yes? (Laughter)", ["So let's see.", "Yes?"]),
        ("f(x) = 2x + b , which is ( x ) .", ["f(x) = 2x + b, which is (x)."]),
        ("[MUSIC PLAYING] THlS lS WHAT l SAlD. NEXT.", ["This is what I said. Next."]),
        ("NASA and all", ["NASA and all"]),
        ("00:00:01,000 --&gt; 00:00:04,074", []),
        ("12", []),
        ("Translated by Somebody", []),
        ("Subtitles by the Amara.org community", []),
        ("Look it up on example.org, if you like.", ["Look it up on example.org, if you like."]),
        ("&amp;lt;i&amp;gt;Good&amp;lt;/i&amp;gt; morning &gt; night", ["Good morning > night"]),
    ],
    "simple_wiki": [
        ("Bees (; born &amp; bred) fly () home.[1][23]", ["Bees (born & bred) fly home."]),
        ("A town (Russian: \ufffd\ufffd\ufffd; 12 km) is here .", ["A town (12 km) is here."]),
        ("See http://a.b/c for &lt;br&gt; more &lt;ref&gt;Book&lt;/ref&gt; on it.", ["See for more on it."]),
        ("Club career statistics. 12||3 12||3 International career statistics. !Total||4||0", []),
        ("He plays. Club career statistics. 12||3 15||4", ["He plays."]),
        ("References.", []),
        ("It is a town. Other websites.", ["It is a town."]),
        ("Category:Towns", []),
        ("The function f(x, y) and (or) g()", ["The function f(x, y) and (or) g()"]),
        ("An area of , bordering it", ["An area of, bordering it"]),
    ],
    "simple_wikipedia": [("Bees () fly.[1] Other websites.", ["Bees fly."])],
    "switchboard": [
        ("uh-huh, .", ["uh-huh."]),
        ("A:\tYou too,", ["A: You too,"]),
        ("B:\tOh .", ["B: Oh."]),
        ("B:\tand, uh, .", ["B: and, uh."]),
        ("A:\tThat is so. *listen", ["A: That is so."]),
        ("A:\twe eat *sp:gnocchis all day", ["A: we eat all day"]),
        ("A:\tThat is so. *listen B:\tYes.", ["A: That is so. B: Yes."]),
    ],
    "wikipedia": [
        ("A [[bee]] of the [[family (biology)|family]] flies [3].", ["A bee of the family flies."]),
        ("= = Life = =", ["Life"]),
        ("[[Category:Bees]]", []),
        ("[[File:Bee.jpg|thumb|A [[bee]] at work]] It works.", ["It works."]),
    ],
}


@pytest.mark.parametrize(
    ("domain", "raw", "clean"), [(domain, *example) for domain, examples in EXAMPLES.items() for example in examples]
)
def test_examples(domain: str, raw: str, clean: list[str]) -> None:
    assert clean_line(domain, raw) == clean


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  two\tspaces\u00a0here ", ["two spaces here"]),
        ("Fish &amp; chips &lt;i&gt;", ["Fish & chips <i>"]),
        ("in\u00advisible\u200b \ufeff´ ¨", ["invisible '"]),
        ("left , alone ! ... = = A = = [1] www.a.com", ["left , alone ! ... = = A = = [1] www.a.com"]),
        ("* * *", ["* * *"]),
        (" \u200b ", []),
    ],
)
def test_any_other_domain_is_cleaned_by_the_plain_rules(raw: str, clean: list[str]) -> None:
    assert clean_line("mine", raw) == clean
    assert cleaner_name("mine") == PLAIN and cleaner_name("childes") == "childes"


def test_every_domain_has_examples() -> None:
    assert set(EXAMPLES) == set(DOMAINS)


def test_sentences_over_several_lines_are_joined_for_the_same_speaker_only() -> None:
    lines = ["A: You too,", "A: and thanks.", "A: Well", "B: right", "B: so I hear", "B: We go", "", "B: on"]
    assert list(join_turns(lines, Effects())) == [
        "A: You too, and thanks.",
        "A: Well",
        "B: right so I hear",
        "B: We go",
        "",
        "B: on",
    ]


raw_text = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            [*"[](){}<>&;.,:?!*_=+-~#|\"'\ufffd\t\u00a0", " ", "a", "word", "MOT", "I", "l", "xxx", "&lt;", "'"]
        ),
        max_size=25,
    ).map("".join),
)


@settings(deadline=None)
@given(raw=raw_text, domain=st.sampled_from([*DOMAINS, "mine"]))
def test_a_clean_line_is_one_line_of_single_spaced_text(raw: str, domain: str) -> None:
    for line in clean_line(domain, raw):
        assert line and line == " ".join(line.split())
        assert domain == "mine" or any(character.isalnum() or character == "_" for character in line)
        assert len(unicodedata.normalize("NFKC", line).split()) == len(line.split())


words = st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "and", "slept", "until", "noon"])


@settings(deadline=None)
@given(lines=st.lists(st.lists(words, min_size=1, max_size=8), max_size=12), domain=st.sampled_from(DOMAINS))
def test_plain_text_keeps_every_word_in_order(lines: list[list[str]], domain: str) -> None:
    raw = [" ".join(line).capitalize() + " .\n" for line in lines]
    clean = [line for line in clean_text(domain, raw, Effects()) if line != BOUNDARY]
    assert clean == [line.replace(" .\n", ".") for line in raw]


TALE = "Once there was a fox who lived in the wood near the old mill. " * 100
MARKS = {
    "aochildes": ["<", "<!--", "http://www.a.org"],
    "bnc_spoken": ["<b", "<!-- -- >"],
    "cbt": ["_BOOK_TITLE_ :", "-LCB- Picture", "[ Illustration"],
    "childes": ["*MOT:\tYes. %add: CHI", "*MOT:\t[points", "= = = a/b.cha", "↫", "&=", "@"],
    "children_stories": ["[Footnote 1:", "Transcriber's Note:"],
    "gutenberg": [
        "END OF THE PROJECT GUTENBERG EBOOK", "Transcriber's Notes", "Produced by Ann Onymous", "[Illustration: A",
        "E-text prepared by A and the Proofreading Team (This book is", "<a", "=", "~", "+",
    ],
    "open_subtitles": ["Subtitles by Ann", "Look at www.a.org", "(door", "[MUSIC", "{\\pos(1", "{\\she says"],
    "qed": ["Translated by Ann", "00:00:01,000 --> 00:00:04,074", "(Laughter", "[Music"],
    "simple_wiki": ["<ref name=a>", "<ref", "<math>", "<div", "Category:Foxes", "#REDIRECT", "<!--", "(", "{|"],
    "simple_wikipedia": ["File:Fox.jpg", "= = = Fox"],
    "switchboard": ["A:\tThat is so. *listen", "B:\t*sp:"],
    "wikipedia": ["[[File:Fox.jpg|thumb|", "[[", "[[Fox|"],
}  # fmt: skip


@pytest.mark.parametrize(("domain", "mark"), [(domain, mark) for domain, marks in MARKS.items() for mark in marks])
@pytest.mark.parametrize("closing", ["", "]", "]]", ")", "}", ">", "-->", "</ref>", " = = ="])
def test_a_text_on_one_line_is_not_eaten(domain: str, mark: str, closing: str) -> None:
    """Whatever opens or closes in it: none of the tale's 1,400 words is lost."""
    clean = list(clean_text(domain, [f"It ended. {TALE}{mark} {TALE}{closing}\n"], Effects()))
    assert "".join(clean).count("who lived in the wood near the old mill") == 200
    clean = list(clean_text(domain, [f"{mark} {TALE}{closing}\n"], Effects()))
    assert "".join(clean).count("who lived in the wood near the old mill") == 100


@pytest.mark.parametrize("domain", [*DOMAINS, "mine"])
@pytest.mark.parametrize("piece", ["a", "= ", "-", ", ", '"', "a-", "I", "(", "[ ", "<", "1", "\ufffd "])
def test_long_lines_of_one_character_are_cleaned_in_passing(domain: str, piece: str) -> None:
    """A rule whose time grows with the square of a line's length would take hours over these."""
    effects = Effects()
    list(clean_text(domain, [piece * 100_000 + "x\n"], effects))
    assert effects.bytes_in == effects.bytes_out + sum(effects.removed.values())


pieces_of_raw_text = st.sampled_from(
    [
        *"[](){}<>&;.,:?!*_=+-~#|\"'\ufffd\t\u00a0 aIl", "word ", "É", "the fox ran. ", "*MOT:\t", "%add: ", "xxx ",
        "&amp;lt;", "´", "A:\t", "B:\t", "bye.", "= = = T = = =", "[Illustration: x]", "[[a|b]]", "<ref>r</ref>",
        "http://a.b ", "Subtitles by ", "♪", "\u200b", "\u2028", "\x0c", "\ufeff", "12||3", "TOM: RUN!", " - Yes.",
    ]
)  # fmt: skip
line_ends = st.sampled_from(["\n", "\r\n", "\r", ""])
raw_lines = st.lists(
    st.tuples(st.lists(pieces_of_raw_text, max_size=8).map("".join), line_ends).map("".join), max_size=12
)


@settings(deadline=None)
@given(lines=raw_lines, domain=st.sampled_from([*DOMAINS, "mine"]), rows=st.booleans())
def test_every_byte_is_kept_or_accounted_for(lines: list[str], domain: str, rows: bool) -> None:
    effects = Effects()
    clean = list(
        clean_text(domain, [part for line in lines for part in ([line, ROW_END] if rows else [line])], effects)
    )
    assert effects.bytes_in == sum(len(line.encode()) for line in lines if line != ROW_END)
    assert effects.bytes_out == sum(len(line.encode()) + 1 for line in clean if line != BOUNDARY)
    assert effects.bytes_in == effects.bytes_out + sum(effects.removed.values())
    assert set(effects.removed) <= NO_TEXT | {rule.__name__ for rule in RULES.get(domain, RULES["qed"])} | {
        "lines_without_words", "repeated_speakers",
    }  # fmt: skip


def test_what_a_rule_took_is_counted_under_its_name() -> None:
    effects = Effects()
    raw = ["*MOT:\tlook [points to the ball] there.\r\n", "\n", "*CHI:\t[laughs].\n"]
    assert list(clean_text("childes", raw, effects)) == ["MOT: look there."]
    assert effects.removed == {
        "bracketed_comments": len("[pointstotheball]") + len("[laughs]"),
        "speaker_marks": 2,
        "lines_without_words": len("CHI:.\n"),
        "spaces": 3 + 1 + 1,
        "line_ends": 1,
        "blank_lines_and_headers": 1,
    }
    assert effects.examples["bracketed_comments"] == "[points to the ball]"
    assert list(effects.shares) == ["bracketed_comments", "lines_without_words", "speaker_marks"]
    assert effects.share == pytest.approx((25 + 2 + 6) / sum(map(len, raw)))
    assert "examples" not in effects.record() and effects.record()["removed"] == effects.removed


@pytest.mark.skipif("PALENKA_SHARED_DATA" not in os.environ, reason="PALENKA_SHARED_DATA is not set")
@pytest.mark.parametrize("domain", ["childes", "gutenberg", "open_subtitles", "simple_wiki", "switchboard"])
def test_on_real_text_most_words_stay_and_markup_goes(domain: str) -> None:
    effects = Effects()
    with Path(os.environ["PALENKA_SHARED_DATA"], "babylm", "dev", f"{domain}.dev").open(encoding="utf-8") as raw:
        clean = list(clean_text(domain, raw, effects))
    assert 0.8 < effects.bytes_out / effects.bytes_in < 1
    assert effects.dropped < 0.05 * effects.lines
    assert not any(mark in line for line in clean for mark in ("&amp;", "<br", "http://", "  ", "\t", "= = =", "*MOT"))
