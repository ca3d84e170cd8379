"""Cleaning, line by line: the rules of a domain, one after another, make the clean line of a raw one.

A rule is a function that takes something out of a line, or repairs it; its name says what, in records and messages too.
None takes more than what it is for plausibly spans: a text may stand on one line, and a rule that reached for the end
of it would take all. Where a line's end, or a closing bracket, is further away than in any real text, the text stays.

A clean line is plain text with single spaces. It may come back as several lines (turns that stood in one), or empty:
nothing in it was text. What cannot be told apart is left as it is; each function says what that is.

The domains are those of BabyLM since 2024 (`childes`, `simple_wiki`, …) and of BabyLM 2023 (`aochildes`, `cbt`, …). Any
other is cleaned by the plain rules: single spaces, entities decoded, invisible characters and lone accents gone, no
more. Among the invisible are the joiners that Persian or Hindi spelling needs: plain is meant for English and its like.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from palenka.data.effects import LINE_ENDS, Effects

VERSION = 4
"""To be raised with every change that lets a raw text come out differently."""

PLAIN = "plain"
"""The name, in records, of the rules for domains that have none of their own."""

Rule = Callable[[str], str]
"""Of one line, which it may break into several."""

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,30});")
_INVISIBLE = re.compile(
    "[\\x00-\\x08\\x0e-\\x1b\\x7f-\\x84\\x86-\\x9f\\xad\\u200b-\\u200f\\u202a-\\u202e\\u2060\\ufeff]"
)
# Accents on their own: normalisation would make a space of each, with a mark on it.
_LONE_ACCENT = re.compile(
    "["
    + "".join(c for c in map(chr, range(0x80, 0x10000)) if " " in unicodedata.normalize("NFKC", c) and not c.isspace())
    + "]"
)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,500}>|<!--.{0,2000}?-->")
_URL = re.compile(r"(?:\bat )?\(?\b(?:https?://|www\.)[^\s()]{1,2000}\)?")
_SPELT_ELLIPSIS = re.compile(r"\.(?: \.){2,}")
_REPEATED_STOP = re.compile(r"([?!.]) \.(?=\s|$)")
_SPACE_BEFORE_MARK = re.compile(r"(?<=\S) +([,;:?!]+|\.|[)\]}])(?=\s|$|[\"')\]])")
_MARK_AFTER_SPACE = re.compile(r" [,;:?!.)\]}]")
_SPACE_IN_NUMBER = re.compile(r"(?<=\d) ,(?=\d{3})")
_SPACE_AFTER_BRACKET = re.compile(r"(?<=[(\[]) +")
_REPEATED_COMMA = re.compile(r",(?:\s*,)+")
_COMMA_BEFORE_STOP = re.compile(r",(?=[.?!](?!\.))")
_LONG_ELLIPSIS = re.compile(r"\.{4,}")
_LEADING_MARKS = re.compile(r"^(?:[,;:]\s*|[.?!]\s+)+")
_LABEL = re.compile(r"^([A-Z]\w{0,19}):(?:\s+|$)")
_WORD = re.compile(r"\w")
_LOST_APOSTROPHE = re.compile(r"(?<=[A-Za-z]) ?\ufffd ?(?=(?:s|t|m|d|ve|re|ll)\b)|(?<=[A-Za-z])`(?=[a-z])")


def clean_line(domain: str, line: str, effects: Effects | None = None) -> list[str]:
    """The clean lines of a raw line: mostly one; none where nothing in it was text. Adds to `effects.removed`."""
    effects = effects or Effects()
    text = line.rstrip("\r\n")
    if len(line) - len(text) != 1:
        effects.count(LINE_ENDS, len(line) - len(text) - 1)
    for rule in RULES.get(domain, BEGINNING):
        after = rule(text)
        if after != text:
            effects.note(rule.__name__, text, after)
            text = after
    pieces = text.split("\n")
    if domain in CLEANERS:
        kept = [piece for piece in pieces if _WORD.search(_LABEL.sub("", piece) if ":" in piece else piece)]
    else:
        kept = [piece for piece in pieces if piece]
    if len(kept) < len(pieces):
        effects.note("lines_without_words", "\n".join(pieces) + "\n", "".join(f"{piece}\n" for piece in kept))
    return kept


def cleaner_name(domain: str) -> str:
    """Whose rules clean a domain: its own, or the plain ones."""
    return domain if domain in CLEANERS else PLAIN


# --- rules for all domains


def entities(line: str) -> str:
    """HTML entities become the characters they stand for, also where they were encoded twice (`&amp;lt;`)."""
    for _ in range(2):
        if "&" in line:
            line = _ENTITY.sub(lambda entity: html.unescape(entity[0]), line)
    return line


def invisible_characters(line: str) -> str:
    if line.isascii() and line.replace("\t", " ").isprintable():
        return line
    return _LONE_ACCENT.sub("", _INVISIBLE.sub("", line).replace("´", "'"))


def spaces(line: str) -> str:
    """Any white space becomes a single space; that of a line break of another kind (U+2028, NEL, form feed) too."""
    return " ".join(line.split())


BEGINNING: tuple[Rule, ...] = (entities, invisible_characters, spaces)
"""What all text goes through first; text of unknown domains through nothing else."""


def tags(line: str) -> str:
    return _TAG.sub(" ", line) if "<" in line else line


def addresses(line: str) -> str:
    return _URL.sub("", line) if "://" in line or "www." in line else line


def punctuation(line: str) -> str:
    """Single spaces, none before a punctuation mark, and no marks left over where something was taken out."""
    return "\n".join(map(_tidy, line.split("\n")))


def _tidy(line: str) -> str:
    line = " ".join(line.split())
    label = _LABEL.match(line) if ":" in line else None
    if label:
        return f"{label[1]}: {_tidy_text(line[label.end() :])}"
    return _tidy_text(line)


def _tidy_text(line: str) -> str:
    if " ." in line:
        line = _SPELT_ELLIPSIS.sub("...", line)
        line = _REPEATED_STOP.sub(r"\1", line)
    if _MARK_AFTER_SPACE.search(line):
        line = _SPACE_BEFORE_MARK.sub(r"\1", line)
    if " ," in line:
        line = _SPACE_IN_NUMBER.sub(",", line)
    if ",," in line or ", ," in line:
        line = _REPEATED_COMMA.sub(",", line)
    if ",." in line or ",?" in line or ",!" in line:
        line = _COMMA_BEFORE_STOP.sub("", line)
    if "( " in line or "[ " in line:
        line = _SPACE_AFTER_BRACKET.sub("", line)
    if "...." in line:
        line = _LONG_ELLIPSIS.sub("...", line)
    return _LEADING_MARKS.sub("", line).strip() if line[:1] in ",;:.?!" else line.strip()


# --- bnc_spoken

BNC_SPOKEN = (tags, addresses, punctuation)
"""Speech, one sentence a line, without speakers: only spaces and markup are repaired.

