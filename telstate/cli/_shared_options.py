"""Options that belong together, or that several commands have: a function takes them, and a command gets what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from telstate.cli._terminal import tidy_exit

if TYPE_CHECKING:
    from telstate.testing import Noise

__all__ = ["noise_of", "parameters_of", "share_option", "taking"]


def parameters_of(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a command, with their annotations as types. `Loaded` and `Noise` are only known to type checkers."""
    hints = get_type_hints(function, localns={"Loaded": object, "Noise": object}, include_extras=True)
    for one in inspect.signature(function).parameters.values():
        yield one.replace(annotation=hints[one.name])


def taking(**makers: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of functions, each in place of the parameter of its name, and pass it what they return.

    What they raise ends the command as its own errors do.
    """
    options = {name: [*parameters_of(make)] for name, make in makers.items()}

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        @wraps(run)
        def with_options(**given: Any) -> None:
            with tidy_exit():
                for name, make in makers.items():
                    given[name] = make(**{one.name: given.pop(one.name) for one in options[name]})
            run(**given)

        shown = [each for one in parameters_of(run) for each in options.get(one.name, [one])]
        with_options.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in shown]
        )
        with_options.__annotations__ = {one.name: one.annotation for one in shown}
        return with_options

    return decorate


def share_option(flag: str, text: str) -> Any:
    """Return the option for a share of something, from 0 to 1."""
    return typer.Option(flag, min=0, max=1, metavar="SHARE", help=text)


def noise_of(
    *,
    drop: Annotated[
        float, share_option("--drop", "The share of events that are lost: 0.01 is one in a hundred.")
    ] = 0.0,
    dup: Annotated[float, share_option("--dup", "The share of events that come twice.")] = 0.0,
    shuffle: Annotated[float, share_option("--shuffle", "The share of events that later ones overtake.")] = 0.0,
    delay: Annotated[float, share_option("--delay", "The share of events that come up to 15 minutes late.")] = 0.0,
) -> Noise:
    """Take what happens to simulated events on their way: a `Noise`."""
    from telstate.testing import Noise  # noqa: PLC0415 - few commands need it

    return Noise(lost=drop, repeated=dup, swapped=shuffle, delayed=delay)
