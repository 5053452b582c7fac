"""`telstate campaign`: call the people on a list, and see how far it is and change its course from another process."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from telstate.calls._engine import Engine
from telstate.calls._replay import Replay
from telstate.cli._campaign_options import (
    Limits,
    Name,
    Plan,
    Times,
    do_not_call_of,
    limits_of,
    plan_of,
    seconds_of,
    times_of,
)
from telstate.cli._campaign_reports import CampaignReport, report_of, words_of
from telstate.cli._config import CAMPAIGN
from telstate.cli._config_flags import configured
from telstate.cli._log_run import LogRun
from telstate.cli._logs import LineReader, read_log
from telstate.cli._shared_options import taking
from telstate.cli._terminal import misuse, tidy_exit
from telstate.cli._verb import Verb
from telstate.control._campaign import Campaign
from telstate.control._campaign_progress import CampaignState
from telstate.control._campaign_report import KnownContact, known_contacts, known_results, known_state
from telstate.control._campaign_results import ContactResult, result_of
from telstate.control._contacts import Contact, read_contacts
from telstate.errors import printable
from telstate.events._masking import mask
from telstate.journals import SqliteJournal
from telstate.journals._file_lock import is_locked
from telstate.journals._sqlite import is_sqlite

if TYPE_CHECKING:
    from telstate.cli._config_sources import Loaded

__all__ = ["verbs"]

verbs = typer.Typer(
    no_args_is_help=True,
    help="Call the people on a list, each at most so often, nobody again who was reached; see how far it is, pause, resume and stop it.",
)

_List = Annotated[str, typer.Argument(metavar="LIST", help="A CSV file with a column `number`.")]
_Path = Annotated[str, typer.Argument(metavar="JOURNAL", help="The journal of the campaign (calls.db).")]
_MOST_NAMES = 5


@verbs.command("run", cls=Verb)
@configured(CAMPAIGN)
@taking(limits=limits_of, plan=plan_of, times=times_of, report=report_of)
def run(
    loaded: Loaded,
    contacts: _List,
    *,
    name: Name,
    room: Annotated[str, typer.Option("--room", metavar="NAME", help="The room that dials; your bot is in it.")],
    limits: Limits,
    plan: Plan,
    times: Times,
    do_not_call: Annotated[
        str | None,
        typer.Option(
            "--do-not-call",
            metavar="FILE",
            help="Numbers that must not be called, one a line; read again when it changes.",
        ),
    ] = None,
    confirm: Annotated[
        str | None,
        typer.Option(
            "--confirm",
            metavar="MODULE:FUNCTION",
            help="An async function of a session and an attempt; its `Verdict` says whether an answer counts.",
        ),
    ] = None,
    late_events: Annotated[
        str,
        typer.Option(
            "--late-events",
            metavar="TIME",
            help="After a restart, how long nobody is called who was called before it: Daily may still report their answer.",
        ),
    ] = "15m",
    results: Annotated[
        str | None,
        typer.Option("--results", metavar="FILE", help="Write the results there in full, as .csv or .jsonl."),
    ] = None,
    report: CampaignReport,
) -> None:
    """Call everybody on a list, through Daily's REST API; print one result for each, as soon as it is final.

    It is a service like `telstate serve`, with the same settings: it receives Daily's webhooks, keeps every event and every start in its journal,
    and runs your handlers. Its webhook must be active (`telstate webhook create`), the room's dial-out enabled, and your bot in the room.

    After Ctrl-C, a kill or a restart, run the same command again, and it goes on: nobody who was reached is called again, and no number gets
    more starts than planned. A start of which nobody can tell what came is `unknown` and not repeated.

    The list has the columns number, name, id, time_zone, priority and caller_id; any other is a note of the session.

    The exit code is 0 when everybody has a result, 1 if it was ended before, 2 for misuse.

    Example: telstate campaign run people.csv app:router --name spring --room garage --at-once 20 --hours 09:00-20:00 --time-zone Europe/Berlin
    """
    with tidy_exit():
        _check_service(loaded)
        from telstate.cli._campaign_run import CampaignCommand, Output, load_confirm  # noqa: PLC0415 - an extra

        campaign = Campaign(
            name,
            read_contacts(contacts),
            **limits._asdict(),
            **plan._asdict(),
            **times._asdict(),
            do_not_call=do_not_call_of(do_not_call),
            confirm=load_confirm(confirm),
            late_events=seconds_of("--late-events", late_events),
        )
        open(contacts, encoding="utf-8").close()  # a list that is missing is named before anything starts
        if not CampaignCommand(campaign, room, limits.at_once, Output(report, results)).run(loaded):
            raise typer.Exit(1)


@verbs.command("status", cls=Verb)
def status(
    path: _Path, *, name: Name, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show what a journal knows of a campaign: its state, whom it called, and what came of it. Also while it runs.

    It does not know the list: who was never tried is not counted.

    Example: telstate campaign status calls.db --name spring
    """
    with tidy_exit():
        engine = _engine_of(path, name)
        counted: dict[str, Any] = {
            **_counted([*known_contacts(engine, name)]),
            "paused": (state := known_state(engine, name)) is CampaignState.PAUSED,
            "stopped": state is CampaignState.STOPPED,
            "asked": _asked(path, name),
            "journal_open": is_locked(Path(path)),
        }
        if as_json:
            sys.stdout.write(json.dumps({"campaign": name, **counted}) + "\n")
            return
        sys.stdout.write(
            f"{printable(name)}: {', '.join(_course(counted))}\n{words_of(counted)}; {counted['dialing']} being called\n"
        )


