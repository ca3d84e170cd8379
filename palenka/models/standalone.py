"""Model folders for others: as they are, or with code beside the weights where others need it.

They do of our own architectures, and of one of transformers that learned to see all of a text. The code is one file,
for transformers 4.51 and 5 alike: what an architecture's own file imports of Palenka is copied into it before. It is
only ever written here: Palenka loads no code from a folder.
"""

import ast
import importlib
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from palenka.data.tokenizer import BOS, EOS, load_tokenizer, save_tokenizer
from palenka.models import architectures
from palenka.models.config import ARCHITECTURES
from palenka.models.folder import CONFIG, check_model_folder, weights_sha256
from palenka.paradigms import DOOR as PARADIGMS
from palenka.paradigms._learned import learned
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_json, removed_on_error, replace, sync_tree, write_json, write_text

ELSEWHERE = f"{architectures.__name__}._elsewhere"
FORMS = {
    "AutoModelForCausalLM": "ForCausalLM", "AutoModelForMaskedLM": "ForMaskedLM", "AutoModel": "Model",
    "AutoModelForSequenceClassification": "ForSequenceClassification",
}  # fmt: skip
"""What a class of transformers loads is called the architecture's name with this behind it."""
OF_A_MODEL = (
    CONFIG, "generation_config.json", "model*.safetensors", "model*.safetensors.index.json", "tokenizer*",
    "special_tokens_map.json", "README.md", "config.yaml", "ledger.json",
)  # fmt: skip
"""Of a run, config.yaml says how the model learned, and on which text; ledger.json, what that and its teachers' was."""
ONLY_IN_RELEASE_5 = ("transformers.modeling_layers.GradientCheckpointingLayer", "transformers.initialization")
OF_RELEASE_5 = """\
if transformers.__version__.startswith("4."):
    raise ImportError("this model sees all of a text, which a GPT-2 of transformers 4 cannot: it needs transformers 5")
"""
COMPATIBLE = """\
try:
    from transformers import initialization as init
    from transformers.modeling_layers import GradientCheckpointingLayer
except ImportError:  # transformers 4
    from torch.nn import init

    GradientCheckpointingLayer = nn.Module
"""


def export_folder(source: Path, out: Path, with_code: bool) -> None:
    """Write what others need of a model folder, whole or not at all.

    Args:
        source: a run, or another model folder.
        out: the new folder.
        with_code: whether to add code.

    Raises:
        UserError: `source` is not whole, `out` is there, or the model needs code and is not to have it, or the other
            way round.
    """
    architecture = check_export(source, with_code)
    if out.exists():
        raise UserError(f"{out}: is there already; name another folder with --out, or move it away")
    make_folder(out.parent)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with removed_on_error(temporary):
        temporary.mkdir()
        for path in files_of_model(source):
            shutil.copy(path, temporary)
        if with_code:
            _add_code(temporary, architecture)
        sync_tree(temporary)
        replace(temporary, out)


def _sees_all(folder: Path) -> bool:
    return any(PARADIGMS.find(name).attention == "full" for name in learned(folder).part_names)


def check_export(source: Path, with_code: bool) -> str:
    """The architecture of a model folder that is whole, with the code that it needs.

    Raises:
        UserError: it is not, or needs code and is not to have it, or the other way round.
    """
    architecture = check_model_folder(source).model_type
    weights_sha256(source)
    is_own = architecture in ARCHITECTURES.available()
    if is_own and not with_code:
        raise UserError(f"{source}: transformers does not know the architecture {architecture}; add --with-code")
    if with_code and not is_own and not _sees_all(source):
        raise UserError(f"{source}: transformers knows a causal {architecture} without code; leave --with-code out")
    return architecture


def files_of_model(folder: Path) -> list[Path]:
    """What others need of a model folder, but for code."""
    return [path for pattern in OF_A_MODEL for path in sorted(folder.glob(pattern))]


