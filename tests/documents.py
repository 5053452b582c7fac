"""The READMEs and the programs in them: what a user reads and copies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["READMES", "ROOT", "Block", "blocks", "prose", "write_programs"]

ROOT = Path(__file__).parents[1]
READMES = sorted(
    [
        ROOT / "README.md",
        *(path for part in ("telstate", "diagrams", "examples", "tests") for path in (ROOT / part).rglob("README.md")),
    ]
)
_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced code block of a README."""

    readme: Path
    line: int
    """Where its text begins."""
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.readme.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """The code blocks of all READMEs, all of them or those in some languages."""
    found = []
    for readme in READMES:
        content = readme.read_text(encoding="utf-8")
        for match in _FENCE.finditer(content):
            line = content.count("\n", 0, match.start(3)) + 1
            found.append(Block(readme, line, match[2].strip(), match[3]))
    return [block for block in found if not languages or block.language in languages]


def prose(readme: Path) -> str:
    """A README without its fenced code blocks."""
    return _FENCE.sub("", readme.read_text(encoding="utf-8"))


def write_programs(folder: Path) -> None:
    """Write every Python block and every example to a file of its own, with the line numbers of the original."""
    for block in blocks("python"):
        name = "_".join(block.readme.relative_to(ROOT).with_suffix("").parts)
        (folder / f"{name}_{block.line}.py").write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
    for example in (ROOT / "examples").rglob("[!_]*.py"):
        (folder / "_".join(example.relative_to(ROOT).parts)).write_text(
            example.read_text(encoding="utf-8"), encoding="utf-8"
        )
