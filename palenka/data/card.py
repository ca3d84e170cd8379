"""The data card of prepared text: README.md with the front matter that the Hugging Face Hub reads.

Made from the record (prepared.json) alone, so that the two cannot differ; it quotes no text.
"""

from typing import Any

from huggingface_hub import DatasetCardData

from palenka.data.clean import DOMAINS
from palenka.data.effects import NO_TEXT, NOTEWORTHY, spoken
from palenka.data.tokenizer import SPECIAL_TOKENS

NOT_KNOWN = "not known to Palenka: look at your source"
LICENCES = {
    "aochildes": "CHILDES (TalkBank): CC BY-NC-SA 3.0",
    "bnc_spoken": "British National Corpus licence; BabyLM distributes a part of it under fair dealing",
    "cbt": "public domain (Children's Book Test: books of Project Gutenberg)",
    "childes": "CHILDES (TalkBank): CC BY-NC-SA 3.0",
    "children_stories": "public domain (books of Project Gutenberg)",
    "gutenberg": "public domain in the USA (Project Gutenberg)",
    "open_subtitles": "unclear: the films' makers hold rights (OpenSubtitles, through OPUS)",
    "qed": "terms of the QED corpus: https://opus.nlpl.eu/QED.php",
    "simple_wiki": "CC BY-SA (Wikipedia)",
    "simple_wikipedia": "CC BY-SA (Wikipedia)",
    "switchboard": "CC BY-NC-SA 3.0 (Switchboard Dialog Act Corpus)",
    "wikipedia": "CC BY-SA (Wikipedia)",
}
SIZE_CATEGORIES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
EXAMPLE_LENGTH = 128


def data_card(record: dict[str, Any]) -> str:
    """The card of a prepared folder. `record`: what its prepared.json holds."""
    sections = (_summary, _sizes, _sources, _licences, _cleaning, _tokenizer, _windows, _use)
    return f"---\n{_metadata(record)}\n---\n\n" + "\n\n".join(section(record) for section in sections) + "\n"


def _domains(record: dict[str, Any]) -> list[str]:
    return sorted({domain for split in record["splits"].values() for domain in split["domains"]})


def _metadata(record: dict[str, Any]) -> DatasetCardData:
    """The language is known only of known domains; the licence is that of each text."""
    known = set(_domains(record)) <= set(DOMAINS)
    documents = sum(split["documents"] for split in record["splits"].values())
    return DatasetCardData(
        pretty_name=record["name"],
        language=["en"] if known else None,
        license="other",
        task_categories=["text-generation"],
        size_categories=[next((name for limit, name in SIZE_CATEGORIES.items() if documents < limit), "10M<n<100M")],
        tags=["language-modeling", *(["babylm"] if known else [])],
    )


def _summary(record: dict[str, Any]) -> str:
    train = record["splits"]["train"]
    return (
        f"# {record['name']}\n\nText that Palenka cleaned and tokenised, to train small language models on: "
        f"{train['words']:,} words of training text, {train['tokens']:,} tokens, {train['documents']:,} documents."
    )


def _sizes(record: dict[str, Any]) -> str:
    columns = "documents | words | tokens | bytes | tokens per word | bytes per token"
    rows = [f"| split | domain | {columns} |", "|---|---|" + "---:|" * 6]
    for split, sizes in record["splits"].items():
        for name, row in [*sizes["domains"].items(), ("**all**", sizes)]:
            numbers = " | ".join(f"{row[key]:,}" for key in ("documents", "words", "tokens", "bytes"))
            ratios = f"{row['tokens'] / max(row['words'], 1):.3f} | {row['bytes'] / max(row['tokens'], 1):.3f}"
            rows.append(f"| {split} | {name} | {numbers} | {ratios} |")
    note = (
        "Words are what spaces part. Bytes are those of the cleaned text in UTF-8. "
        "The `</s>` that closes a document is one of its tokens."
    )
    return "## Sizes\n\n" + "\n".join(rows) + f"\n\n{note}"


