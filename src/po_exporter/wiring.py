"""What each room needs to know, out of the whole configuration."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import structlog

from po_exporter.config import Config, Database
from po_exporter.config import load as load_settings
from po_exporter.config.settings import Email as EmailSettings
from po_exporter.config.settings import Slack
from po_exporter.database.session import Limits, Target
from po_exporter.errors import ConfigError, UsageError
from po_exporter.expose.rules import JOB, PROJECT, RUNBOOKS, Ruled, RuledCheck, answered_by
from po_exporter.expose.server import Listen, faults_of
from po_exporter.install.wanted import FIXER, READER, Wanted
from po_exporter.repair.rules import Rules
from po_exporter.secret import Secret
from po_exporter.sql import load_fixes
from po_exporter.tell import teller as tell
from po_exporter.tell.channel import Channel
from po_exporter.tell.digest import Schedule
from po_exporter.tell.incidents import UNREADABLE, Sensitivity
from po_exporter.tell.samples import SAMPLES
from po_exporter.tell.templates import Templates
from po_exporter.tell.webhook import Webhook
from po_exporter.watch.answer import Question, Terms
from po_exporter.watch.watched import Watched

log = structlog.get_logger()

NO_OVERRIDES: Mapping[str, object] = {}


def questions(config: Config) -> tuple[Question, ...]:
    """Every enabled check with its settings."""
    return tuple(
        Question(
            file=file,
            priority=None if file.priority is None else config.checks[name].priority or file.priority,
            tolerance=config.checks[name].tolerance,
            interval=config.checks[name].interval,
        )
        for name, file in config.check_files.items()
        if config.checks[name].enabled
    )


def watched(config: Config, name: str) -> Watched:
    """What one database's monitor needs to know, out of the whole configuration."""
    database, monitor = config.databases[name], config.monitor
    return Watched(
        target=Target(name, database.dsn, database.password),
        environment=database.environment,
        mapping=database.mapping,
        questions=questions(config),
        terms=Terms(
            window=monitor.window,
            grace=monitor.grace,
            limits=Limits(monitor.statement_timeout, monitor.lock_timeout, monitor.poll_timeout),
            evidence=monitor.evidence,
            identity_budget=monitor.identity_budget,
        ),
        interval=monitor.interval,
        polls=config.polls(name),
        mode=monitor.mode,
        feed=_feed_target(name, database),
        control=_direct(name, database),
        elects=config.leader == "auto",
        state_budget=int(monitor.state_budget),
    )


def to_install(config: Config, name: str) -> Wanted:
    """What install is to make in one database. Raises CredentialsUnreadable."""
    database = config.databases[name]
    groups = ((database.dsn, READER), (database.direct_dsn, READER), (database.fix_dsn, FIXER))
    members = [(Target(name, secret).user, group) for secret, group in groups if secret]
    return Wanted(database.mapping, feed=config.monitor.mode != "scan", members=tuple(dict.fromkeys(members)))


def rules_for_fixes(config: Config, name: str) -> Rules:
    """What may be written in one database, as far as the configuration says."""
    fix, flags = config.fix, config.feature_flags
    shares: dict[str, int] = {}
    for flag, fixes in (
        (flags.position_order_relationship, tuple(load_fixes())), (flags.position_order_auto_linking, ("link_order",)),
    ):  # fmt: skip
        if flag:
            shares |= {each: min(flag.rollout_percentage, shares.get(each, 100)) for each in fixes}
    no_links = _closed(config, name, "position_order_auto_linking")
    mismatch = config.checks["quantity_mismatch"]
    return Rules(
        allow=frozenset(fix.allow),
        max_per_run=fix.max_per_run,
        max_per_hour=fix.max_per_hour,
        max_quantity=fix.max_quantity,
        quiet_period=fix.quiet_period,
        attempts=fix.attempts,
        tolerance=mismatch.tolerance or Decimal(0),
        stopped=why_not_written(config, name),
        closed={"link_order": no_links} if no_links else {},
        shares=shares,
    )


def why_not_written(config: Config, name: str) -> str | None:
    """Why nothing at all may be written in one database; None where it may."""
    if config.fix.stop:
        return "fix.stop is set"
    if config.databases[name].environment is None:
        return f"databases.{name} has no environment, so that nothing may be written there"
    return _closed(config, name, "position_order_relationship")


def _closed(config: Config, name: str, flag_name: str) -> str | None:
    """Why a feature flag is closed for a database; None where it is open."""
    flag, environment = getattr(config.feature_flags, flag_name), config.databases[name].environment
    if flag is None or (flag.enabled and flag.covers(environment)):
        return None
    where = f"is not for the environment {environment}" if flag.enabled else "is off"
    return f"feature_flags.{flag_name} {where}"


def fixer(config: Config, name: str) -> Target:
    """Where is written, and as whom. Raises UsageError where nobody may."""
    dsn = config.databases[name].fix_dsn
    if dsn is None:
        raise UsageError(
            f"databases.{name}.fix_dsn is not set: it names the role that may write, and nothing else may."
        )
    return Target(name, dsn)


