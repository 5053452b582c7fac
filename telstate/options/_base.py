"""What all options share: both spellings of a field's name, error messages that say what to do, and the request body."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from telstate.errors import shorten
from telstate.options._fields import REVEAL

__all__ = ["Conflict", "Options"]


class Conflict(NamedTuple):
    """A contradiction between fields that are valid by themselves."""

    path: tuple[str, ...]
    value: Any
    text: str


def _short_description(schema: dict[str, Any]) -> None:
    """Keep the first paragraph only: the fields describe themselves."""
    schema["description"] = schema["description"].partition("\n\n")[0]


class Options(BaseModel):
    """The base of all options. Fields can be given by their Python name or as Daily spells them.

    A value equal to the field's default counts as not set.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
        json_schema_extra=_short_description,
    )

    _misplaced: ClassVar[Mapping[str, str]] = {}
    """Fields of Daily that belong to another class, and the advice for each."""
    _hides_input: ClassVar[bool] = False
    """True if fields are secrets: errors then do not hold what came."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Let `help` show the fields with their limits instead of pydantic's internals."""
        super().__pydantic_init_subclass__(**kwargs)
        fields = cls.model_fields
        described = [f"    {name}: {' '.join((field.description or '').split())}" for name, field in fields.items()]
        cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or ""), "", "Args:", *described])
        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.is_required() else field.default,
            )
            for name, field in fields.items()
        ]
        setattr(cls, "__signature__", inspect.Signature(parameters))  # noqa: B010 - pyright reads an assignment as a field

    def body(self) -> dict[str, Any]:
        """Return the JSON object to send to Daily: its spelling, and only the fields that are set."""
        body = self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True, context=REVEAL)
        return {name: value for name, value in body.items() if value != {}}  # {}: a nested object with nothing set

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values. Unlike pydantic's own `model_copy`, this validates them."""
        if not update:
            return super().model_copy(deep=deep)
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate(kept | {self._python_name(name): value for name, value in update.items()})

    def _conflicts(self) -> Iterator[Conflict]:
        """Find fields that contradict each other."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report all mistakes at once, each with what came, what was expected and what to do."""
        try:
            made = handler(data)
        except ValidationError as error:
            lines = [cls._reworded(line["type"], line["loc"], line["input"], line["msg"]) for line in error.errors()]
        else:
            defaults = {name for name, field in cls.model_fields.items() if getattr(made, name) == field.default}
            made.model_fields_set.difference_update(defaults)
            lines = [
                _line("telstate_option", cls._as_given(path, data), came, text)
                for path, came, text in made._conflicts()
            ]
            if not lines:
                return made
        if cls._hides_input:
            lines = [{**line, "input": "•••"} for line in lines]
        raise ValidationError.from_exception_data(cls.__name__, lines, hide_input=cls._hides_input)

    @classmethod
    def _reworded(cls, kind: str, path: tuple[int | str, ...], came: Any, text: str) -> InitErrorDetails:
        if len(path) == 1:  # deeper errors come from other options and are reworded already
            name = str(path[0])
            if kind == "extra_forbidden":
                text = cls._unknown_field(name)
            elif kind == "missing":
                text = f"{cls._python_name(name)} is missing: {cls.__name__} needs it"
            elif kind == "model_type":
                got = "something else" if cls._hides_input else shorten(came)
                text = f"{cls._python_name(name)} must be an object with named fields, got {got}: pass a dict or the options object"
        return _line(kind, path, came, text)

    @classmethod
    def _unknown_field(cls, name: str) -> str:
        """Say why there is no such field, and which one was probably meant."""
        fields = cls.model_fields
        if name in fields:
            return f"{name} is given twice, by this name and as {to_camel(name)}: give it once"
        for misplaced, advice in cls._misplaced.items():
            if name in (misplaced, to_camel(misplaced)):
                return f"{name} {advice}"
        names = [*fields, *(field.alias for field in fields.values() if field.alias)]
        near = get_close_matches(name[:80], names, 1, 0.6)
        if near:
            meant = near[0] if name != name.lower() else cls._python_name(near[0])  # in the spelling of the attempt
            return f"{shorten(name)} is not a field of {cls.__name__}: write {meant}"
        return f"{shorten(name)} is not a field of {cls.__name__}: remove it; the fields are {', '.join(fields)}"

    @classmethod
    def _as_given(cls, path: tuple[str, ...], data: Any) -> tuple[str, ...]:
        """Return the path in the spelling of the input, as pydantic does for all other errors."""
        by_name = not isinstance(data, Mapping) or path[0] in data
        return (path[0] if by_name else cls.model_fields[path[0]].alias or path[0], *path[1:])

    @classmethod
    def _python_name(cls, name: str) -> str:
        """Return the Python name of a field that is given in either spelling."""
        return next((own for own, field in cls.model_fields.items() if field.alias == name), name)


def _line(kind: str, path: tuple[int | str, ...], came: Any, text: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, text), loc=path, input=came)