def _sources(record: dict[str, Any]) -> str:
    rows = ["| split | domain | source | bytes | SHA-256 |", "|---|---|---|---:|---|"]
    for split, sizes in record["splits"].items():
        for name, domain in sizes["domains"].items():
            if "held_out" not in domain:
                rows += [f"| {split} | {name} | {_source(file)} |" for file in domain["files"]]
    text = "## Sources\n\n" + "\n".join(rows)
    if record["dev_fraction"] is not None:
        share = f"{100 * record['dev_fraction']:g} %"
        what = {
            "documents": f"each document whose text has a hash among the smallest {share}",
            "end": f"the last {share} of the lines of each domain",
        }
        text += f"\n\nThe dev text was held out of the training text: {what[record['dev_from']]}."
    return text


def _source(file: dict[str, Any]) -> str:
    name = f"`{file['name']}`"
    if "dataset" in file:
        name = f"`{file['dataset']}` {name}, revision `{file['revision']}`"
    return f"{name} | {file['bytes']:,} | `{file['sha256']}`"


def _licences(record: dict[str, Any]) -> str:
    rows = [f"| {domain} | {LICENCES.get(domain, NOT_KNOWN)} |" for domain in _domains(record)]
    return "## Licences\n\n" + "\n".join(["| domain | licence of the text |", "|---|---|", *rows])


def _cleaning(record: dict[str, Any]) -> str:
    rows = ["| split | domain | rules | lines | dropped | changed | bytes before | bytes after | text removed |"]
    rows.append("|---|---|---|" + "---:|" * 6)
    for split, sizes in record["splits"].items():
        for name, domain in sizes["domains"].items():
            if effects := domain.get("effects"):
                keys = ("lines", "dropped", "changed", "bytes_in", "bytes_out")
                numbers = " | ".join(f"{effects[key]:,}" for key in keys)
                rows.append(f"| {split} | {name} | {domain['cleaner']} | {numbers} | {_removed(effects)} |")
    note = (
        "Lines without any text are dropped, without counting blank ones and headers. Text removed is a share of the "
        "bytes before, without blank lines, headers, spaces and entities (`&amp;`) that were decoded; "
        f"from {100 * NOTEWORTHY:g} % on with the rule that took most of it. `prepared.json` has each rule's bytes."
    )
    if record["dev_fraction"] is not None:
        note += " What was held out was cleaned with the rest, and is counted there."
    return "## Cleaning\n\n" + "\n".join(rows) + f"\n\n{note}"


def _removed(effects: dict[str, Any]) -> str:
    share = f"{100 * effects['share']:.1f} %"
    if effects["share"] < NOTEWORTHY:
        return share
    taken = {rule: size for rule, size in effects["removed"].items() if rule not in NO_TEXT}
    return f"{share}, mostly {spoken(max(taken, key=taken.__getitem__))}"


def _tokenizer(record: dict[str, Any]) -> str:
    special, size = ", ".join(f"`{token}`" for token in SPECIAL_TOKENS), record["splits"]["train"]["bytes"]
    return f"""## Tokenizer

Byte-level BPE over NFKC-normalised text: {record["vocab_size"]:,} entries, special ones among them ({special}).
It was trained on the cleaned training text alone ({size:,} bytes), without pairs that occur only once. Each line begins
with its space, so that a sentence has the same tokens wherever it stands; a newline is a token of its own.
SHA-256 of `tokenizer/tokenizer.json`: `{record["tokenizer_sha256"]}`."""


def _windows(record: dict[str, Any]) -> str:
    room = EXAMPLE_LENGTH - 1
    train, dev = (-(-record["splits"][split]["tokens"] // room) for split in ("train", "dev"))
    return f"""## Windows

A run cuts windows of `data.seq_length` tokens as it trains; none is stored here. At {EXAMPLE_LENGTH}, a window is `<s>`
and {room} tokens of text, and starts at a line where one starts near. An epoch has at least {train:,} of them, cut anew
each time, and shows each token once as a label. The dev text has at least {dev:,}; `data.dev_samples` fixed ones of
them, spread over the domains, are measured. No window leaves its domain; it may reach over the end of a document."""


def _use(record: dict[str, Any]) -> str:
    return f"""## Use

In a config `data: {{name: {record["name"]}}}`, or on the command line:

```
python train.py --config FILE data.name={record["name"]}
```

`text/<split>/<domain>.txt` is the cleaned text, with a blank line between documents; `<split>/tokens.bin` its tokens;
`tokenizer/` loads with `AutoTokenizer`; `prepared.json` is what this page was made from. Whoever passes this folder on
passes on the text, under the licences above."""
