"""What is said at start of a configuration that can be used, but does not do all that it seems to say."""

from __future__ import annotations

from collections.abc import Iterator

from po_exporter.config.shape import Settings
from po_exporter.dsn import Dsn
from po_exporter.sql import LINK_RATE


def advice(settings: Settings) -> Iterator[str]:
    """One sentence for each."""
    yield from _databases(settings)
    yield from _schemas(settings)
    yield from _monitoring(settings)
    if settings.server.reload and not settings.server.tokens_file:
        yield "server.reload is on, but without server.tokens_file POST /-/reload does not exist."
    yield from _channels(settings)
    yield from _writes(settings)
    yield from _not_yet(settings)


def _databases(settings: Settings) -> Iterator[str]:
    for name, database in settings.databases.items():
        if database.environment is None:
            yield (f"databases.{name} has no environment, so it is in no feature flag's list: "
                   "it is polled, and nothing may be written there.")  # fmt: skip
        for key in ("dsn", "direct_dsn", "feed_dsn", "fix_dsn"):
            secret = getattr(database, key)
            if secret is None:
                continue
            for promise in Dsn.parse(secret.reveal()).unkept:
                yield f"databases.{name}.{key} asks for {promise}, which the driver cannot do: it connects without."


def _schemas(settings: Settings) -> Iterator[str]:
    for name, schema in settings.schemas.items():
        if not schema.orders.complete_statuses:
            yield (f"schemas.{name}.orders.complete_statuses is empty, so no status promises a fill: "
                   "unreadable_fill cannot see that one is missing.")  # fmt: skip


def _monitoring(settings: Settings) -> Iterator[str]:
    flag = settings.feature_flags.position_order_monitoring
    if not settings.monitor.enabled:
        yield "monitor.enabled is off: no database is polled, and nothing is known of any."
    elif flag and not flag.enabled:
        yield "feature_flags.position_order_monitoring is off: no database is polled, and nothing is known of any."
    elif flag:
        for name, database in settings.databases.items():
            if database.environment is not None and not flag.covers(database.environment):
                yield (f"databases.{name} is not polled: its environment, {database.environment}, is not in the list "
                       "of feature_flags.position_order_monitoring.")  # fmt: skip
    if flag and flag.rollout_percentage != 100:
        yield "feature_flags.position_order_monitoring.rollout_percentage is ignored: polls are for all orders or none."
    rate = (settings.checks.__pydantic_extra__ or {}).get(LINK_RATE)
    if rate and rate.priority:
        yield "checks.link_rate.priority has no effect: the link rate is no finding, and adds nothing to a verdict."


def _channels(settings: Settings) -> Iterator[str]:
    slack, email = settings.notify.slack, settings.notify.email
    if slack.token and not slack.channel:
        yield "notify.slack.token is set, but not notify.slack.channel: the bot has nowhere to post."
    if slack.token and slack.channel and slack.webhook_url:
        yield "notify.slack has a token and a webhook_url: the bot is used, and the webhook is not."
    if email.host and not email.from_:
        yield "notify.email.host is set, but not notify.email.from: nothing can be sent without a sender."
    if email.host and not (email.to.high or email.to.medium or email.to.low):
        yield "notify.email.host is set, but nobody is named under notify.email.to."
    if email.password and email.starttls != "required":
        yield "notify.email.starttls is not required, so that the password may go over the network as it is."


def _writes(settings: Settings) -> Iterator[str]:
    """The guide's switches ask for writes, and none of them makes one by itself."""
    asked = [
        name
        for name, is_on in (
            ("link.enabled", settings.link.enabled),
            ("reconcile.enabled", settings.reconcile.enabled),
            ("reconcile.auto_fix", settings.reconcile.auto_fix),
        )
        if is_on
    ]
    writable = settings.fix.allow and any(database.fix_dsn for database in settings.databases.values())
    if asked and not writable:
        yield f"{', '.join(asked)}: on, but that alone writes nothing; it takes fix_dsn and the fix in fix.allow, too."


def _not_yet(settings: Settings) -> Iterator[str]:
    """Settings that are understood, and wait for a version that acts on them."""
    if settings.fix.allow:
        yield "fix.allow names fixes: `po-exporter fix apply` makes them; the sidecar makes none by itself yet."
    if settings.reconcile.enabled:
        yield "reconcile.enabled is on, but this version reconciles only when asked: `po-exporter reconcile`."
    if settings.link.enabled:
        yield "link.enabled is on, but this version makes no links yet."
