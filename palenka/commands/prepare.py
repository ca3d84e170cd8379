"""Clean text, train a tokenizer, write memory-mapped tokens."""

import argparse
from typing import get_args

from palenka.data.holdout import Place
from palenka.data.prepare import prepare
from palenka.data.rows import Columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = "folder of <domain>.{0} files, .txt, .jsonl or .parquet file or a folder of those, or hf:OWNER/NAME"
    for split, note in (("train", ""), ("dev", ", to measure on"), ("test", " (optional)")):
        parser.add_argument(f"--{split}", required=split == "train", metavar="TEXT", help=source.format(split) + note)
    parser.add_argument("--dev-fraction", type=float, metavar="F", help="hold out this part of --train, without --dev")
    parser.add_argument("--dev-from", choices=get_args(Place), default="documents",
                        help="hold out documents by their content, or each file's last lines (default: documents)")
    parser.add_argument("--text-column", default="text", metavar="NAME", help="column of rows (default: text)")
    parser.add_argument("--domain-column", metavar="NAME", help="column that names a row's domain (default: none)")
    parser.add_argument("--boundary", action="append", default=[], metavar="MARK",
                        help="a mark at which documents end, such as '<|endoftext|>' (repeatable)")  # fmt: skip
    parser.add_argument("--name", required=True, help="the prepared data's name; a config's data.name")
    parser.add_argument("--vocab-size", type=int, default=16_000, help="entries of the tokenizer (default 16000)")


def run(arguments: argparse.Namespace) -> None:
    prepare(
        arguments.train, arguments.dev, arguments.test, arguments.name, arguments.vocab_size,
        dev_fraction=arguments.dev_fraction, dev_from=arguments.dev_from,
        columns=Columns(arguments.text_column, arguments.domain_column), boundaries=arguments.boundary,
    )  # fmt: skip
