"""The tables of settings in telstate/cli/README.md. `python -m tests.cli.config_tables` writes them."""

from __future__ import annotations

import re
from typing import Any

from telstate import Settings
from telstate.calls._settings import _about_fields
from telstate.cli._config import all_uses
from tests.documents import ROOT

__all__ = ["README", "engine_rows", "rows", "with_tables"]

README = ROOT / "telstate" / "cli" / "README.md"


def rows() -> str:
    """A row for each setting but the engine's."""
    lines = []
    for name, field, use in all_uses():
        if name == "settings" or use.is_hidden:
            continue
        flag = f"`{use.flag.partition('/')[0]}`" if use.flag else use.metavar if name == "program" else ""
        lines.append(f"| `{name}` | {flag} | {_shown(field.default)} | {', '.join(use.by)} | {use.about} |")
    return "\n".join(lines)


def engine_rows() -> str:
    """A row for each of the engine's settings."""
    about = _about_fields()
    return "\n".join(
        f"| `{name}` | {_shown(field.default)} | {' '.join(about[name].split())} |"
        for name, field in Settings.model_fields.items()
    )


def _shown(default: Any) -> str:
    if default in (None, ()):
        return ""
    return (
        f"{default:.9g}"
        if isinstance(default, float)
        else str(default).lower()
        if isinstance(default, bool)
        else str(default)
    )


def with_tables(text: str) -> str:
    """The README with the tables as they should be."""
    for head, body in ((r"\| setting \|", rows()), (r"\| `\[settings\]` \|", engine_rows())):
        above, old = re.search(rf"^({head}.*\n\|[-|]+\|\n)((?:\|.*\n)*)", text, re.MULTILINE).groups()  # type: ignore[union-attr]
        text = text.replace(above + old, f"{above}{body}\n")
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
