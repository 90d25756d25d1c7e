"""Building blocks of the schema: strict types, and keys that PaddleClas has and ppcls_ext has not."""

from __future__ import annotations

from typing import Annotated, Any, Callable, Mapping, Sequence, Type, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ppcls_ext.config.source import parse_value
from ppcls_ext.utils.spelling import nearest


class Unsupported:
    """Marks a key of PaddleClas's that is refused with a sentence."""

    def __init__(self, sentence: str):
        self.sentence = sentence


class Ignored:
    """Marks a key of PaddleClas's that may be there and has no effect."""

    def __init__(self, sentence: str):
        self.sentence = sentence


class OneOf:
    """Marks a key that takes one of some names; what only PaddleClas has is refused by name."""

    def __init__(self, what: str, names: Sequence[str], of_paddleclas: Sequence[str] = ()):
        self.what, self.names, self.of_paddleclas = what, tuple(names), of_paddleclas

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the text, followed by the check."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if value in self.names:
            return value
        if value in self.of_paddleclas:
            sentence = f"the {self.what} {value} of PaddleClas is not supported"
            raise PydanticCustomError(
                "unsupported", "{sentence}; supported: {names}", {"sentence": sentence, "names": ", ".join(self.names)}
            )
        hint = nearest(value, self.names, count=1)
        raise PydanticCustomError(
            "unknown_name",
            "unknown {what} {value}; {advice}",
            {
                "what": self.what,
                "value": repr(value),
                "advice": f"did you mean {hint[0]}?" if hint else f"expected one of {', '.join(self.names)}",
            },
        )


def _unquote(value: Any) -> Any:
    """Read a quoted number or truth value as PaddleClas does."""
    if isinstance(value, str):
        parsed = parse_value(value)
        if isinstance(parsed, (bool, int, float)):
            return parsed
    return value


# Strict: True is no number, 5.0 is no integer, and 5 is no string; an integer is a number.
Bool = Annotated[bool, Strict(), BeforeValidator(_unquote)]
Int = Annotated[int, Strict(), BeforeValidator(_unquote)]
Float = Annotated[float, Strict(), Field(allow_inf_nan=False), BeforeValidator(_unquote)]
Text = Annotated[str, Strict()]


class Section(BaseModel):
    """A mapping of a YAML file; a key that is not in it is an error."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), validate_default=True)

    def to_dict(self) -> dict:
        """Return plain data: every key with its value, without keys that are unset or have no effect."""
        values = {
            name: plain(value)
            for name, value in self
            if value is not None and not markers(type(self), name, (Unsupported, Ignored))
        }
        return {"name": values.pop("name"), **values} if "name" in values else values


SomeSection = TypeVar("SomeSection", bound=Section)


class OneKey(Section):
    """A list item ``Name: {arguments}``; ``Name:`` alone takes the defaults."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if len(value) != 1:
            raise PydanticCustomError("one_key", "expected one 'Name: {arguments}' per list item")
        return {name: {} if arguments is None else arguments for name, arguments in value.items()}


def plain(value: Any) -> Any:
    """Return ``value`` with sections turned into dicts."""
    if isinstance(value, Section):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def markers(model: Type[BaseModel], name: str, kinds: tuple) -> list:
    """Return the markers of a field."""
    info = model.model_fields.get(name)
    return [marker for marker in info.metadata if isinstance(marker, kinds)] if info else []


def unsupported(sentence: str, allowed: Sequence = (None, False)) -> Any:
    """Return the type of a key that is refused unless its value switches nothing on."""

    def check(value: Any) -> None:
        if not any(value is item or (value == item and type(value) is type(item)) for item in allowed):
            raise PydanticCustomError("unsupported", "{sentence}", {"sentence": sentence})

    return Annotated[Any, AfterValidator(check), Unsupported(sentence)]


def ignored(sentence: str) -> Any:
    """Return the type of a key that has no effect."""
    return Annotated[Any, Ignored(sentence)]


def with_keys(types: Mapping[str, Any]) -> Callable[[Type[SomeSection]], Type[SomeSection]]:
    """Return a class decorator that adds optional keys of the given types, which no code reads."""

    def extended(section: Type[SomeSection]) -> Type[SomeSection]:
        keys: dict[str, Any] = {name: (kind, None) for name, kind in types.items()}
        result = create_model(section.__name__, __base__=section, __module__=section.__module__, **keys)
        result.__qualname__, result.__doc__ = section.__qualname__, section.__doc__
        return result

    return extended
