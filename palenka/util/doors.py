"""Doors: kinds of thing that are found by their file's name, so that a new one of a kind is one file and nothing else.

`palenka/objectives/` is a door, and so are optimizers, paradigms, architectures and evaluation tasks. The file
`my_thing.py` holds the class `MyThing`, whose knobs are its own `Config`; there is no registry to keep.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar, cast

from pydantic import BeforeValidator, Field, SerializeAsAny

from palenka.util.errors import UserError
from palenka.util.section import Section
from palenka.util.text import did_you_mean

Kind = TypeVar("Kind")


class Named(Section):
    """A section that says by its name which file it is for; all other keys are that file's own."""

    name: str = Field(description="the file that it is for")


class Door(Generic[Kind]):
    """The classes of one kind.

    Args:
        package: the module of their folder.
        noun: what messages call one of them.
    """

    def __init__(self, package: str, noun: str) -> None:
        self.package, self.noun = package, noun

    def available(self) -> list[str]:
        """Their names: the files in the folder, but for those that begin with an underscore."""
        modules = pkgutil.iter_modules(importlib.import_module(self.package).__path__)
        return sorted(module.name for module in modules if not module.name.startswith("_"))

    def find(self, name: str) -> type[Kind]:
        """The class of the file `<name>.py`, which is called like it: `my_term.py` holds `MyTerm`.

        Raises:
            UserError: no such file.
        """
        if name not in self.available():
            raise UserError(f"unknown {self.noun} {name!r}{did_you_mean(name, self.available())}")
        module = importlib.import_module(f"{self.package}.{name}")
        classes = {key.lower(): value for key, value in vars(module).items() if isinstance(value, type)}
        return cast(type[Kind], classes[name.replace("_", "")])

    def read(self, value: Any) -> Named:
        """The checked section of a name, or of a mapping with a `name`.

        Raises:
            ValueError: no such name, or other keys than the file has.
        """
        if isinstance(value, Named):
            return value
        values = {"name": value} if isinstance(value, str) else value
        if isinstance(values, Mapping) and values and "name" not in values:
            keys = ", ".join(f"{key}: …" for key in values)
            raise ValueError(f"expected the name of a file in {self._folder}/ with its keys, {{name: …, {keys}}}")
        if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
            raise ValueError(f"expected the name of a file in {self._folder}/, or {{name: …, and its keys}}")
        try:
            config: type[Named] = self.find(values["name"]).Config  # type: ignore[attr-defined]
        except UserError as error:
            raise ValueError(str(error)) from None
        own = sorted(config.model_fields)
        for key in values.keys() - own:
            raise ValueError(f"unknown key {key!r} of {values['name']!r}{did_you_mean(str(key), own)}")
        return config.model_validate(values)

    @property
    def _folder(self) -> str:
        return self.package.replace(".", "/")

    @property
    def section(self) -> Any:
        """The type of a config's field that chooses one of them."""
        return Annotated[SerializeAsAny[Named], BeforeValidator(self.read)]
