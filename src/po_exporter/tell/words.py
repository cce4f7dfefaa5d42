"""The sentences of a summary, the same in every channel: what templates call as filters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from po_exporter.model import Verdict
from po_exporter.sql import LINK_RATE
from po_exporter.tell.incidents import UNREADABLE
from po_exporter.tell.summary import Number, Past, Row, Summary

MOST_VALUE = 80
"""Characters of one value that are told."""
COLOURS = {
    Verdict.OK: "#17693a",
    Verdict.DEGRADED: "#b26f00",
    Verdict.CRITICAL: "#b3261e",
    Verdict.UNKNOWN: "#7b8794",
}
FIRST_FACTS = ("trading_pair", "side", "status", "quantity", "filled_quantity", "expected", "found", "difference")
"""Of a row's details, what is told first."""
MOST_FACTS = 6


def headline(summary: Summary) -> str:
    """One line: what happened, where."""
    what, where = _what(summary), summary.database
    match summary.kind:
        case "opened":
            return f"{summary.verdict}: {what} in {where}"
        case "changed":
            return f"{summary.verdict}: now {what} in {where}"
        case "closed" | "off" as kind:
            end = "No longer watched" if kind == "off" else "Healed" if summary.healed else "Over"
            return f"{end}: {summary.check} in {where}"
        case "alert":
            return _alerted(summary)
        case "digest":
            return f"The day of {where}: {summary.verdict}"
        case _:
            return f"A test: {what} in {where}"


def colour(summary: Summary) -> str:
    """Of how it stands, for HTML."""
    if summary.kind == "closed":
        known = Verdict.OK if summary.healed else Verdict.DEGRADED
        return COLOURS[Verdict.UNKNOWN if summary.healed is None else known]
    return COLOURS[Verdict.UNKNOWN if summary.kind in ("off", "test") else summary.verdict]


def story(summary: Summary) -> str:
    """A few sentences: what is wrong, since when, and how it moved."""
    return " ".join(_sentences(summary))


def moved(number: Number) -> str:
    """A number, and what it was."""
    now = number.now or "UNKNOWN"
    return now if number.before in (None, number.now) else f"{now} (was {number.before})"


def facts(row: Row) -> str:
    """The details of a row, in one line."""
    keys = [key for key in FIRST_FACTS if key in row.details]
    keys += [key for key in row.details if key not in FIRST_FACTS]
    told = [f"{key.replace('_', ' ')} {legible(row.details[key])}" for key in keys[:MOST_FACTS]]
    return ", ".join([*told, f"since {stamp(row.since)}" if row.since else "since when, nobody knows"])


def stamp(when: datetime) -> str:
    """In UTC, to the second; the zone stands beside it."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def lasted(span: timedelta) -> str:
    """A span in words."""
    seconds = max(int(span.total_seconds()), 0)
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def legible(text: object, most: int = MOST_VALUE) -> str:
    """A value from a table in one line, cut where it is long."""
    whole = str(text)
    shown = printable(whole[:most])
    return shown if len(whole) <= most else f"{shown}…"


def printable(text: str) -> str:
    """A text in one line, without characters that hide or turn round what is there."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _alerted(summary: Summary) -> str:
    """What Alertmanager says, and what is known."""
    name = legible(summary.alert.name if summary.alert else "")
    says = "is resolved" if summary.ends else "fires"
    if summary.verdict == Verdict.UNKNOWN:
        return f"UNKNOWN: {name} {says}, and nobody knows of {summary.check} in {summary.database}"
    what = "the database can be read" if summary.check == UNREADABLE else f"{_what(summary)} in {summary.database}"
    return f"{summary.verdict}: {name} {says}, {what}"


def _what(summary: Summary) -> str:
    if summary.check == UNREADABLE:
        return "nothing is known, the database cannot be read,"
    if summary.check == LINK_RATE:
        rate = next((number.now for number in summary.numbers if number.now), None)
        return f"link rate {rate or 'below its threshold'}"
    return f"{summary.count or 0:,} {summary.check}"


def past(incident: Past) -> str:
    """One incident of a day, in one line."""
    count = f"{incident.count:,} " if incident.count is not None else ""
    until = f"until {stamp(incident.ended)}" if incident.ended else "still open"
    return f"{count}{incident.check}, from {stamp(incident.began)} UTC, {until}"


def _digested(summary: Summary) -> list[str]:
    told = [f"From {stamp(summary.began)} to {stamp(summary.at)} UTC."]
    if summary.error:
        told.append(f"The database cannot be read: {legible(summary.error, 600)}.")
    still_open = sum(incident.ended is None for incident in summary.incidents)
    told.append(f"Incidents: {summary.opened:,} opened, {summary.closed:,} closed, {still_open:,} open now.")
    if summary.links_made:
        within = "took longer" if summary.links_within is None else f"took {summary.links_within:g} s at most"
        told.append(f"Links made: {summary.links_made:,}; 99 % of them {within}.")
    else:
        told.append("Links made: none that were seen.")
    return told


def _sentences(summary: Summary) -> list[str]:
    if summary.kind == "digest":
        return _digested(summary)
    told = [summary.title if summary.title.endswith(".") else f"{summary.title}."]
    if summary.kind == "off":
        return [*told, "The check is off since the configuration was read again; whether it healed, nobody knows."]
    if summary.kind == "closed":
        told.append(f"It lasted {lasted(summary.at - summary.began)}, from {stamp(summary.began)} UTC.")
        if summary.still_wrong:
            share = f"{len(summary.still_wrong):,} of {summary.asked_again:,}"
            told.append(f"Still wrong ({share}), but below the threshold or too old for the window:")
        elif summary.healed is None and summary.asked_again:
            told.append(f"The latest {summary.asked_again:,} of its rows were looked at again, none of them wrong.")
            told.append("It had more than those; whether they have healed or grown too old, nobody can tell.")
        elif summary.healed is None:
            told.append("Whether its rows have healed, nobody can tell.")
        elif summary.check == LINK_RATE:
            told.append("It is within its threshold.")
        elif summary.check != UNREADABLE:
            left = f"Below the threshold, {summary.count:,} are left. " if summary.count else ""
            told.append(f"{left}Rows of it that were looked at again: {summary.asked_again:,}, none of them wrong.")
        return told
    told.append(f"{'Alertmanager says so since' if summary.alert else 'Since'} {stamp(summary.began)} UTC.")
    if summary.error:
        told.append(f"It says: {legible(summary.error, 600)}.")
    if summary.before is not None and summary.before != summary.count:
        told.append(f"There were {summary.before:,} when this was last told.")
    if summary.flaps:
        times = "once" if summary.flaps == 1 else f"{summary.flaps} times in a row"
        told.append(f"It was bad again soon after it had closed, {times}.")
    if summary.rows:
        what = "Without a link, the" if summary.check == LINK_RATE else "The"
        told.append(f"{what} first {len(summary.rows)}:" if summary.more else "They are:")
    return told