def _add_code(folder: Path, architecture: str) -> None:
    """Code beside the weights, and a tokenizer that puts a text between `<s>` and `</s>`, as others rely on."""
    config = read_json(folder / CONFIG)
    text, classes = standalone_code(architecture, config["architectures"][0], _sees_all(folder))
    write_text(folder / f"{architecture}.py", text)
    of_code: dict[str, object] = {"auto_map": {form: f"{architecture}.{name}" for form, name in classes.items()}}
    if architecture in ARCHITECTURES.available():
        of_code |= {"architectures": [classes["AutoModelForCausalLM"]]}
    write_json(folder / CONFIG, config | of_code)
    save_tokenizer(between_marks(load_tokenizer(folder)), folder)


def between_marks(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer that makes `<s> A </s>` of a text and `<s> A </s> B </s>` of two; a text's own ids stay."""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        f"{BOS} $A {EOS}", f"{BOS} $A {EOS} $B {EOS}", [(BOS, tokenizer.bos_token_id), (EOS, tokenizer.eos_token_id)]
    )
    return tokenizer


def standalone_code(architecture: str, causal: str, sees_all: bool) -> tuple[str, dict[str, str]]:
    """The file that makes a model known to others, and its classes by those of transformers that load them.

    Args:
        architecture: one of our own, or of transformers.
        causal: the name of its causal class.
        sees_all: whether the model learned to see all of a text, as its states then do for others.

    Raises:
        UserError: the architecture's file imports more of Palenka than its door.
    """
    is_own = architecture in ARCHITECTURES.available()
    own = _in_order(f"{architectures.__name__}.{architecture}") if is_own else ()
    files = {name: _source(name) for name in (*own, ELSEWHERE)}
    imports = {line for source in files.values() for line in _imports(ast.parse(source))}
    name = causal if is_own else re.sub("(ForCausalLM|LMHeadModel)$", "", causal)
    forms = FORMS if is_own else {form: ending for form, ending in FORMS.items() if form != "AutoModelForCausalLM"}
    classes = {form: f"{name}{ending}" for form, ending in forms.items()}
    states = f"{FORMS['AutoModelForMaskedLM' if sees_all else 'AutoModelForCausalLM']}, States"
    bases = {"Model": states, "ForSequenceClassification": f"ForSequenceClassification, {states}"}
    written = [f"class {name}{end}({bases.get(end, end)}, {causal}):\n    pass\n" for end in forms.values()]
    if is_own:
        classes |= {"AutoConfig": ARCHITECTURES.find(architecture).Config.__name__}
    else:
        imports |= {"import transformers", f"from transformers import {causal}"}
    before = [COMPATIBLE] if is_own else [OF_RELEASE_5] if architecture == "gpt2" else []
    head = f'"""{name}, for `trust_remote_code=True` in transformers 4.51 and 5; written by `palenka export`."""\n'
    parts = [f"{head}\n" + "\n".join(sorted(imports)), *before, *map(_without_imports, files.values()), *written]
    return "\n\n".join(parts), classes


def _source(module: str) -> str:
    return Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")


def _in_order(module: str) -> Iterator[str]:
    """A file of the door after those of it that it imports, any of which may come several times."""
    for needed in _of_palenka(ast.parse(_source(module))):
        if not needed.startswith(architectures.__name__):
            raise UserError(
                f"{_path(module)}: imports {needed}, which others do not have: what a model needs belongs in its file, "
                f"or in one of {_path(architectures.__name__)} that begins with an underscore"
            )
        yield from _in_order(needed)
    yield module


def _path(module: str) -> str:
    return module.replace(".", "/")


def _of_palenka(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("palenka"):
            yield str(node.module)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Its imports, but for those of Palenka, and for those that only transformers 5 has."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("palenka"):
            node.names = [name for name in node.names if f"{node.module}.{name.name}" not in ONLY_IN_RELEASE_5]
            if node.names:
                yield ast.unparse(node)


def _without_imports(source: str) -> str:
    """A file from after its docstring, imports and `__all__` on."""
    body = ast.parse(source).body
    before = itertools.takewhile(lambda node: not isinstance(node, ast.ClassDef | ast.FunctionDef), body)
    last = max(node.end_lineno or 0 for node in before if not isinstance(node, ast.Assign) or _is_all(node))
    return "\n".join(source.splitlines()[last:]).strip() + "\n"


def _is_all(node: ast.Assign) -> bool:
    return ast.unparse(node.targets[0]) == "__all__"
