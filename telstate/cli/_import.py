"""`telstate import`: a service's journal into streams in NATS."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from telstate.cli._export import lines_of
from telstate.cli._log_run import rereadable
from telstate.cli._logs import find_files, size_of
from telstate.cli._nats import NatsAddress, is_nats, read_address
from telstate.cli._terminal import Bar, announce_stdin, misuse, say, tidy_exit
from telstate.errors import JournalError
from telstate.journals._export import export_lines
from telstate.journals._sqlite import base_of_journal, is_sqlite

if TYPE_CHECKING:
    from telstate.journals.nats import StreamSettings
    from telstate.journals.nats._import_plan import ImportPlan
    from telstate.journals.nats._importing import ImportResult

__all__ = ["import_"]


def import_(
    journal: Annotated[
        str,
        typer.Argument(
            metavar="JOURNAL",
            help="A service's journal (calls.db), an export of one, or streams (nats://…); - is standard input.",
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="URL", help="Where to: nats://HOST:4222/APP/ENVIRONMENT.")],
    *,
    partitions: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Partitions, where the streams are not declared yet. [default: 256]"),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Copies of each stream, where they are not declared yet. [default: 1]"),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="DAYS",
            help="Days for which they keep events, where they are not declared yet. [default: 7]",
        ),
    ] = None,
) -> None:
    """Write a service's journal into streams in NATS, to move the service there.

    Events keep their times of receipt, and their order. Marks and dead letters are moved too, so only unfinished work runs there.
    Events go to the partitions of their rooms; those that name none go where their session's room is.

    It can be run again, and continues after a kill: what the streams have from this journal is left out. So import a first time
    while the service runs, which may take a while, and a second time when it has stopped. No worker may run meanwhile.

    Example: telstate import calls.db nats://localhost:4222/telstate/production

    or: telstate export calls.db | telstate import - nats://localhost:4222/telstate/production
    """
    with tidy_exit():
        address = read_address(target)
        if address.partition is not None:
            misuse(f"{address}: an import writes all partitions: leave the last part of the address out")
        connection = address.connection("telstate import")
        if is_nats(journal) and str(read_address(journal)) == str(address):
            misuse("that is the same place: give another app or environment to import into")
        announce_stdin([journal])
        with rereadable(find_files([journal])) as names:
            (name,) = names
            from telstate.journals.nats import StreamSettings  # noqa: PLC0415 - an extra
            from telstate.journals.nats._import_plan import ImportPlan  # noqa: PLC0415

            days = None if keep is None else timedelta(days=keep)
            settings = StreamSettings(partitions=partitions, replicas=replicas, keep=days)
            plan = ImportPlan(base_of_journal(name) if is_sqlite(name) else None)
            size = size_of([name])
            progress = Bar(None if size is None else 2 * size)
            with progress:
                for line in _shown(name, progress):
                    plan.learn(line)
                if not plan.journal:
                    raise JournalError(f"{journal} is empty: nothing to import")
                result = anyio.run(_write, address, connection, settings, plan, lambda: _shown(name, progress))
        _report(plan, result)


async def _write(
    address: NatsAddress,
    connection: object,
    settings: StreamSettings,
    plan: ImportPlan,
    read: Callable[[], Iterator[bytes]],
) -> ImportResult:
    from telstate.journals.nats import NatsConnection, declare  # noqa: PLC0415
    from telstate.journals.nats._importing import Importer  # noqa: PLC0415

    assert isinstance(connection, NatsConnection)  # noqa: S101
    async with connection:
        streams = await declare(connection, address.names, settings)
        importer = Importer(connection, streams, plan)
        await importer.begin()
        for line in read():
            event = plan.place(line)
            if event is not None and event.seq <= plan.last:  # a service may write meanwhile
                await importer.add(event)
        return await importer.finish()


def _shown(name: str, progress: Bar) -> Iterator[bytes]:
    for line in export_lines(name, base=False) if is_sqlite(name) else lines_of(name):
        yield line
        progress.advance(len(line))


def _report(plan: ImportPlan, result: ImportResult) -> None:
    sys.stdout.write(
        f"{_counted(result.events, 'event')} imported, {result.known:,} were there already;"
        f" {_counted(result.marks, 'mark')}, {_counted(result.letters, 'dead letter')}\n"
    )
    if plan.unreadable:
        say(f"{_counted(plan.unreadable, 'line')} could not be read, and left out: see `telstate replay`")
    if plan.left_out:
        say(
            f"{_counted(plan.left_out, 'event')} left out: their sessions began before what is left of this pruned journal"
        )
    if plan.lost:
        say(
            f"{len(plan.lost):,} of these sessions are still live, and will not be known there: {', '.join(plan.lost[:20])}."
            " Import the journal itself, which may have their first events, in place of an export"
        )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