Names that the corpus' makers blanked out are simply missing, and speakers cannot be told apart.
"""


# --- childes: CHAT (https://talkbank.org/manuals/CHAT.pdf), or what the official preprocessing left of it

_CHAT_LABEL = re.compile(r"^\*([A-Za-z0-9]{1,7}):\s*")
_CHAT_LABEL_INSIDE = re.compile(r"\s\*([A-Z0-9]{1,4}):\s*")
# Tiers and brackets without an end reach to that of the line, or to the next turn or tier in it.
_CHAT_NEXT = r"\s\*[A-Za-z0-9]{1,7}:|\s%[a-z]{3}:"
_CHAT_TIER = re.compile(rf"(?:^|(?<=\s))%[a-z]{{3}}:(?:(?!{_CHAT_NEXT}).){{0,300}}(?={_CHAT_NEXT}|$)")
_CHAT_BRACKETS = re.compile(r"\[[^\[\]]{0,1000}\]")
_CHAT_OPEN_BRACKET = re.compile(rf"\[(?:(?!{_CHAT_NEXT})[^\[]){{0,300}}(?={_CHAT_NEXT}|$)")
_CHAT_HEADER_REST = re.compile(r"(?<!\S)\S{1,200}\.cha = = =")
_CHAT_STUTTER = re.compile(r"↫[^↫]{0,50}↫")
_CHAT_EVENT = re.compile(r"&[=+~*{}]\S{0,100}|\b0[a-z]\w{0,50}|\(\d*\.+\d*\)")
_CHAT_FILLER = re.compile(r"&-(?=\w)")
_CHAT_TERMINATOR = re.compile(r"\+(?://?|\.\.)[.?]")
_CHAT_LINKER = re.compile(r"\+(?:[\"^,+<]|!(?=\?)|\"?/?\.(?=\s|$))")
_CHAT_FORM = re.compile(r"(?<=\w)@[\w:$*]{1,50}")
_CHAT_SHORTENED = re.compile(r"(?<=\w)\(([\w']+)\)|\(([\w']+)\)(?=\w)")
_CHAT_MARKS = re.compile(r"[⌈⌉⌊⌋↑↓‡„ˈˌ≠<>]")
_CHAT_COMPOUND = re.compile(r"(?<=\w)\+(?=\w)")
_CHAT_LINKED = re.compile(r"(?<=[\w'])_(?=\w)")
_CHAT_NAME = re.compile(r"\b([A-Za-z])www\b(?: ?\.(?!\.))?")
_CHAT_UNHEARD = re.compile(r"\b(?:xxx?|yyy?|www?)\b(?:[\s,]*\b(?:xxx?|yyy?|www?)\b)*")


def dependent_tiers(line: str) -> str:
    return _CHAT_TIER.sub("", line) if "%" in line else line


def bracketed_comments(line: str) -> str:
    if "[" not in line and "]" not in line:
        return line
    line = _CHAT_OPEN_BRACKET.sub("", _CHAT_BRACKETS.sub("", line))
    return line.replace("[", "").replace("]", "")


def transcript_headers(line: str) -> str:
    return _CHAT_HEADER_REST.sub("", line) if ".cha = = =" in line else line


def speaker_marks(line: str) -> str:
    """`*MOT: text` becomes `MOT: text`, each turn on a line of its own."""
    if line.startswith("*") and (label := _CHAT_LABEL.match(line)):
        line = f"{label[1]}: {line[label.end() :]}"
    return _CHAT_LABEL_INSIDE.sub(r"\n\1: ", line) if "*" in line else line


def transcription_codes(line: str) -> str:
    return "\n".join(map(_chat_text, line.split("\n")))


def _chat_text(turn: str) -> str:
    label = _LABEL.match(turn) if ":" in turn else None
    text = turn[label.end() :] if label else turn
    if "&" in text or "+" in text or "@" in text or "(" in text or "0" in text:
        text = _CHAT_FILLER.sub("", _CHAT_EVENT.sub("", text))
        text = _CHAT_LINKER.sub("", _CHAT_TERMINATOR.sub("...", text))
        text = _CHAT_SHORTENED.sub(r"\1\2", _CHAT_FORM.sub("", text))
        text = _CHAT_COMPOUND.sub("-", text)
    if not text.isascii() or "<" in text or ">" in text:
        text = _CHAT_MARKS.sub("", _CHAT_STUTTER.sub("", text))
    if "_" in text:
        text = _CHAT_LINKED.sub(" ", text)
    if "xx" in text or "yy" in text or "ww" in text:
        text = _CHAT_UNHEARD.sub("...", _CHAT_NAME.sub(_initial, text))
    if text.startswith('"'):
        text = '"' + text[1:].lstrip(" ").rstrip(' "') + '"'
    return f"{label[1]}: {text}" if label else text


def _initial(name: re.Match[str]) -> str:
    return name[1].upper() + "."


CHILDES = (
    dependent_tiers, bracketed_comments, transcript_headers, speaker_marks, transcription_codes, punctuation,
)  # fmt: skip
"""`*MOT:<tab>text` becomes `MOT: text`; annotations go, words stay.

