"""Model folders for others: as they are, or with the code of one of our own architectures beside the weights.

The code is one file, for transformers 4.51 and 5 alike: what an architecture's own file imports of Palenka is copied
into it before. It is only ever written here: Palenka loads no code from a folder.
"""

import ast
import importlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from palenka.data.tokenizer import BOS, EOS, load_tokenizer, save_tokenizer
from palenka.models import architectures
from palenka.models.config import ARCHITECTURES
from palenka.models.folder import CONFIG, check_model_folder, weights_sha256
from palenka.util.errors import UserError
from palenka.util.files import make_folder, read_json, removed_on_error, replace, sync_tree, write_json, write_text

ELSEWHERE = f"{architectures.__name__}._elsewhere"
FORMS = ("ForCausalLM", "ForMaskedLM")
OF_A_MODEL = (
    CONFIG, "generation_config.json", "model*.safetensors", "model*.safetensors.index.json", "tokenizer*",
    "special_tokens_map.json", "README.md", "config.yaml",
)  # fmt: skip
"""Of a run, config.yaml says how the model learned, and on which text."""
ONLY_IN_RELEASE_5 = ("transformers.modeling_layers.GradientCheckpointingLayer", "transformers.initialization")
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
        with_code: whether the architecture is one of our own, whose code others need.

    Raises:
        UserError: `source` is not whole, `out` is there, or the architecture needs code and is not to have it, or the
            other way round.
    """
    architecture = check_model_folder(source).model_type
    weights_sha256(source)
    is_own = architecture in ARCHITECTURES.available()
    if is_own and not with_code:
        raise UserError(f"{source}: transformers does not know the architecture {architecture}; add --with-code")
    if with_code and not is_own:
        raise UserError(f"{source}: transformers knows {architecture} without code; leave --with-code out")
    if out.exists():
        raise UserError(f"{out}: is there already; name another folder with --out, or move it away")
    make_folder(out.parent)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with removed_on_error(temporary):
        temporary.mkdir()
        for path in (path for pattern in OF_A_MODEL for path in sorted(source.glob(pattern))):
            shutil.copy(path, temporary)
        if with_code:
            _add_code(temporary, architecture)
        sync_tree(temporary)
        replace(temporary, out)


def _add_code(folder: Path, architecture: str) -> None:
    """Code beside the weights, and a tokenizer that puts a text between `<s>` and `</s>`, as others rely on."""
    name = ARCHITECTURES.find(architecture).__name__
    write_text(folder / f"{architecture}.py", standalone_code(architecture))
    classes = {f"AutoModel{form}": f"{architecture}.{name}{form}" for form in FORMS}
    config = ARCHITECTURES.find(architecture).Config.__name__
    of_code = {
        "architectures": [f"{name}{FORMS[0]}"], "auto_map": {"AutoConfig": f"{architecture}.{config}", **classes},
    }  # fmt: skip
    write_json(folder / CONFIG, read_json(folder / CONFIG) | of_code)
    save_tokenizer(between_marks(load_tokenizer(folder)), folder)


def between_marks(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer that makes `<s> A </s>` of a text and `<s> A </s> B </s>` of two; a text's own ids stay."""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        f"{BOS} $A {EOS}", f"{BOS} $A {EOS} $B {EOS}", [(BOS, tokenizer.bos_token_id), (EOS, tokenizer.eos_token_id)]
    )
    return tokenizer


def standalone_code(architecture: str) -> str:
    """The file that makes one of our own architectures known to others.

    Raises:
        UserError: the architecture's file imports more of Palenka than its door.
    """
    own = f"{architectures.__name__}.{architecture}"
    files = {name: _source(name) for name in (*_in_order(own), ELSEWHERE)}
    imports = sorted({line for source in files.values() for line in _imports(ast.parse(source))})
    model = ARCHITECTURES.find(architecture).__name__
    forms = [f"class {model}{form}({form}, {model}):\n    pass\n" for form in FORMS]
    head = f'"""{model}, for `trust_remote_code=True` in transformers 4.51 and 5; written by `palenka export`."""\n'
    return "\n\n".join([f"{head}\n" + "\n".join(imports), COMPATIBLE, *map(_without_imports, files.values()), *forms])


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
