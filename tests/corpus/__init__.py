"""Data of the tests: Daily's documented payloads and schemas, and small logs with what they must come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def payloads() -> list[dict[str, Any]]:
    """Every documented example: its dialect, where it stands, and the payload to the letter."""
    files = sorted((HERE / "payloads").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def schema(dialect: str) -> dict[str, Any]:
    """The fields of every event of a dialect, as its type definitions or pages say."""
    found: dict[str, Any] = json.loads((HERE / "schemas" / f"{dialect}.json").read_text(encoding="utf-8"))
    return found


def read_lines(path: Path) -> list[bytes]:
    """The lines of a log."""
    return path.read_bytes().splitlines()
