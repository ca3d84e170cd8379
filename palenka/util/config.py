"""Run configurations: YAML files composed over base files, overridden from the command line, checked all at once.

Generic: this module knows no field of ours. Precedence, lowest first: field defaults, `base:` files left to right,
the file itself, `key.path=value` arguments. Mappings merge; lists and scalars are replaced whole. A mapping inside a
file may have `base:` files of its own, which are read into its place.
"""

import functools
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

from palenka.util.errors import UserError
from palenka.util.files import require_file
from palenka.util.former_names import ELSEWHERE, REMOVED, RENAMED
from palenka.util.processes import is_first_process
from palenka.util.section import types_in
from palenka.util.text import did_you_mean

COMMAND_LINE = "command line"
MERGE_TAG = "tag:yaml.org,2002:merge"

# Far beyond any configuration that people write, and small enough that whatever is within is read at once.
MOST_BYTES = 1 << 18
MOST_DEPTH = 50
MOST_NODES = 100_000  # with all aliases written out
MOST_BASES = 1000
SHOWN = 200  # characters of a wrong value

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class Layers:
    """Nested mappings merged one over the other, remembering where each key was last set."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[tuple[str, ...], str] = {}
        self.files = 0  # read so far

    def merge(self, values: dict[str, Any], source: str) -> None:
        self.merge_into(self.values, values, source, ())

    def merge_into(self, target: dict[str, Any], values: dict[str, Any], source: str, at: tuple[str, ...]) -> None:
        """Merge `values` into `target`, the mapping at the key path `at`."""
        for key, value in values.items():
            self.sources[(*at, str(key))] = source
            if isinstance(value, dict) and isinstance(target.get(key), dict):
                self.merge_into(target[key], value, source, (*at, str(key)))
            else:
                target[key] = value
                self._claim(value, source, (*at, str(key)))

    def _claim(self, value: Any, source: str, at: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                self.sources[(*at, str(key))] = source
                self._claim(child, source, (*at, str(key)))

    def source(self, location: tuple[Any, ...]) -> str:
        """The file (or the command line) that set the key at `location`, or the nearest key above it."""
        parts = tuple(str(part) for part in location)
        for length in range(len(parts), 0, -1):
            if parts[:length] in self.sources:
                return self.sources[parts[:length]]
        return ""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice in one mapping, and reads 1e-3 as a number, as YAML 1.2 does.

    It also refuses what would take for ever or end in a RecursionError: deep nesting, an alias within what it stands
    for, and aliases of aliases that come to too much when they are written out.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._open: list[str | None] = []  # anchors of the nodes around this one
        self._sizes: dict[int, int] = {}  # nodes below each node and itself, with aliases written out

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        mark = cast(yaml.Mark, event.start_mark)
        if isinstance(event, yaml.AliasEvent) and event.anchor in self._open:
            raise yaml.MarkedYAMLError(problem=f"*{event.anchor} contains itself", problem_mark=mark)
        if len(self._open) > MOST_DEPTH:
            problem = f"nested deeper than {MOST_DEPTH} levels"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        self._open.append(None if isinstance(event, yaml.AliasEvent) else event.anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        if isinstance(node, yaml.ScalarNode) and _NO_TEXT.search(node.value):
            problem = f"a character that no file can hold, in {node.value[:SHOWN]!r}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        if node is not None and id(node) not in self._sizes:
            self._sizes[id(node)] = size = 1 + sum(self._sizes[id(child)] for child in _children(node))
            if size > MOST_NODES:
                problem = f"more than {MOST_NODES:,} values, with all aliases written out"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        return node


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from itertools.chain.from_iterable(node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _mapping_with_unique_keys(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE_TAG:
            continue
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key!r} appears twice", problem_mark=key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_with_unique_keys)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, in which no two keys share one list or mapping. Raises YAMLError or ValueError."""
    try:
        return _unshared(_parsed(text))
    except (yaml.YAMLError, ValueError):
        raise
    except Exception as error:  # what PyYAML makes of `!!bool maybe` or `!!int ""`
        raise ValueError(f"{type(error).__name__}: {error}") from None


