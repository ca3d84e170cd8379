"""The commands: `palenka …`, and what `train.py` and `distill.py` share."""

import argparse
import functools
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from palenka import commands
from palenka.commands import FROM_LAST_GOOD
from palenka.util.errors import Stopped, UserError
from palenka.util.paths import ROOT
from palenka.util.system_errors import refusal
from palenka.util.terminal import prepare_streams

RENAMED = {"--convention": "--protocol", "teacher-signal": "cache-logits"}
"""Former words of the command line: they are refused by the present ones."""
REMOVED = {"--resamples": "compare takes as many resamples as all results have"}
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # what a shell reports of a program ended by SIGPIPE
BUG = "This is a bug in Palenka. What was written before is whole; please report this with the command and its config."

gc.disable()  # what programs import is no garbage, and looking through it is a fifth of the time; until `command`


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command line's main(): errors that users can fix end it with a message and an exit code, without a traceback.

    Bad input has exit code 2, and what the system refuses those of `system_errors`. Anything else is our own fault, and
    keeps its traceback.
    """

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        _collect_garbage()
        prepare_streams()
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except UserError as error:
            _end(str(error), EXIT_BAD_INPUT)
        except Stopped as stopped:
            if str(stopped):
                print(stopped, file=sys.stderr)
            sys.exit(stopped.code)
        except BrokenPipeError:  # the reader, `head` say, has seen enough
            _drop_output()
            sys.exit(EXIT_BROKEN_PIPE)
        except KeyboardInterrupt:
            print("\ninterrupted; the same command resumes from the last checkpoint", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            found = refusal(error)
            if found is None:
                error.add_note(BUG)
                raise
            _end(found.message, found.code)

    return guarded


def _collect_garbage() -> None:
    """From now on, and among what is made from now on."""
    gc.freeze()
    gc.enable()


def _imported(name: str) -> ModuleType:
    """The module of a command; as with programs, what it imports is no garbage."""
    gc.disable()
    found = commands.find(name)
    _collect_garbage()
    return found


def _end(message: str, code: int) -> NoReturn:
    rank = os.environ.get("RANK", "0")
    print(f"error: {message}" if rank == "0" else f"error in process {rank}: {message}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # the output itself goes to the full disk
        _drop_output()
    sys.exit(code)


def _drop_output() -> None:
    """Discard what is still to be printed, so that the interpreter does not fail over it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_arguments(description: str | None, default_config: str | None = None) -> argparse.Namespace:
    """--config FILE [key.path=value …] [--dry-run]"""
    parser = _parser(description)
    parser.add_argument(
        "--config", type=Path, required=default_config is None,
        default=ROOT / default_config if default_config else None,
        help=f"the run's YAML file{f' (default: {default_config})' if default_config else ''}",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and the plan, train nothing")
    parser.add_argument("--from-last-good", action="store_true", help=FROM_LAST_GOOD)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="override a key of the config")
    return parser.parse_intermixed_args()


def _parser(description: str | None, **options: Any) -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=formatter, **options)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the subcommands."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _refuse_former_words(arguments)
    description = "A laboratory for training small language models from scratch and distilling them."
    parser = _parser(description, prog="palenka")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in commands.available().items():
        subparser = subparsers.add_parser(name, help=summary)
        if name in arguments[:1]:  # the others are not imported
            found = _imported(name)
            found.add_arguments(subparser)
            found.run(subparser.parse_intermixed_args(arguments[1:]))
            return
    parser.parse_args(arguments)


def _refuse_former_words(arguments: Sequence[str]) -> None:
    for word in arguments:
        name = word.partition("=")[0]
        if name in RENAMED and (name.startswith("-") or word is arguments[0]):
            raise UserError(f"{name} is called {RENAMED[name]} now")
        if name in REMOVED:
            raise UserError(f"{name} is no longer there: {REMOVED[name]}")
