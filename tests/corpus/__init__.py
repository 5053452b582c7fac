"""Test data: Daily's documented payloads and schemas, and small logs with their expected result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def payloads() -> list[dict[str, Any]]:
    """Return every documented example: its dialect, its source, and the payload to the letter."""
    files = sorted((HERE / "payloads").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def schema(dialect: str) -> dict[str, Any]:
    """Return the fields of every event of a dialect, according to its type definitions or pages."""
    found: dict[str, Any] = json.loads((HERE / "schemas" / f"{dialect}.json").read_text(encoding="utf-8"))
    return found


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of a log."""
    return path.read_bytes().splitlines()