@verbs.command("pause", cls=Verb)
def pause(path: _Path, *, name: Name) -> None:
    """Start no more calls until `resume`; those that run go on. Also over restarts."""
    _ask(path, name, "pause")


@verbs.command("resume", cls=Verb)
def resume(path: _Path, *, name: Name) -> None:
    """Go on after `pause`."""
    _ask(path, name, "resume")


@verbs.command("stop", cls=Verb)
def stop(path: _Path, *, name: Name) -> None:
    """Start no more calls, for good: who has no result gets `campaign-stopped`."""
    _ask(path, name, "stop")


@verbs.command("report", cls=Verb)
@taking(plan=plan_of, report=report_of)
def report_(
    path: _Path,
    *,
    name: Name,
    contacts: Annotated[
        str | None,
        typer.Option("--list", metavar="LIST", help="The campaign's list, for names and for who was never called."),
    ] = None,
    plan: Plan,
    report: CampaignReport,
) -> None:
    """Show one result for each number, by what the journal knows. Also while the campaign runs.

    Without the list it has everybody who was called, with what came of the last start. With the list it has the results that are final, in the list's
    order: give the same --attempts, pauses and --ring-timeout as for `run`, which say when a number is not called any more.

    Example: telstate campaign report calls.db --name spring --list people.csv --csv --numbers
    """
    with tidy_exit():
        engine = _engine_of(path, name)
        found: Iterable[ContactResult] = map(_as_result, known_contacts(engine, name))
        if contacts is not None:
            found = known_results(engine, name, read_contacts(contacts), plan.retry, plan.ring_timeout)
        _print(report.head())
        done: Counter[str] = Counter()
        starts = 0
        for result in found:
            _print(report.result(result))
            done[str(result.outcome)] += 1
            starts += len(result.attempts)
        _print(report.summary({"contacts": done.total(), "done": dict(done), "starts": starts}))


def _check_service(loaded: Loaded) -> None:
    if loaded.config.nats is not None:
        misuse("a campaign keeps its starts in a journal of its own (--journal): run it without TELSTATE_NATS")
    if loaded.config.daily_api_key is None:
        misuse("a campaign dials through Daily's REST API: set DAILY_API_KEY")


def _engine_of(path: str, name: str) -> Engine:
    """Read a journal that knows a campaign of this name."""
    _check_journal(path)
    run = LogRun([path])
    run.run()
    engine = run.replay.engine
    _check_among(engine, path, name)
    return engine


def _check_known(path: str, name: str) -> None:
    """Refuse a name of which a journal knows nothing. It is read no further than to where the campaign begins: a pause is urgent."""
    _check_journal(path)
    replay = Replay()
    read = LineReader(replay.feed, lambda *_: None)
    for line in read_log([path]):
        read(line)
        if replay.engine.intent(name) is not None:
            return
    _check_among(replay.engine, path, name)


def _check_among(engine: Engine, path: str, name: str) -> None:
    names = sorted({intent.partition("/")[0] for intent in engine.intents()})
    if name not in names and not _asked(path, name):
        shown = ", ".join(map(repr, names[:_MOST_NAMES])) + (", …" if len(names) > _MOST_NAMES else "")
        others = f"campaigns and intents in it: {mask(shown)}" if names else "it has none"
        misuse(f"{path} knows no campaign {name!r}; {others}. Check --name: a campaign is known from its first run on")


def _check_journal(path: str) -> None:
    if not is_sqlite(path):
        misuse(f"{path} is no journal: give the database of the campaign (calls.db)")


def _course(counted: dict[str, Any]) -> Iterator[str]:
    """Say what a campaign does: what is asked of it, and whether somebody may be doing that."""
    yield "stopped" if counted["stopped"] else "paused" if counted["paused"] else "not paused"
    if counted["asked"]:
        yield f"asked to {', '.join(counted['asked'])}"
    if counted["journal_open"] is not None:
        yield "a process has the journal open" if counted["journal_open"] else "no process has the journal open"


def _asked(path: str, name: str) -> list[str]:
    """Return what other processes asked for, and nobody has done yet."""
    return [one.wish for one in anyio.run(SqliteJournal(path).campaign_requests, name)]


def _ask(path: str, name: str, wish: str) -> None:
    with tidy_exit():
        _check_known(path, name)
        anyio.run(SqliteJournal(path).request_campaign, name, wish)
        sys.stdout.write(
            f"{wish} requested: the process that runs {printable(name)} does it within seconds, else the next one\n"
        )


def _counted(contacts: list[KnownContact]) -> dict[str, Any]:
    """Count what came of contacts by now: of one that may be called again, what came of the last start."""
    done = Counter(str(_as_result(one).outcome) for one in contacts if not one.is_dialing)
    return {
        "contacts": len(contacts),
        "dialing": sum(one.is_dialing for one in contacts),
        "starts": sum(len(one.attempts) for one in contacts),
        "done": dict(done),
    }


def _as_result(known: KnownContact) -> ContactResult:
    return result_of(Contact(known.key), known.attempts, known.outcome, None, was_known=True)


def _print(text: str | None) -> None:
    if text is not None:
        sys.stdout.write(text + "\n")
