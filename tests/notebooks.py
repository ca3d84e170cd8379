"""Notebooks as they run: by this interpreter, in a folder of their own."""

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from palenka.util.paths import ROOT


def execute(path: Path, folder: Path, **settings: str) -> Any:
    """Run a notebook by this interpreter; all that it or Jupyter writes goes to `folder`."""
    write_kernel(folder / "jupyter" / "kernels" / "python3")
    places = {
        "PALENKA_DATA": "data", "PALENKA_EVAL": "evaluation_data", "TMPDIR": "tmp", "MPLCONFIGDIR": "matplotlib",
        "IPYTHONDIR": "ipython", "JUPYTER_PATH": "jupyter", "JUPYTER_DATA_DIR": "jupyter",
        "JUPYTER_CONFIG_DIR": "jupyter-config", "JUPYTER_RUNTIME_DIR": "jupyter-runtime",
    }  # fmt: skip
    (folder / "tmp").mkdir()
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import sys; print(sys.executable)", id="interpreter"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TRAIN", "DEV", "TEST", "NAME", "VOCAB_SIZE", "RUNS", "OUT"):
            patch.delenv(f"PALENKA_NOTEBOOK_{name}", raising=False)
        for variable, place in places.items():
            patch.setenv(variable, str(folder / place))
        for variable, value in {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **settings}.items():
            patch.setenv(variable, value)
        patience = {"timeout": 600, "startup_timeout": 300, "iopub_timeout": 300}  # a machine may be busy
        where = {"kernel_name": "python3", "resources": {"metadata": {"path": folder}}}
        client = NotebookClient(notebook, **patience, **where)
        return client.execute()


def write_kernel(folder: Path) -> None:
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": command, "display_name": "this interpreter", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")


def outputs(notebook: Any, name: str) -> list[Any]:
    [cell] = [cell for cell in notebook.cells if cell.id == name]
    return cell.outputs


def printed(notebook: Any, name: str) -> str:
    return "".join(output.text for output in outputs(notebook, name) if output.output_type == "stream")
