"""Writes docs/configuration.md from the schemas of runs, grids, searches, studies and recipes: `make docs`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from palenka import objectives, optimizers, paradigms
from palenka.cluster.study import StudyConfig
from palenka.finetuning.schema import Recipe
from palenka.search.grid import GridConfig
from palenka.search.space import SearchConfig
from palenka.training.schema import TrainConfig
from palenka.util.config import models_in
from palenka.util.doors import Named

DOORS = {"paradigm": paradigms.DOOR, "training.optimizer": optimizers.DOOR}  # keys that name a file, which has its own
NAMED = """
## Named by a file

`KEY: NAME` takes all defaults, `KEY: {name: NAME, …}` sets keys that are the file's own.
"""
STAY = """
## Why these stay

No config of `config/` sets these keys. One for which there is no reason goes.

| key | reason |
|---|---|
| `data.seed` | a figure of one seed is no figure; text and order may stay while the weights are drawn anew |
| `objective.*.weight.*` | a term that helps early and costs late is no one number |
| `objective.logit.divergence`, `objective.logit.beta` | MiniLLM's and GKD's, which KD is held against |
| `objective.hidden_state.distance` | `plain` is FitNets', `cosine` DistilBERT's |
| `objective.auxiliary.*` | the paper's own heads, its depths, and each of its two parts alone |
| `objective.contrastive.*` | the study's temperature; and what the term costs, in memory and FLOPs |
| `objective.attention*`, `objective.value_relation*` | MiniLM's terms, beside any config by an override |
| `teacher_cache.*` | smaller states, more of them, a bound: what a disk and a term ask for |
| `cached_logits*` | a student many times on teachers that run once, by an override |
| `teachers.weight` | a good teacher and a poor one |
| `training.adam_beta1`, `training.schedule`, `training.ema` | recipes that others published |
| `training.initial_batch_size` | GPT-BERT's long runs begin with a quarter of their batch |
| `training.checkpoint_steps`, `training.skip_bad_steps` | long runs, on clusters that end jobs |
| `training.precision` | `auto` follows the device; a comparison over devices needs one and the same |
| `training.compile` | `false` where a compiler is broken, `true` where a job is to fail rather than run slowly |
| `evaluation.protocol` | the challenge's of 2025 |
| `head_dropout`, `held_out` | the pipelines' value and a usual one, for whoever wonders whether a tenth matters |
| `attention` | GPT-BERT reads both ways, and may be asked for the one that its recipe does not take |
| `tasks.*` | recipes that others published task by task |
| `axes.*` | a key of any config is an axis of one of these kinds |
| `budget*` | a control that may cost what a student and its teachers did |
| `storage` | a database server, where there is one |
| `search*` | a study may have a search, as it may have a grid |
| `grid.cohort_size`, `cohort_size` | fewer than fit, where others use the GPU, too |
| `paths*` | one run whose data stands elsewhere, where an environment variable is for all |
| `tracking*` | where runs have to appear is a group's own to say |

On the command line: `evaluate --checkout` and `--pipeline-python`, since the official pipelines are folders and
interpreters of their own; `compare --all`, since what did not differ is a result, too.
"""
PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Configuration

Every key of a YAML file, made from the schema by `make docs`. A file begins with those that `base:` names, left to
right, each meant from its own folder, and says what is different; `student: {base: FILE}` fills a section likewise.
`key.path=value` behind a command comes last (`training.lr=1e-3`, `teachers.0.run=mine`), and `--dry-run` prints what
all of it comes to. Whatever does not fit is named at once: file, key, value, and what would be right. A key that is set
and has no effect beside the others (`logit.beta` without Jensen-Shannon, `layer_mapping` without a term that maps
layers) is a warning.
"""


def page() -> str:
    shown: set[type[BaseModel]] = set()
    kinds: dict[str, type[BaseModel]] = {
        "A run without teachers": TrainConfig, "A student, a grid of them": GridConfig, "A search": SearchConfig,
        "A study": StudyConfig, "A recipe of fine-tuning": Recipe,
    }  # fmt: skip
    parts = [HEAD]
    for title, schema in kinds.items():
        parts += [f"\n## {title}\n", _section("", schema), *(_section(*each) for each in _sections(schema, shown))]
    parts.append(NAMED)
    for key, door in DOORS.items():
        parts += [_section(f"{key}: {name}", door.find(name).Config, door.find(name)) for name in door.available()]
    return "".join([*parts, STAY])


def _sections(schema: type[BaseModel], shown: set[type[BaseModel]], above: str = "") -> Iterator[tuple[str, Any]]:
    """The sections within a schema that are not shown yet, with their key paths."""
    for key, field in schema.model_fields.items():
        for section in models_in(field.annotation):
            if section not in shown:
                shown.add(section)
                yield f"{above}{key}", section
                yield from _sections(section, shown, f"{above}{key}.")


def _section(path: str, schema: type[BaseModel], described: type | None = None) -> str:
    """A heading, what the docstring says first, and a row for each key but the name of a file."""
    title = f"\n### `{path}`\n" if path else ""
    properties = schema.model_json_schema()["properties"]
    rows = [
        f"| `{key}` | {_values(properties[key])} | {_default(field)} | {field.description} |\n"
        for key, field in schema.model_fields.items()
        if not (key == "name" and issubclass(schema, Named))
    ]
    table = f"\n| key | value | default | |\n|---|---|---|---|\n{''.join(rows)}" if rows else ""
    return f"{title}\n{_about(path, described or schema)}\n{table}"


def _about(path: str, schema: type) -> str:
    """The first paragraph of a docstring: an objective's own, else the section's."""
    term = path.removeprefix("objective.")
    described: type = objectives.find(term) if term in objectives.available() else schema
    return " ".join((described.__doc__ or "").split("\n\n")[0].split())


def _values(schema: dict[str, Any]) -> str:
    """What may be given, of a property's JSON schema."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_values(each) for each in schema["anyOf"] if each.get("type") != "null"))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return f"[{', '.join(map(_values, schema['prefixItems']))}]"
    if schema.get("type") == "array":
        return f"list of {_values(schema['items'])}" if schema.get("items") else "list"
    kinds = {"string": "text", "boolean": "true or false", "object": "mapping"} | {k: k for k in ("integer", "number")}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f" {sign} {schema[key]:g}" for key, sign in bounds.items() if abs(schema.get(key, 10)) <= 1]
    return kinds.get(schema.get("type", ""), "section") + ",".join(limits)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, Named):
        return f"`{field.default.name}`"
    if field.default in (None, ()) or isinstance(field.default, BaseModel):
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