Taken out: comments and descriptions in brackets, dependent tiers (`%add: …`), codes of events, overlap, retracing and
interruption. Fillers (`&-uh`) are speech and stay. What was not understood or not transcribed (`xxx`, `yyy`, `www`)
becomes `...`, so that the words around it are not read as neighbours; a name blanked out as `Jwww` its initial. An
utterance with no word left is empty. Left: lower-case starts of utterances, and words that a child says in his own way.
"""


# --- aochildes and cbt: text that was cut into words, as in "I do n't know , `` he said ."

_CUT_OFF = re.compile(r"(?<=\w) (?=(?:n't|'(?:s|m|d|ll|re|ve))(?![\w']))", re.IGNORECASE)
_CUT_IN_TWO = re.compile(r"\b(?:(gon|wan)(?= na\b)|(got)(?= ta\b)|(gim|lem)(?= me\b)) ", re.IGNORECASE)


def cut_words(line: str) -> str:
    """Words put together again that a tokenizer of the Penn Treebank's kind has cut. `can not` may have been two."""
    return _CUT_IN_TWO.sub(lambda word: next(filter(None, word.groups())), _CUT_OFF.sub("", line))


AOCHILDES = (tags, addresses, cut_words, punctuation)
"""Child-directed speech, one utterance a line, without speakers: `do n't` becomes `don't`, `gon na` `gonna`.

Left: lower-case starts of utterances. Speakers and transcripts cannot be told apart.
"""


# --- gutenberg

