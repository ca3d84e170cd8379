"""What decides the outcome of a run, and whether two of them are the same experiment.

identity.json holds what a configuration sets apart from its defaults. So a key that a later version adds, with a
default that changes nothing, leaves a run what it is; a default or a meaning that does change raises the schema's
number.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palenka.util.errors import UserError
from palenka.util.files import read_json
from palenka.util.former_names import with_present_names

FIRST_SCHEMA = 1
"""The schema of an identity that names none: it holds every default of its time as well."""


@dataclass(frozen=True)
class Identity:
    """Nested mappings of plain values.

    Args:
        given: what is set apart from its default; this is what is written.
        whole: the same with all defaults.
    """

    given: Mapping[str, Any]
    whole: Mapping[str, Any]

    def differences(self, there: Mapping[str, Any]) -> list[str]:
        """What a run that was begun with `there` differs in, a line each; none where it is this very experiment."""
        then, given, whole = (json.loads(json.dumps(tree)) for tree in (there, self.given, self.whole))
        if isinstance(then.get("config"), dict):
            then["config"] = with_present_names(then["config"])
        schema, _, now = (tree.pop("schema", FIRST_SCHEMA) for tree in (then, given, whole))
        if schema != now:
            return [f"schema: {schema} there, {now} here; defaults have changed, "
                    "so only the version that began it can end it"]  # fmt: skip
        return list(_changes(then, given, whole))


def _changes(there: Any, given: Any, whole: Any, key: str = "") -> Iterator[str]:
    """Where `there` has a key, the whole value here counts; where it has none, it had a default, as long as ours is."""
    if isinstance(there, Mapping) and isinstance(whole, Mapping):
        given = given if isinstance(given, Mapping) else {}
        for name, value in there.items():
            below = f"{key}.{name}" if key else str(name)
            yield from _changes(value, given.get(name), whole.get(name), below)
        for name in [name for name in given if name not in there]:
            yield f"{key}.{name}: not set there, {brief(given[name])} here".lstrip(".")
    elif isinstance(there, list) and isinstance(whole, list) and len(there) == len(whole) == len(given or []):
        for place, parts in enumerate(zip(there, given or [], whole, strict=True)):
            yield from _changes(*parts, f"{key}[{place}]")
    elif there != whole:
        yield f"{key}: {brief(there)} there, {'not set' if whole is None else brief(whole)} here"


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """What differs between two nested mappings, a line each: `old` is there, `new` is here."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            below = f"{key}.{name}" if key else str(name)
            yield from differences(old.get(name), new.get(name), below)
    elif old != new:
        yield f"{key}: {brief(old)} there, {brief(new)} here"


def check_cache(folder: Path, identity: Mapping[str, Any]) -> None:
    """Whether a cache that is named by its identity is what its name says, if it is there at all.

    Raises:
        UserError: it is not, with how it differs.
    """
    path = folder / "identity.json"
    if path.exists() and (found := list(differences(read_json(path), identity))):
        raise UserError(f"{folder}: the cache does not match its name; it differs in{listed(found)}")


def listed(lines: Iterable[str]) -> str:
    """Each on a line of its own, below what is said of them."""
    return "".join(f"\n  {line}" for line in lines)


def brief(value: Any) -> str:
    """A value as it is shown; a checksum by its beginning."""
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)