@functools.lru_cache(maxsize=1000)
def _parsed(text: str) -> Any:
    """A study, or a teacher that is still to be trained, has the same files read many times."""
    return yaml.load(text, Loader=_Loader)


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(child) for key, child in value.items()}
    return [_unshared(child) for child in value] if isinstance(value, list) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises UserError naming file and line where it is not one."""
    try:
        values = parse_yaml(_read_text(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that there is not
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    return values


def _read_text(path: Path) -> str:
    size = path.stat().st_size
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a YAML file")
    require_file(path)
    if size > MOST_BYTES:
        raise UserError(f"{path}: has {size:,} bytes; a configuration has at most {MOST_BYTES:,}")
    return path.read_text(encoding="utf-8")


def _add_file(layers: Layers, path: Path, chain: tuple[Path, ...] = (), at: tuple[str, ...] = ()) -> None:
    """Merge a file into the mapping at the key path `at`; `chain` leads from the first file to its namer."""
    path = path.resolve()
    if path in chain:
        raise UserError(f"{path}: base files go in a circle: " + " -> ".join(p.name for p in (*chain, path)))
    layers.files += 1
    if layers.files > MOST_BASES or len(chain) > MOST_DEPTH:
        raise UserError(f"{path}: more than {MOST_BASES} base files, or a chain of more than {MOST_DEPTH}")
    _add_mapping(layers, read_yaml(path), (*chain, path), at)


def _add_mapping(layers: Layers, values: dict[str, Any], chain: tuple[Path, ...], at: tuple[str, ...]) -> None:
    """Merge a mapping of the last file in `chain`: first its base files, then what it says itself."""
    path = chain[-1]
    for base in _base_files(values.pop("base", []), path, at):
        _add_file(layers, base, chain, at)
    nested = {key: value for key, value in values.items() if isinstance(value, dict)}
    own: Any = {key: {} if key in nested else value for key, value in values.items()}
    for key in reversed(at):
        own = {key: own}
    layers.merge(own, _short(path))
    for key, value in nested.items():
        _add_mapping(layers, value, chain, (*at, key))


def _base_files(bases: Any, path: Path, at: tuple[str, ...]) -> Iterator[Path]:
    bases = [bases] if isinstance(bases, str) else bases
    key = ".".join((*at, "base"))
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: {key}: expected a file or a list of files, got {bases!r}")
    for base in bases:
        if not (path.parent / base).exists():
            raise UserError(f"{path}: {key}: no such file: {base} (relative to {path.parent})")
        yield path.parent / base


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _add_override(layers: Layers, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UserError(f"{_shortened(override)}: expected key.path=value")
    if key.count(".") >= MOST_DEPTH:
        raise UserError(f"{_shortened(override)}: nested deeper than {MOST_DEPTH} levels")
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or error
        raise UserError(f"{_shortened(override)}: the value is not valid YAML: {reason}") from None
    *parents, last = key.split(".")
    target: Any = layers.values
    for depth, part in enumerate(parents):
        if isinstance(target, list):
            target = target[_index(target, part, override)]
        else:
            if not isinstance(target.get(part), dict | list):
                target[part] = {}
            layers.sources.setdefault(tuple(parents[: depth + 1]), COMMAND_LINE)
            target = target[part]
        if not isinstance(target, dict | list):
            raise UserError(f"{override!r}: {'.'.join(parents[: depth + 1])} is {target!r}, which has no keys")
    if isinstance(target, list):
        target[_index(target, last, override)] = value
        layers.sources[(*parents, last)] = COMMAND_LINE
    else:
        layers.merge_into(target, {last: value}, COMMAND_LINE, tuple(parents))


def _index(values: list[Any], index: str, override: str) -> int:
    if not index.isdecimal() or int(index) >= len(values):
        raise UserError(f"{override!r}: {index!r} is not an index into a list of {len(values)}")
    return int(index)


Schema = TypeVar("Schema", bound=BaseModel)


def load(path: Path, overrides: Sequence[str], schema: type[Schema]) -> Schema:
    """Read, compose, override and validate one configuration.

    Raises:
        UserError: naming every problem found, each with key, value, file, and what would be right.
    """
    layers = _compose(path, overrides)
    try:
        return schema.model_validate(layers.values)
    except ValidationError as error:
        raise problems_error(_short(path), (_describe(item, layers, schema) for item in error.errors())) from None


class Idling(Protocol):
    """A configuration that knows of keys which change nothing as the others stand, each with what it needs."""

    def idle(self) -> Iterator[tuple[str, str]]: ...


def tell_idle_keys(configs: Sequence[Idling], where: str) -> None:
    """Warn, in the first process, of keys that are idle in all of some configs: no knob is taken for turned."""
    first, *others = map(idle_keys, configs)
    if is_first_process():
        for sentence in first:
            if all(sentence in other for other in others):
                print(f"{where}: warning: {sentence}", file=sys.stderr)


def idle_keys(config: Idling) -> list[str]:
    """A sentence for each idle key that is set apart from its default."""
    return [f"{key} has no effect without {needs}" for key, needs in config.idle() if _is_set(config, key.split("."))]


def _is_set(section: Any, key: list[str]) -> bool:
    *parents, last = key
    for part in parents:
        section = section[int(part)] if isinstance(section, list) else getattr(section, part, None)
    return section is not None and getattr(section, last) != type(section).model_fields[last].default


def compose(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a file and its bases say, unchecked. Raises UserError where they cannot be read."""
    return _compose(path, overrides).values


def _compose(path: Path, overrides: Sequence[str]) -> Layers:
    layers = Layers()
    _add_file(layers, path)
    for override in overrides:
        _add_override(layers, override)
    return layers


def problems_error(where: str, problems: Iterator[str] | list[str]) -> UserError:
    """One UserError that lists all problems of `where`."""
    lines = list(problems)
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return UserError("\n".join([f"{where}: {count}", *(f"  {line}" for line in lines)]))


def _describe(error: Any, layers: Layers, schema: type[BaseModel]) -> str:
    location = error["loc"]
    key = ".".join(str(part) for part in location) or "(whole file)"
    source = layers.source(location)
    place = f"{key} ({source})" if source else key
    if error["type"] == "extra_forbidden":
        if key in RENAMED:
            return f"{place}: is called {RENAMED[key]} now"
        if key in REMOVED:
            return f"{place}: is gone, leave it out: {REMOVED[key][1]}"
        if key in ELSEWHERE:
            return f"{place}: unknown key; here it is called {ELSEWHERE[key]!r}"
        known = _fields_at(schema, location[:-1])
        return f"{place}: unknown key{did_you_mean(str(location[-1]), known)}"
    if error["type"] == "missing":
        return f"{place}: required, but not given"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{place}: {message}"
    return f"{place}: {message[0].lower()}{message[1:]} (got {_shortened(error['input'])})"


def _shortened(value: Any) -> str:
    """A value as Python writes it, of reasonable length."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "an integer of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _fields_at(schema: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    model: type[BaseModel] | None = schema
    for part in location:
        if model is None:
            return []
        if isinstance(part, str) and part in model.model_fields:
            model = next(models_in(model.model_fields[part].annotation), None)
    return list(model.model_fields) if model else []


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that an annotation allows."""
    return (kind for kind in types_in(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel))