_BOOK_CREDIT = re.compile(
    r"(?:E-?text (?:prepared|produced)|Produced) by (?:(?!Produced by).){0,500}?"
    r"(?:pgdp\.net[^\s)]*|Proofread(?:ing|ers)(?: Canada)? [Tt]eam)(?: at https?\S+)?\)?"
    r"(?: \((?:This|Images?|The) (?:[^()]|\([^()]{0,200}\)){0,400}\))?"
)
_BOOK_CREDIT_LINE = re.compile(r"^(?:E-?text prepared by|Produced by|Transcribed from)\b[^\"“]{,150}$")
_BOOK_END = re.compile(r"(?<!\*)\**\s*END OF (?:THE |THIS )?PROJECT GUTENBERG.{0,300}$", re.IGNORECASE)
_BOOK_NOTE = re.compile(r"^\W{0,20}Transcriber['’]?s['’]? Notes?\b.{0,2000}$", re.IGNORECASE)
_BOOK_ASIDE = re.compile(
    r"\[_*(?:Illustration|Footnote|Decoration|Transcriber|Frontispiece|Blank Page|Sidenote)[^\[\]]{0,2000}\]",
    re.IGNORECASE,
)
_BOOK_REFERENCE = re.compile(r"\s?\[(?:\d{1,4}|[A-Z]|[*†‡§]+)\]|\s?\{[ivxlc\d]+\}")
_BOOK_STRONG = re.compile(r"(?<![\w=])=(?=[^\s=])([^=]*[^\s=])=(?!=)")
_BOOK_SMALL_CAPITALS = re.compile(r"(?<!\w)~(?=\S)([^~]+)~|\+(\w+)\+")
_BOOK_RAISED = re.compile(r"\^(?:\{(\w+)\}|(?=\w))")
_BOOK_RULE = re.compile(r"(?:\* ?){2,}|[-_=—―]{5,}|\+-{3,}|-{3,}\+|(?<!\S)\+(?!\S)")
_BOOK_DASHES = re.compile(r"[-_=—―][-_=—―]{4}")
_BOOK_EMPHASIS = re.compile(r"(?<!_)_(?!_)|\*")


def transcribers_notes(line: str) -> str:
    return _BOOK_NOTE.sub("", line)


def book_credits(line: str) -> str:
    return _BOOK_CREDIT_LINE.sub("", _BOOK_CREDIT.sub("", line).strip())


def closing_lines(line: str) -> str:
    return _BOOK_END.sub("", line) if "utenberg" in line or "UTENBERG" in line else line


def broken_characters(line: str) -> str:
    return line.replace("\ufffd", "").replace("`", "'")


def illustrations_and_footnotes(line: str) -> str:
    return _BOOK_REFERENCE.sub("", _BOOK_ASIDE.sub(" ", line)) if "[" in line or "{" in line else line


def ornaments(line: str) -> str:
    """Rules of stars or dashes, marks of emphasis, raised letters and columns."""
    if "*" in line or "+" in line or _BOOK_DASHES.search(line):
        line = _BOOK_RULE.sub(" ", line)
    if "_" in line or "*" in line:
        line = _BOOK_EMPHASIS.sub("", line)
    if "=" in line or "~" in line or "+" in line or "^" in line:
        line = _BOOK_SMALL_CAPITALS.sub(r"\1\2", _BOOK_STRONG.sub(r"\1", line))
        line = _BOOK_RAISED.sub(r"\1", line)
    return line.replace("|", " ")


GUTENBERG = (
    transcribers_notes, book_credits, closing_lines, tags, addresses, broken_characters, illustrations_and_footnotes,
    ornaments, punctuation,
)  # fmt: skip
"""Books: emphasis marks (`_so_`, `=so=`, `*so*`), illustrations, footnotes in brackets and their numbers, rules of
stars or dashes, and the credits and closing lines of Project Gutenberg go.

Left: contents, indexes, advertisements and chapter headings, which nothing reliably marks; transcribers' notes and
credits that do not start a line; and `[stage directions]`. Tales for children (`children_stories`) are such books.
"""


# --- cbt: books for children, cut into words

_TREEBANK_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
_TREEBANK_BRACKET = re.compile(r"-[LR][RSC]B-")
_PICTURE = re.compile(r"\{[^{}]{0,1000}\}|\[ *(?:\d{1,4}|(?i:illustration|footnote)[^\[\]]{0,2000}) *\]")
_OPENING_QUOTES = re.compile(r"(``|`) *")
_CLOSING_QUOTES = re.compile(r" *('')|(?<=\S) (')(?= |$)")


def treebank_brackets(line: str) -> str:
    return _TREEBANK_BRACKET.sub(lambda bracket: _TREEBANK_BRACKETS[bracket[0]], line)


def pictures(line: str) -> str:
    return _PICTURE.sub(" ", line).replace("\\/", "/").replace("\\*", "")


