"""The files of a folder of logs, and their order."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from telstate.sources._log_files import expand, is_gzip

ORDERS = [
    ["bot.log.10.gz", "bot.log.2.gz", "bot.log.1", "bot.log"],
    ["bot.2026-01-01_00-00-00_000001.log.gz", "bot.2026-01-02_00-00-00_000000.log", "bot.log"],
    ["bot.log.2026-01-01", "bot.log.2026-01-02.gz", "bot.log"],
    ["bot.log-20260101.gz", "bot.log-20260102", "bot.log-20260102-1", "bot.log"],
    ["calls-20251231.jsonl.gz", "calls-20260101.jsonl", "calls.jsonl"],
    ["part-1.jsonl", "part-2.jsonl", "part-10.jsonl"],
    ["part1.ndjson", "part2.ndjson", "part10.ndjson"],
    ["bot.log-20251231", "bot.log.2", "bot.log.1", "bot.log"],
    ["a.log.1", "a.log", "b.log.1", "b.log"],
    ["2026-01-01.log", "2026-01-02.log", "2026-01-10.log"],
    ["0.log.20260101-000000.gz", "0.log.20260102-000000", "0.log", "1.log"],
]


@pytest.mark.parametrize("names", ORDERS, ids=lambda names: names[0])
def test_the_oldest_comes_first(names: list[str], tmp_path: Path) -> None:
    """As loguru, logging, logrotate and Kubernetes name what they rotate."""
    for name in random.Random(7).sample(names, len(names)):
        (tmp_path / name).touch()
    assert [Path(found).name for found in expand([str(tmp_path)])] == names


def test_other_files_are_left_out_and_folders_are_searched(tmp_path: Path) -> None:
    """In the order of the folders' names; a file that was named is read whatever it is called."""
    for name in (
        "b/bot.log",
        "a/x.log",
        "a/deep/y.txt",
        ".git/z.log",
        "calls.db",
        "calls.db-wal",
        "bot.py",
        ".hidden.log",
        "log",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked.log").symlink_to(tmp_path / "b" / "bot.log")
    found = expand(["-", str(tmp_path), str(tmp_path / "bot.py")])
    wanted = ["linked.log", "a/x.log", "a/deep/y.txt", "b/bot.log", "bot.py"]
    assert found == ["-", *(str(tmp_path / name) for name in wanted)]


def test_a_folder_without_logs_is_an_error(tmp_path: Path) -> None:
    """That says which names count."""
    (tmp_path / "calls.db").touch()
    with pytest.raises(OSError, match="no logs in it: their names end in") as raised:
        expand([str(tmp_path)])
    assert raised.value.filename == str(tmp_path)


def test_gzip(tmp_path: Path) -> None:
    """By the first bytes."""
    (tmp_path / "a").write_bytes(gzip.compress(b""))
    (tmp_path / "b.gz").write_bytes(b"\x1f\x8b")
    assert [is_gzip(str(tmp_path / name)) for name in ("a", "b.gz", "c", "")] == [True, False, False, False]
