"""The help and the errors of a command in plain form: typer shows Python types and pydantic's prefixes."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["Verb"]

_PYTHON_TYPE = re.compile(r" <(?:str|int|list\[.*\])>$")


class Verb(TyperCommand):
    """A command whose usage reads `JOURNAL [NUMBER]...`, and whose arguments have no Python types."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Leave out the braces around required arguments."""
        return [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Leave out types such as `<list[str]>`; choices stay."""
        write = formatter.write_dl
        formatter.write_dl = lambda rows: write([(_PYTHON_TYPE.sub("", name), text) for name, text in rows])
        super().format_options(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave out pydantic's prefix of an invalid value."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise
