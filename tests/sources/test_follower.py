"""A file under somebody else's pen: what each look finds, whatever was done to the file since the last."""

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
    """Everything that is new: the lines, and where some may be missing."""
    found: list[str] = []
    follower.rests = False
    while not follower.rests:
        found += [GAP if isinstance(item, SourceGap) else item.raw.decode() for item in follower.look()]
    return found


def write(path: Path, text: str) -> None:
    """Append, as whoever logs does."""
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "calls.jsonl"


def rotate(log: Path) -> None:
    """Rename and make anew, as logrotate's `create` does: log.1 becomes log.2 first."""
    for number in range(5, 0, -1):
        if (old := Path(f"{log}.{number}")).exists():
            old.rename(f"{log}.{number + 1}")
    log.rename(f"{log}.1")
    log.touch()


def copy_and_truncate(log: Path) -> None:
    """As logrotate's `copytruncate` does."""
    shutil.copy2(log, f"{log}.1")
    os.truncate(log, 0)


def test_what_is_there_then_what_comes(log: Path) -> None:
    """Each line once, when it has its end; blank ones and the mark at the beginning are none."""
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


def test_numbers_are_those_of_an_editor(log: Path) -> None:
    """From 1 in each file."""
    write(log, "a\n\nb\n")
    follower = Follower(log)
    assert [(line.file, line.number) for line in follower.look() if not isinstance(line, SourceGap)] == [
        (str(log), 1),
        (str(log), 3),
    ]
    follower.close()


def test_a_file_that_is_not_there_yet(log: Path) -> None:
    """Not even its folder."""
    folder = log.parent / "later"
    follower = Follower(folder / "log", from_start=False)
    assert look(follower) == []
    assert follower.waits
    folder.mkdir()
    assert look(follower) == []
    write(folder / "log", "a\n")
    assert look(follower) == ["a"]  # all of it is from now on
    follower.close()


def test_from_now_on(log: Path) -> None:
    """What is there is not read, nor is the rest of a line whose beginning was there."""
    write(log, "a\nb")
    follower = Follower(log, from_start=False)
    assert look(follower) == []
    write(log, "b\nc\n")
    assert look(follower) == ["c"]
    rotate(log)
    write(log, "d\n")
    assert look(follower) == ["d"]
    follower.close()


def test_renamed_and_made_anew_between_two_looks(log: Path) -> None:
    """The rest of the old one comes first, a last line without end included: nobody will write that end."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    write(log, "b\nc")
    rotate(log)
    write(log, "d\n")
    assert look(follower) == ["b", "c", "d"]
    follower.close()


def test_whoever_writes_may_go_on_with_the_old_file_for_a_while(log: Path) -> None:
    """Until it is told to open the new one, which is empty that long."""
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


def test_gone_for_a_while(log: Path) -> None:
    """What is written to it meanwhile is read; then the one that takes its place; or itself, where it left off."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    away = log.rename(f"{log}.1")
    write(away, "b\n")
    assert look(follower) == ["b"]
    assert follower.waits
    away.rename(log)
    write(log, "c\n")
    assert look(follower) == ["c"]
    assert not follower.waits
    log.unlink()
    assert look(follower) == []
    write(log, "d\n")
    assert look(follower) == ["d"]
    follower.close()


@pytest.mark.parametrize("after", ["", "b\n", "bb\ncc\ndd\nee\nff\n"], ids=["empty", "shorter", "longer"])
def test_cut_to_nothing_between_two_looks(log: Path, after: str) -> None:
    """It is read from its start, also if it has grown beyond the old place since; what it may have lost is a gap."""
    write(log, "aaaa\nbbbb\n")
    follower = Follower(log)
    assert look(follower) == ["aaaa", "bbbb"]
    copy_and_truncate(log)
    write(log, after)
    assert look(follower) == [GAP, *after.split()]
    write(log, "z\n")
    assert look(follower) == ["z"]
    follower.close()


def test_written_over_with_the_same_length(log: Path) -> None:
    """The size tells nothing of that."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    log.write_text("b\n")
    assert look(follower) == [GAP, "b"]
    follower.close()


def test_a_torn_last_line_that_is_taken_back(log: Path) -> None:
    """As a journal does after a crash: no gap, and nothing is read twice."""
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
    """The one in the middle was never seen: a gap stands where its lines would."""
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


def test_rotated_twice_with_nothing_between(log: Path) -> None:
    """An empty log in the middle lost nothing."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    rotate(log)
    rotate(log)
    write(log, "b\n")
    assert look(follower) == ["b"]
    follower.close()