def treebank_quotes(line: str) -> str:
    line = _OPENING_QUOTES.sub(lambda quote: '"' if quote[1] == "``" else "'", line)
    return _CLOSING_QUOTES.sub(lambda quote: '"' if quote[1] else "'", line)


CBT = (treebank_brackets, pictures, cut_words, treebank_quotes, *GUTENBERG)
"""Books of the Children's Book Test, cut into words: put together again, quotes and brackets written as usual.

Taken out: captions of pictures in braces, numbers of footnotes, emphasis marks. An apostrophe that stood apart is read
as the end of a quotation, or of a plural. Left: chapter headings in one line with the first sentence.
"""


# --- open_subtitles

_CREDIT = re.compile(
    r"\b(?:(?i:subtitle[sd]?|subtitling|sous-titrage)|Subs?|Captions?|Captioned|Captioning|Sync(?:ed|hronized)?"
    r"|Re-?sync(?:ed)?|Translat(?:ed|ion|or)|Transcript(?:ion)?|Transcribed|Ripped|Corrected|Corrections|Timing|Timed"
    r"|Encoded|Proofread)(?:,? (?:and |& )?(?:made|created|edited|corrected|improved|performed|provided|possible"
    r"|sponsored|extracted|ripped|downloaded|synced))*\s*(?:\b[Bb][Yy]\b|:|from\b)"
    r"|\b[Ss]ubtitles? (?:copyright|downloaded)|\bITFC Subtitles\b"
    r"|(?i:\b(?:addic7ed|opensubtitles?|open subtitles|hardsub|allsubs|subscene|tvsubtitles|podnapisi|yyets)\b)"
)
_ADDRESS = re.compile(r"(?i:https?:|www ?\. ?\w|\w\.(?:com|net|org)\b)")
_NAME_IN_CREDIT = re.compile("addic7ed|podnapisi|yyets")
_LONGEST_CREDIT = 250
"""Characters. Longer lines with a credit in them are mostly speech."""
_CODE = re.compile(
    r"\{\\(?:pos|move|an?|fad|fade|fs|fn|c|b|i|u|k|bord|shad)\d*(?:\([^)}]{0,100}\)|\([\d.,\s-]{0,30})?\}?"
    r"(?:\\\w{1,20}(?:\([^)}]{0,100}\))?)*\}?"
)
_SHOWN = re.compile(r"\{\\([A-Za-z][^{}\\]*)\}")
_ASIDE = re.compile(r"\[[^\[\]]{0,300}\]:?|\{[^{}]{0,300}\}|\([^()]{0,300}\):?")
_NOTES = re.compile(r"[♪♫♩♬¶]+|(?<!\S)[#*]+(?!\S)|(?<!\S)[#*](?=[\w'\"])|(?<=[\w.,!?'\"])[#*](?!\S)")
# Lookbehinds stand after the letter that they are about: a search for it is quick.
_MISREAD_CAPITAL = re.compile(
    r"l(?<![\w']l)(?=(?!\.\w)(?:'(?:m|ll|ve|d|II))?(?![\w'])|(?:t|f|n|s|ts|sn|nto|tself)(?:'\w+)?\b)"
)
_MISREAD_LL = re.compile(r"(?<=[a-z])II(?=[a-z]|\b)|(?<=')II\b|(?<=\bA)II\b")
_MISREAD_L = re.compile(r"I(?<=[a-z]I)(?<!\bMcI)(?<!\bMacI)(?<!\biI)(?<!\bDeI)(?<!\bLeI)(?<!\bDiI)(?=[a-z]*\b)")
_MISREAD_INITIAL = re.compile(
    r"I(?<=\bI)(?=(?:ike|ove|et|ook|ast|ong|ittle|ife|eave|ost|isten|ady|ight|eft)(?:s|d|ed|ing|er)?\b)"
)
_TURN = re.compile(r"(?<=[.?!…\"'])\s*[-–—~_]\s?(?=[\"'¿¡]?[A-Z])")
_LABEL_INSIDE = re.compile(r"(?<=[.?!…\"]) (?=[A-Z][A-Z'.]*(?: [A-Z'.]+| #?\d){0,2}: ?\S)")
_DASH = re.compile(r"^(?:[-–—~_]\s*)+(?=[^\s\-–—~_])")
_DASHES = ("-", "–", "—", "~", "_")
_CONTINUED = re.compile(r"^\.{2,}\s*(?=\w)|(?<=\.\.)\s+\.{2,}(?=\s*\w)")
_OPENING_QUOTE = re.compile(r"^([\"']) +\1?")
_TRAILING_OFF = re.compile(r"(?<!\.)\.\.(?!\.)|(?<=\w) \.\.\.(?!\S)")
_SPEAKER = re.compile(r"^([A-Z][\w'.]*(?: [A-Z][\w'.]*)?(?: #?\d)?): (?=\S)|^([A-Z][A-Z'.]+):(?=\S)")
_SENTENCE_START = re.compile(r"(^\W*|[.?!:]\s+[\"'(\[]*)(\w)")
_TITLED = re.compile(r"\b(mr|mrs|ms|dr|st|prof|sgt|lt|capt)(\.? )(\w)", re.IGNORECASE)
_PROPER = re.compile(
    r"\b(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|april|june|july|august|september"
    r"|october|november|december|christmas|easter|god|jesus|christ|lord|america|american|americans|english|england"
    r"|british|french|france|paris|german|germany|london|europe|new york|chinese|china|japan|japanese|russian|russia"
    r"|italian|italy|spanish|mexico|california|los angeles|hollywood|washington)\b"
)
_ACRONYM = re.compile(
    r"\b(?:ok|tv|fbi|cia|usa|uk|u\.s\.a|u\.s|nypd|lapd|dna|ceo|dvd|cd|bbc|cbs|nbc|abc|hbo|nasa|pc|dj|ufo|er|rv|suv|vip"
    r"|dc|d\.c|l\.a|ii|iii|iv|i(?!\.\w)|[a-z](?:-[a-z])+)\b"
)