def sealing(config: Config, name: str) -> Target:
    """Where records are sealed, and as whom."""
    return _direct(name, config.databases[name])


def ruled(config: Config, job: str, runbooks: str) -> Ruled:
    """What the alert rules need to know."""
    checks = [
        RuledCheck(
            name=question.name,
            issue_type=question.file.issue_type,
            help=question.file.help,
            priority=question.priority,
            threshold=config.checks[question.name].threshold,
            interval=question.interval,
            settles=question.file.settles,
            runbook=question.file.runbook,
        )
        for question in questions(config)
    ]
    return Ruled(checks, config.monitor.interval, config.monitor.window, job, runbooks)


def questions_of_alerts(config: Config) -> dict[str, tuple[str, ...]]:
    """By alert of ours, the checks behind it; the database, where it is about that."""
    return answered_by(ruled(config, JOB, RUNBOOKS)) | {"PositionOrderDatabaseDown": (UNREADABLE,)}


def listen(config: Config) -> Listen:
    """The server's settings."""
    server = config.server
    return Listen(
        host=server.host,
        port=server.port,
        cert_file=server.tls.cert_file,
        key_file=server.tls.key_file,
        client_ca_file=server.tls.client_ca_file,
        tokens_file=server.tokens_file,
        external_url=server.external_url,
        reload=server.reload,
    )


def telling(config: Config) -> tuple[tuple[Channel, ...], tell.Terms]:
    """Who is told, of what, when. Templates that cannot be used are told in the log."""
    found = templates(config)
    for fault in found.faults:
        log.error("template_refused", file=fault.file, line=fault.line, error=fault.why)
    return channels(config, found), telling_terms(config)


def telling_terms(config: Config) -> tell.Terms:
    """What there is to know about what is told."""
    notify, digest = config.notify, config.notify.digest
    return tell.Terms(
        sensitivity=Sensitivity(
            open_after=notify.open_after,
            close_after=notify.close_after,
            change_factor=float(notify.change_factor),
            thresholds={name: float(check.threshold) for name, check in config.checks.items()},
        ),
        runbooks={
            name: file.runbook or f"{PROJECT}/blob/main/docs/checks/{name}.md"
            for name, file in config.check_files.items()
        },
        page=str(config.server.external_url) if config.server.external_url else None,
        dashboard=str(notify.dashboard_url) if notify.dashboard_url else None,
        replica=replica(),
        digest=Schedule(digest.schedule, digest.timezone) if digest.schedule else None,
        incidents=notify.incidents,
    )


def channels(config: Config, found: Templates) -> tuple[Channel, ...]:
    """Every channel that is configured."""
    slack, email, webhook = config.notify.slack, config.notify.email, config.notify.webhook
    wanted: list[Channel] = []
    if (slack.token and slack.channel) or slack.webhook_url:
        wanted.append(_slack(slack, found))
    if email.host and email.from_:
        wanted.append(_email(email, email.host, email.from_, found))
    if webhook.url:
        wanted.append(Webhook(webhook.url, webhook.secret))
    return tuple(wanted)


def _slack(slack: Slack, found: Templates) -> Channel:
    from po_exporter.tell.slack import Bot, IncomingWebhook  # noqa: PLC0415  # its SDK's memory is for those who use it

    if slack.token and slack.channel:
        return Bot(slack.token, slack.channel, found, str(slack.api_url))
    return IncomingWebhook(slack.webhook_url or Secret(""), found)


def _email(email: EmailSettings, host: str, sender: str, found: Templates) -> Channel:
    from po_exporter.tell.email import Email, Server  # noqa: PLC0415  # as above

    server = Server(host, email.port, email.starttls, email.username, email.password, email.ca_file)
    to = {"high": email.to.high, "medium": email.to.medium, "low": email.to.low}
    return Email(server, sender, to, found)


def templates(config: Config) -> Templates:
    """Ours, and those of the user's directory, tried on everything that there could be to tell."""
    return Templates(config.notify.templates, tuple(SAMPLES.values()))


def replica() -> str:
    """How people tell this replica from others: the host's name, which is the pod's."""
    return socket.gethostname()


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] = NO_OVERRIDES) -> Config:
    """The configuration, with the files that only the server reads tried, too. Raises ConfigError."""
    config = load_settings(path, environ, overrides)
    faults = faults_of(listen(config))
    if faults:
        raise ConfigError(faults)
    return config


def _direct(name: str, database: Database) -> Target:
    """Where a session of our own is to be had: past a pooler, if there is one."""
    return Target(name, database.direct_dsn or database.dsn, database.password)


def _feed_target(name: str, database: Database) -> Target:
    """Where the change feed connects: as a role of its own, or where the reader does, past a pooler."""
    return Target(name, database.feed_dsn) if database.feed_dsn else _direct(name, database)
