"""Paradigms that are made of others."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import Field, ValidationError

from palenka.paradigms import DOOR, Paradigm, ParadigmConfig, Query, Vocabulary, of


class SeveralConfig(ParadigmConfig):
    """Of a paradigm that is made of others."""

    knobs: dict[str, dict[str, Any]] = Field(
        default={}, description="keys of those that it is made of, by their names: {masked: {rate: 0.3}}"
    )

    @property
    def isolates(self) -> bool:
        return any(self.section(name).isolates for name in self.part_names)

    def check(self) -> None:
        """Raise ValueError unless there are such paradigms, each simple, with such knobs."""
        for name in self.part_names:
            if name in DOOR.available() and issubclass(DOOR.find(name).Config, SeveralConfig):
                raise ValueError(f"{name!r} is made of other paradigms itself; expected causal, masked, mntp, …")
            try:
                self.section(name)
            except ValidationError as error:
                (first, *_) = error.errors()
                key, reason = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
                raise ValueError(f"knobs: {name}: {key}: {reason}") from None
        if unknown := sorted(self.knobs.keys() - set(self.part_names)):
            raise ValueError(f"knobs: {', '.join(unknown)}: not among {', '.join(self.part_names)}")

    def section(self, name: str) -> ParadigmConfig:
        """The section of one that it is made of."""
        return cast(ParadigmConfig, DOOR.read({"name": name, **self.knobs.get(name, {})}))


class Several(Paradigm):
    """Base of paradigms that are made of others, of which each says how it is scored."""

    config: SeveralConfig

    def __init__(self, config: SeveralConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        self._parts = {name: of(config.section(name), vocabulary) for name in config.part_names}

    @property
    def parts(self) -> Mapping[str, Paradigm]:
        return self._parts

    def queries(
        self, context: tuple[int, ...], continuation: tuple[int, ...], after: tuple[int, ...] = (),
        words: tuple[int, ...] = (),
    ) -> Sequence[Query]:  # fmt: skip
        raise NotImplementedError(f"{self.config.name} is scored by one of its parts: {', '.join(self.parts)}")
