"""A file that another program writes: what each look finds, after everything that can happen to it."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telstate import SourceGap
from telstate.sources._follow import Follower

GAP = "a gap"


def look(follower: Follower) -> list[str]:
    """Return everything that is new: lines and gaps."""
    found: list[str] = []
    follower.at_end = False
    while not follower.at_end:
        found += [GAP if isinstance(item, SourceGap) else item.raw.decode() for item in follower.look()]
    return found


def write(path: Path, text: str) -> None:
    """Append text."""
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The path of the log."""
    return tmp_path / "calls.jsonl"


def rotate(log: Path) -> None:
    """Rename and create again, as logrotate's `create` does: log.1 becomes log.2 first."""
    for number in range(5, 0, -1):
        if (old := Path(f"{log}.{number}")).exists():
            old.rename(f"{log}.{number + 1}")
    log.rename(f"{log}.1")
    log.touch()


def copy_and_truncate(log: Path) -> None:
    """Do what logrotate's `copytruncate` does."""
    shutil.copy2(log, f"{log}.1")
    os.truncate(log, 0)


def test_existing_lines_then_new_ones(log: Path) -> None:
    """Each line once, when it is complete; blank lines and the byte order mark are skipped."""
    log.write_bytes(b"\xef\xbb\xbfa\r\n\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    assert look(follower) == []
    write(log, "b\nc")
    assert look(follower) == ["b"]
    write(log, "c")
    assert look(follower) == []
    write(log, "c\n")
    assert look(follower) == ["ccc"]
    follower.close()


def test_line_numbers_count_blank_lines(log: Path) -> None:
    """From 1 in each file."""
    write(log, "a\n\nb\n")
    follower = Follower(log)
    assert [(line.file, line.number) for line in follower.look() if not isinstance(line, SourceGap)] == [
        (str(log), 1),
        (str(log), 3),
    ]
    follower.close()


def test_a_missing_file_and_folder(log: Path) -> None:
    """Everything in them is new."""
    folder = log.parent / "later"
    follower = Follower(folder / "log", from_start=False)
    assert look(follower) == []
    assert follower.missing
    folder.mkdir()
    assert look(follower) == []
    write(folder / "log", "a\n")
    assert look(follower) == ["a"]  # all of it is from now on
    follower.close()


def test_from_start_false_skips_what_exists(log: Path) -> None:
    """The rest of a line that had begun is skipped too."""
    write(log, "a\nb")
    follower = Follower(log, from_start=False)
    assert look(follower) == []
    write(log, "b\nc\n")
    assert look(follower) == ["c"]
    rotate(log)
    write(log, "d\n")
    assert look(follower) == ["d"]
    follower.close()


def test_rotated_between_two_looks(log: Path) -> None:
    """The rest of the old file comes first, with its unfinished last line: nobody will finish it."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    write(log, "b\nc")
    rotate(log)
    write(log, "d\n")
    assert look(follower) == ["b", "c", "d"]
    follower.close()


def test_the_writer_may_use_the_old_file_for_a_while(log: Path) -> None:
    """Until it opens the new one, which is empty until then."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    with log.open("a") as old:
        rotate(log)
        assert look(follower) == []
        old.write("b\n")
        old.flush()
        assert look(follower) == ["b"]
        old.write("c\n")
    write(log, "d\n")
    assert look(follower) == ["c", "d"]
    follower.close()


def test_a_file_that_disappears_and_comes_back(log: Path) -> None:
    """It is read to its end; then a new file, or the same one from where it stopped."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    away = log.rename(f"{log}.1")
    write(away, "b\n")
    assert look(follower) == ["b"]
    assert follower.missing
    away.rename(log)
    write(log, "c\n")
    assert look(follower) == ["c"]
    assert not follower.missing
    log.unlink()
    assert look(follower) == []
    write(log, "d\n")
    assert look(follower) == ["d"]
    follower.close()


@pytest.mark.parametrize("after", ["", "b\n", "bb\ncc\ndd\nee\nff\n"], ids=["empty", "shorter", "longer"])
def test_truncated_between_two_looks(log: Path, after: str) -> None:
    """It is read from its start, even if it has grown beyond the old position; a gap marks what may be lost."""
    write(log, "aaaa\nbbbb\n")
    follower = Follower(log)
    assert look(follower) == ["aaaa", "bbbb"]
    copy_and_truncate(log)
    write(log, after)
    assert look(follower) == [GAP, *after.split()]
    write(log, "z\n")
    assert look(follower) == ["z"]
    follower.close()


def test_overwritten_with_the_same_length(log: Path) -> None:
    """The size does not show it."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    log.write_text("b\n")
    assert look(follower) == [GAP, "b"]
    follower.close()


def test_a_torn_last_line_that_is_cut_off(log: Path) -> None:
    """As some writers do after a crash: no gap, and nothing is read twice."""
    write(log, "a\nb\nto")
    follower = Follower(log)
    assert look(follower) == ["a", "b"]
    os.truncate(log, 4)
    assert look(follower) == []
    write(log, "c\n")
    assert look(follower) == ["c"]
    write(log, "to")
    assert look(follower) == []
    os.truncate(log, 6)
    write(log, "other\n")
    assert look(follower) == ["other"]
    follower.close()


def test_rotated_twice_between_two_looks(log: Path) -> None:
    """A gap marks the file that was never seen."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    write(log, "b\n")
    rotate(log)
    write(log, "lost\n")
    rotate(log)
    write(log, "c\n")
    assert look(follower) == ["b", GAP, "c"]
    rotate(log)
    write(log, "d\n")
    assert look(follower) == ["d"]
    follower.close()


def test_rotated_twice_with_an_empty_file_between(log: Path) -> None:
    """It lost nothing."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    rotate(log)
    rotate(log)
    write(log, "b\n")
    assert look(follower) == ["b"]
    follower.close()


def test_no_rotation_loses_lines_if_each_is_seen(log: Path) -> None:
    """However long the first file takes to read, and though the files have the same time."""
    write(log, "".join(f"{number}\n" for number in range(100_000)))
    follower = Follower(log)
    found = []
    for name in "abc":
        found += follower.look()
        rotate(log)
        write(log, f"{name}\n")
    lines = [GAP if isinstance(item, SourceGap) else item.raw.decode() for item in found] + look(follower)
    assert lines == [*map(str, range(100_000)), "a", "b", "c"]
    follower.close()


def test_a_file_read_before_is_not_a_gap_though_its_time_is_the_same(log: Path) -> None:
    """File systems have times in steps of milliseconds."""
    write(log, "a\n")
    follower = Follower(log)
    found = look(follower)
    for name in "bc":
        rotate(log)
        write(log, f"{name}\n")
        for path in log.parent.iterdir():
            os.utime(path, (1, 1))
        found += look(follower)
    assert found == ["a", "b", "c"]
    rotate(log)
    write(log, "lost\n")
    rotate(log)
    write(log, "d\n")
    for path in log.parent.iterdir():
        os.utime(path, (1, 1))
    assert look(follower) == [GAP, "d"]
    follower.close()


def test_a_compressed_log_is_not_a_gap(log: Path) -> None:
    """It has the time of the original, as gzip sets it."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    rotate(log)
    old = Path(f"{log}.1")
    status = old.stat()
    Path(f"{log}.1.gz").write_bytes(gzip.compress(old.read_bytes()))
    os.utime(f"{log}.1.gz", ns=(status.st_atime_ns, status.st_mtime_ns))
    old.unlink()
    time.sleep(0.05)  # the clock of a file system may be coarse
    write(log, "b\n")
    assert look(follower) == ["b"]
    follower.close()


@pytest.mark.parametrize("name", ["calls-20261121.jsonl", "calls.jsonl-20261121", "calls.jsonl.2026-11-21.zst"])
def test_names_of_rotated_logs(log: Path, name: str) -> None:
    """As logrotate, Python and others name them."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    log.rename(f"{log}.1")
    write(log.parent / name, "lost\n")
    write(log, "b\n")
    assert look(follower) == [GAP, "b"]
    follower.close()


@pytest.mark.parametrize("name", ["calls.db", "calls-of-others.jsonl", "other.jsonl.1", "calls.json"])
def test_other_files_are_not_rotated_logs(log: Path, name: str) -> None:
    """In the same folder."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    rotate(log)
    write(log.parent / name, "theirs\n")
    write(log, "b\n")
    assert look(follower) == ["b"]
    follower.close()


def test_pipes_and_folders_are_refused(tmp_path: Path) -> None:
    """At once: a pipe without a writer must not hang."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="only files can be followed"):
        Follower(tmp_path / "pipe").look()
    with pytest.raises(IsADirectoryError):
        Follower(tmp_path).look()


@contextmanager
def without_root() -> Iterator[Path]:
    """A folder, and a user who may not read everything, as root may."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # noqa: S103 - the other user writes there
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


def test_a_new_file_that_is_not_readable_yet() -> None:
    """A rotator creates it first and sets its owner later. The first file must be readable at once."""
    with without_root() as folder:
        log = folder / "log"
        write(log, "a\n")
        follower = Follower(log)
        assert look(follower) == ["a"]
        rotate(log)
        write(log, "b\n")
        log.chmod(0)
        assert look(follower) == []
        assert follower.missing
        with pytest.raises(PermissionError):
            Follower(log).look()
        log.chmod(0o600)
        assert look(follower) == ["b"]
        follower.close()


def test_a_folder_that_cannot_be_listed() -> None:
    """Its files can be read all the same; gaps are not detected."""
    with without_root() as folder:
        inside = folder / "inside"
        inside.mkdir()
        log = inside / "log"
        write(log, "a\n")
        follower = Follower(log)
        assert look(follower) == ["a"]
        rotate(log)
        write(log, "b\n")
        inside.chmod(0o300)
        assert look(follower) == ["b"]
        inside.chmod(0o700)
        follower.close()


class Expected:
    """The lines that should be found in a log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.unfinished = ""

    def write(self, text: str) -> None:
        """Append text."""
        *ended, self.unfinished = (self.unfinished + text).split("\n")
        self.lines += [line.strip() for line in ended if line.strip()]

    def end(self) -> None:
        """The file will not go on: what has no end is a line."""
        self.write("\n" if self.unfinished else "")


@pytest.mark.long
@given(st.lists(st.sampled_from(["a\n", "b", "\r\n", "look", "rotate", "truncate"]), max_size=25))
def test_every_line_is_found_once_in_order(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """Whatever is done to the file. Lines are lost only if they were rotated away or truncated between two looks; the test looks before."""
    log = tmp_path_factory.mktemp("follower") / "log"
    log.touch()
    follower, expected, rotated = Follower(log), Expected(), False
    found = look(follower)
    for number, step in enumerate([*steps, "look"]):
        if step == "look" or (step == "rotate" and rotated) or step == "truncate":
            found += look(follower)
            rotated = False
        if step == "rotate":
            rotate(log)
            write(log, "!\n")  # the old one is left when there is something in the new
            expected.end()
            expected.write("!\n")
            rotated = True
        elif step == "truncate" and log.stat().st_size:
            copy_and_truncate(log)
            found += look(follower)
            expected.end()
            expected.lines.append(GAP)
        elif step not in ("look", "truncate"):
            text = step.replace("a", f"a{number}").replace("b", f"b{number}")
            write(log, text)
            expected.write(text)
    assert found == expected.lines
    follower.close()