def _is_credit(line: str) -> bool:
    """Whether a line has a credit or an address in it. What each has in it at least is looked for first."""
    if line.isascii():
        low = line.lower()
        credit = ":" in low or "by" in low or "from" in low or "sub" in low or _NAME_IN_CREDIT.search(low)
        address = "www" in low or "http" in low or ".com" in low or ".net" in low or ".org" in low
        return bool(credit and _CREDIT.search(line) or address and _ADDRESS.search(line))
    return bool(_CREDIT.search(line) or _ADDRESS.search(line))


def credit_lines(line: str) -> str:
    return "" if len(line) <= _LONGEST_CREDIT and _is_credit(line) else line


def sounds_and_directions(line: str) -> str:
    if "[" not in line and "(" not in line and "{" not in line:
        return line
    line = _SHOWN.sub(r"\1 ", _CODE.sub(" ", line)).replace("\\N", " ")
    return _ASIDE.sub(" ", _ASIDE.sub(" ", line))


def lost_apostrophes(line: str) -> str:
    return line if line.isascii() and "`" not in line else _LOST_APOSTROPHE.sub("'", line)


def notes_of_music(line: str) -> str:
    if line.isascii() and "#" not in line and "*" not in line:
        return line
    return _NOTES.sub(" ", line).replace("¡¦", "...").replace("\ufffd", "")


def misread_letters(line: str) -> str:
    line = _MISREAD_CAPITAL.sub("I", line)
    if "II" in line:
        line = _MISREAD_LL.sub("ll", line)
    return _MISREAD_L.sub("l", _MISREAD_INITIAL.sub("l", line)) if "I" in line else line


def turns(line: str) -> str:
    """Each turn on a line of its own, without the dash that opens it; capitals to sentence case."""
    line = " ".join(line.split())
    if ":" in line:
        line = _LABEL_INSIDE.sub("\n", line)
    if not line.isascii() or "-" in line or "~" in line or "_" in line:
        line = _TURN.sub("\n", line)
    return "\n".join(map(_subtitle_turn, line.split("\n")))


def _subtitle_turn(turn: str) -> str:
    turn = turn.strip(" ,;:")
    if turn.startswith(_DASHES):
        turn = _DASH.sub("", turn)
    if ".." in turn:
        turn = _TRAILING_OFF.sub("...", _CONTINUED.sub(" ", turn).lstrip())
    turn = turn.lstrip()
    if turn.startswith(("'", '"')):
        turn = _OPENING_QUOTE.sub(r"\1", turn)
    speaker = _SPEAKER.match(turn) if ":" in turn else None
    text = turn[speaker.end() :] if speaker else turn
    if text.upper() == text:
        text = _sentence_case(text)
    if not speaker:
        return text
    name = speaker[1] or speaker[2]
    return f"{name.title() if name.isupper() else name}: {text}"


def _sentence_case(text: str) -> str:
    text = _ACRONYM.sub(lambda found: found[0].upper(), text.lower())
    text = _SENTENCE_START.sub(lambda found: found[1] + found[2].upper(), text)
    text = _TITLED.sub(lambda found: found[1].capitalize() + found[2] + found[3].upper(), text)
    return _PROPER.sub(lambda found: found[0].title(), text)


