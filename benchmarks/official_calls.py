"""Calls of an official pipeline's modules in one process of its own interpreter, whose imports count for nobody.

Each line of standard input asks for a call of `python -m module arguments…` in a folder:

    {"module": NAME, "arguments": [TEXT, …], "folder": FOLDER, "log": FILE, "threads": 1, "clock": "perf_counter"}

and is answered by a line of standard output, `{"seconds": …}`. What the module prints goes into the log.
"""

import json
import os
import runpy
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import evaluation_pipeline.reading.run
import evaluation_pipeline.sentence_zero_shot.run  # noqa: F401
import torch


def main() -> None:
    for line in sys.stdin:
        print(json.dumps({"seconds": call(**json.loads(line))}), flush=True)


def call(module: str, arguments: list[str], folder: str, log: str, threads: int, clock: str) -> float:
    torch.set_num_threads(threads)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    now = getattr(time, clock)
    with Path(log).open("w", encoding="utf-8") as said, redirect_stdout(said), redirect_stderr(said):
        started = now()
        try:
            runpy.run_module(module, run_name="__main__")
        except BaseException:
            traceback.print_exc()
            raise
        return now() - started


if __name__ == "__main__":
    main()