def test_each_rotation_that_was_looked_at_loses_nothing(log: Path) -> None:
    """However long whoever reads is busy with the first of them, and though the logs are written at one instant."""
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


def test_what_was_read_before_is_no_lost_one_though_it_was_written_at_the_same_instant(log: Path) -> None:
    """File systems tell times in steps of some milliseconds."""
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


def test_a_compressed_log_is_no_lost_one(log: Path) -> None:
    """It bears the time of the one that it was made of, as gzip leaves it."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    rotate(log)
    old = Path(f"{log}.1")
    status = old.stat()
    Path(f"{log}.1.gz").write_bytes(gzip.compress(old.read_bytes()))
    os.utime(f"{log}.1.gz", ns=(status.st_atime_ns, status.st_mtime_ns))
    old.unlink()
    time.sleep(0.01)
    write(log, "b\n")
    assert look(follower) == ["b"]
    follower.close()


@pytest.mark.parametrize("name", ["calls-20261121.jsonl", "calls.jsonl-20261121", "calls.jsonl.2026-11-21.zst"])
def test_what_a_lost_log_may_be_called(log: Path, name: str) -> None:
    """As logrotate, Python and others call them."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    log.rename(f"{log}.1")
    write(log.parent / name, "lost\n")
    write(log, "b\n")
    assert look(follower) == [GAP, "b"]
    follower.close()


@pytest.mark.parametrize("name", ["calls.db", "calls-of-others.jsonl", "other.jsonl.1", "calls.json"])
def test_what_is_no_rotated_log(log: Path, name: str) -> None:
    """Others write in the same folder."""
    write(log, "a\n")
    follower = Follower(log)
    assert look(follower) == ["a"]
    rotate(log)
    write(log.parent / name, "theirs\n")
    write(log, "b\n")
    assert look(follower) == ["b"]
    follower.close()


def test_what_cannot_be_followed_is_told(tmp_path: Path) -> None:
    """At once: a pipe without a writer must not hang it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="only files can be followed"):
        Follower(tmp_path / "pipe").look()
    with pytest.raises(IsADirectoryError):
        Follower(tmp_path).look()


@contextmanager
def nobody_in_particular() -> Iterator[Path]:
    """A folder, and no right to read everything, which root has."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # noqa: S103 - nobody is to write there
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


def test_a_file_that_is_made_before_it_may_be_read() -> None:
    """Whoever rotates makes it first, and gives it away afterwards; the first one must be readable at once."""
    with nobody_in_particular() as folder:
        log = folder / "log"
        write(log, "a\n")
        follower = Follower(log)
        assert look(follower) == ["a"]
        rotate(log)
        write(log, "b\n")
        log.chmod(0)
        assert look(follower) == []
        assert follower.waits
        with pytest.raises(PermissionError):
            Follower(log).look()
        log.chmod(0o600)
        assert look(follower) == ["b"]
        follower.close()


def test_a_folder_that_cannot_be_listed() -> None:
    """Files in it can be read all the same; only nobody can tell what is missing."""
    with nobody_in_particular() as folder:
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


class Told:
    """What should be told of a log, beside the log itself."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.unfinished = ""

    def write(self, text: str) -> None:
        """More was written."""
        *ended, self.unfinished = (self.unfinished + text).split("\n")
        self.lines += [line.strip() for line in ended if line.strip()]

    def end(self) -> None:
        """The file will not go on: what has no end is a line."""
        self.write("\n" if self.unfinished else "")


@given(st.lists(st.sampled_from(["a\n", "b", "\r\n", "look", "rotate", "truncate"]), max_size=25))
def test_whatever_is_done_each_line_is_told_once(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """In order. Lost is only what was rotated away or cut off unseen, which is looked at here, and told above."""
    log = tmp_path_factory.mktemp("follower") / "log"
    log.touch()
    follower, told, rotated = Follower(log), Told(), False
    found = look(follower)
    for number, step in enumerate([*steps, "look"]):
        if step == "look" or (step == "rotate" and rotated) or step == "truncate":
            found += look(follower)
            rotated = False
        if step == "rotate":
            rotate(log)
            write(log, "!\n")  # the old one is left when there is something in the new
            told.end()
            told.write("!\n")
            rotated = True
        elif step == "truncate" and log.stat().st_size:
            copy_and_truncate(log)
            found += look(follower)
            told.end()
            told.lines.append(GAP)
        elif step not in ("look", "truncate"):
            text = step.replace("a", f"a{number}").replace("b", f"b{number}")
            write(log, text)
            told.write(text)
    assert found == told.lines
    follower.close()