OPEN_SUBTITLES = (
    tags, credit_lines, sounds_and_directions, lost_apostrophes, notes_of_music, misread_letters, turns, punctuation,
)  # fmt: skip
"""Dialogue of films, one turn a line: a dash that opens a turn goes, and a turn after one gets its own line.

Taken out: lines with credits or addresses, sounds and directions in any kind of bracket, notes of music (the lyrics
stay), formatting codes. Repaired: `l` for `I` and `I` for `l` where no English word is spelt so, lost apostrophes,
lines in capitals (sentence case, with a few well-known names), names of speakers (`TOM: Hi` becomes `Tom: Hi`). Left:
other names in lines that stood in capitals, words run together or spaced out, letters of wrong encodings. A credit
takes speech along that shares its line, but for a line longer than credits are: that stays whole.
"""


# --- qed: subtitles of lectures

_TIMING = re.compile(r"^\W*\d+\W*$|\d\d:\d\d(?::\d\d)?[,.]\d+|->")
_LECTURE_CREDIT = re.compile(r"(?i:\bamara\.org\b|\b(?:trans(?:lat|crib)|review|caption)ed by\b)")
_LECTURE_ASIDE = re.compile(
    r"(?<!\S)(?:\([A-Za-z][A-Za-z ',.-]{0,200}\)|\[[A-Za-z][A-Za-z ',.-]{0,200}\]):?(?=$|[\s.,])"
)


def credits_and_timing(line: str) -> str:
    found = _CREDIT.search(line) or _LECTURE_CREDIT.search(line) or _TIMING.search(line)
    return "" if found and len(line) <= _LONGEST_CREDIT else line


def sounds(line: str) -> str:
    return _NOTES.sub(" ", _LECTURE_ASIDE.sub(" ", _LOST_APOSTROPHE.sub("'", line)))


def lecture_turns(line: str) -> str:
    capitals = line.replace("l", "I")
    line = capitals if capitals.isupper() else line
    return "\n".join(map(_subtitle_turn, _TURN.sub("\n", " ".join(line.split())).split("\n")))


QED = (tags, addresses, credits_and_timing, sounds, lecture_turns, punctuation)
"""Subtitles of lectures, one a line: lines of credits or timing, sounds in brackets, notes of music, and dashes that
open a turn go; a line in capitals gets sentence case, `l` in it read as the `I` that it was.

Left: formulas. What a speaker says in parentheses goes with the sounds.
"""


# --- simple_wiki

_REFERENCE = re.compile(
    r"<ref\b[^<>]{0,500}?(?:/>|>.{0,2000}?</ref>)|<ref\b.{0,500}$|\[(?:\d{1,3}|citation needed|edit)\]", re.IGNORECASE
)
_UNCLOSED = re.compile(r"<(?:syntaxhighlight|math|code|gallery|source|div|span|br|small)\b[^<>]{0,500}$")
_TABLE = re.compile(
    r"(?:(?:Club|International|Career|National team) (?:career )?statistics\. *)?(?:!?[\w ]{0,12}\|\|[\d|()+–-]*\s*)+"
)
_CELL = re.compile(
    r"! *(?:rowspan|colspan|style|align|scope|width)=\S{1,200}(?: *\|)?"
    r"|(?:rowspan|colspan) *= *\S{1,200} *\|?|\{\||\|\}"
)
_STATISTICS = re.compile(
    r"(?:^| )(?:Club|International) career statistics\. *(?=$|(?:Club|International|Honou?rs|References))"
)
_LOST_SCRIPT = re.compile("\ufffd[\ufffd ,]*")
_EMPTY_QUOTES = re.compile(r'(?<!\S)""(?!\S)|“”')
_EMPTY_LANGUAGE = re.compile(r"\b[A-Z][a-z]+:\s*(?=[;,)]|\b(?:romanized|pinyin)\b)")
_EMPTY_PARENTHESES = re.compile(r" \((?:[\s,;:/]|(?<=\s)(?:and|or)(?=\s))*\)")
_PARENTHESIS_START = re.compile(r"\(\s*(?:[;,:]\s*)+")
_PARENTHESIS_END = re.compile(r"(?:\s*[;,:]){1,20}\s*\)")
_MARK_BEFORE_PARENTHESIS = re.compile(r"[;,:]\s*\)")
_SECTIONS = (
    "References", "Other websites", "Related pages", "Further reading", "Sources", "Notes", "Gallery", "Footnotes",
)  # fmt: skip
_END_MATTER = re.compile(rf"(?:^|(?<=[.!?\")\]]) )(?:{'|'.join(_SECTIONS)})\.?$")
_CATEGORY = re.compile(r"^(?:(?:Category|File|Image):|#REDIRECT).{0,500}$|=(?: =)+")


def references(line: str) -> str:
    return _REFERENCE.sub("", line) if "<" in line or "[" in line else line


def unclosed_tags(line: str) -> str:
    return _UNCLOSED.sub("", line) if "<" in line else line


def categories_and_headings(line: str) -> str:
    return _CATEGORY.sub(" ", line)


def lost_scripts(line: str) -> str:
    return _LOST_SCRIPT.sub(" ", _LOST_APOSTROPHE.sub("'", line)) if "\ufffd" in line else line


def tables(line: str) -> str:
    if "|" not in line and "career statistics." not in line:
        return line
    return _STATISTICS.sub(" ", _CELL.sub("", _TABLE.sub(" ", line))).replace("|", " ")


def empty_parentheses(line: str) -> str:
    if "(" not in line:
        return line
    line = _EMPTY_PARENTHESES.sub("", _EMPTY_LANGUAGE.sub("", line) if ":" in line else line)
    line = _PARENTHESIS_START.sub("(", line)
    return _PARENTHESIS_END.sub(")", line) if _MARK_BEFORE_PARENTHESIS.search(line) else line


def empty_sections(line: str) -> str:
    line = (_EMPTY_QUOTES.sub("", line) if '""' in line or "“”" in line else line).strip()
    return _END_MATTER.sub("", line) if line.removesuffix(".").endswith(_SECTIONS) else line


SIMPLE_WIKI = (
    references, tags, unclosed_tags, addresses, categories_and_headings, lost_scripts, tables, empty_parentheses,
    empty_sections, punctuation,
)  # fmt: skip
"""Encyclopaedia: entities, tags, references, addresses, remains of tables, parentheses that have lost their content,
and empty closing sections go. The Simple English Wikipedia of 2023 (`simple_wikipedia`) is such text.

Left: holes where a template stood ("an area of , bordering …"), `formula_1`, program code, lists without marks.
"""

_LINK = re.compile(r"\[\[(?:[^\[\]|]{0,300}\|){0,10}([^\[\]|]*)\]\]")
_FILE_LINK = re.compile(r"\[\[(?:Category|File|Image):(?:[^\[\]]|\[\[[^\[\]]{0,300}\]\]){0,1000}\]\]", re.IGNORECASE)


def links(line: str) -> str:
    return _LINK.sub(r"\1", _FILE_LINK.sub(" ", line)) if "[[" in line else line


WIKIPEDIA = (links, *SIMPLE_WIKI)
"""Encyclopaedia: of links the shown text stays; categories, files and the marks of headings go; then as `SIMPLE_WIKI`.
"""


# --- switchboard

_LONGEST_TURN = 1000
_TRANSCRIBER = re.compile(r"\*sp: ?\S{1,50}|\*(?:(?!\s[AB]:\s).){0,250}(?=\s[AB]:\s|$)")


def notes_behind_stars(line: str) -> str:
    return _TRANSCRIBER.sub("", line) if "*" in line else line


SWITCHBOARD = (tags, addresses, notes_behind_stars, punctuation)
"""Telephone calls: `A:<tab>text` becomes `A: text`; transcribers' notes after a star go. In 2023 there are no
speakers, and nothing tells whose a line is.

Left: repetitions and fillers, which are speech, and letters spoken one by one (`T V`).
"""


def join_turns(lines: Iterable[str], effects: Effects) -> Iterator[str]:
    """Join a clean line to the one before where the same speaker goes on with a sentence: after a comma, or in lower
    case where no full stop came before."""
    held = ""
    for line in lines:
        label = _LABEL.match(line)
        text = line[label.end() :] if label else line
        goes_on = held.endswith(",") or text[:1].islower() and not held.endswith((".", "?", "!", '"'))
        if label and held.startswith(label[0]) and goes_on and len(held) < _LONGEST_TURN:
            held += " " + text
            effects.note("repeated_speakers", f"\n{label[0]}", " ")
            continue
        if held:
            yield held
        held = line
        if not line:
            yield line
    if held:
        yield held


CLEANERS: dict[str, tuple[Rule, ...]] = {
    "aochildes": AOCHILDES,
    "bnc_spoken": BNC_SPOKEN,
    "cbt": CBT,
    "childes": CHILDES,
    "children_stories": GUTENBERG,
    "gutenberg": GUTENBERG,
    "open_subtitles": OPEN_SUBTITLES,
    "qed": QED,
    "simple_wiki": SIMPLE_WIKI,
    "simple_wikipedia": SIMPLE_WIKI,
    "switchboard": SWITCHBOARD,
    "wikipedia": WIKIPEDIA,
}

RULES = {domain: (*BEGINNING, *cleaner) for domain, cleaner in CLEANERS.items()}
