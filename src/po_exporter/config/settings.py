"""The shape of the configuration: every key, its kind, its default and what it means.

Each model is one section. The environment variables, the near matches of a typing error and the reference in
docs/configuration.md all follow from these models.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from po_exporter.config.kinds import (
    Count,
    CountOrZero,
    Cron,
    Duration,
    DurationOrZero,
    Factor,
    Number,
    Percentage,
    Port,
    Size,
    Switch,
    Text,
    Timeout,
    TimeZone,
    Word,
    near,
)
from po_exporter.config.targets import Address, Directory, File, ListenAddress, SecretDsn, SecretText, SecretUrl, Url
from po_exporter.model import Priority


class Section(BaseModel):
    """One mapping of the file. A key that holds null, or a section that holds nothing, is as good as absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        known = {field.alias or name for name, field in cls.model_fields.items()}
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if value is not None or name not in known}
        return {} if data is None else data


def optional(default: Any, description: str, *, alias: str | None = None) -> Any:
    """A key that may be absent. The default stands here as it would in the file."""
    return Field(default, description=description, alias=alias)


def required(description: str) -> Any:
    """A key that must be there."""
    return Field(description=description)


def section() -> Any:
    """A section whose keys may all be absent."""
    return Field({})


def off(value: object) -> object:
    """YAML reads an unquoted ``off`` as false."""
    return "off" if value is False else value


class DatabaseSettings(Section):
    """One database to watch."""

    dsn: SecretDsn = required("How to connect: a `postgresql://` address, or `host=... dbname=...`.")
    password: SecretText | None = optional(None, "The password; it wins over one in a connection string.")
    direct_dsn: SecretDsn | None = optional(None, "A connection past a pooler, for what needs a session.")
    feed_dsn: SecretDsn | None = optional(None, "A role of its own for the change feed.")
    fix_dsn: SecretDsn | None = optional(None, "A role of its own for writes.")
    schema_: Word = optional("gal-friday", "A name from `schemas`, or built in.", alias="schema")
    environment: Word | None = optional(None, "What `feature_flags` and summaries call its environment.")

    @field_validator("schema_")
    @classmethod
    def _exists(cls, value: str, info: ValidationInfo) -> str:
        schemas: list[str] = (info.context or {})["schemas"]
        if value not in schemas:
            raise ValueError(f"there is no schema {value!r}.{near(value, schemas)}")
        return value


class Monitor(Section):
    """How often, how far back and how long to ask."""

    interval: Duration = optional("60s", "Time from one poll to the next.")
    mode: Literal["scan", "incremental", "auto"] = optional("auto", "How to learn what changed.")
    window: Duration = optional("24h", "How old `created_at` may be for the link rate and the checks over the window.")
    grace: DurationOrZero = optional("30s", "An unlinked fill younger than this does not count yet.")
    statement_timeout: Timeout = optional("30s", "The longest that one statement may run.")
    lock_timeout: Timeout = optional("1s", "The longest that a statement may wait for a lock.")
    poll_timeout: Timeout = optional(None, "The longest that a poll may take; by default twice `statement_timeout`.")
    enabled: Switch = optional("true", "Whether to poll at all.")
    evidence: Count = optional("100", "Findings kept a check as evidence; counts are always exact.")
    identity_budget: CountOrZero = optional("100000", "Findings a check whose identity is remembered.")
    state_budget: Size = optional("64MB", "Memory that incremental mode may take.")

    @field_validator("poll_timeout", mode="before")
    @classmethod
    def _twice_a_statement(cls, value: object, info: ValidationInfo) -> object:
        statement: timedelta = info.data.get("statement_timeout", timedelta(seconds=30))
        return f"{2 * statement // timedelta(milliseconds=1)}ms" if value is None else value


class CheckSettings(Section):
    """What can be said of every check; a check's own settings follow."""

    enabled: Switch = optional("true", "Whether to ask this check.")
    priority: Priority | None = optional(None, "high, medium or low; by default as its file says.")
    interval: Duration | None = optional(
        None,
        "Time between two answers. By default every poll; for a check over everything also at least twenty times as "
        "long as its last answer took.",
    )
    threshold: Number = optional("0", "Past it is strictly above (`link_rate`: strictly below).")
    tolerance: Number | None = optional(
        None, "How far two quantities may differ and still agree, for a check that compares some; see its file."
    )


class Checks(Section):
    """Settings by the check's name, and where more checks are."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, CheckSettings]

    directory: Directory | None = optional(None, "More checks, as SQL files of the same form.")


class Thresholds(Section):
    """The guide's way to write ``checks.*.threshold``."""

    link_rate: Number = optional("95", "The same as `checks.link_rate.threshold`.")
    unlinked_filled_orders: Number = optional("10", "The same as `checks.unlinked_filled_order.threshold`.")
    orphaned_references: Number = optional("0", "The same as `checks.orphaned_position_reference.threshold`.")
    quantity_mismatches: Number = optional("1", "The same as `checks.quantity_mismatch.threshold`.")


class Tls(Section):
    """TLS of the HTTP server; off without a certificate."""

    cert_file: File | None = optional(None, "The server's certificate and its chain, in PEM.")
    key_file: File | None = optional(None, "The certificate's private key, in PEM.")
    client_ca_file: File | None = optional(None, "Clients need a certificate that one of these signed.")

    @field_validator("key_file")
    @classmethod
    def _with_its_certificate(cls, value: object, info: ValidationInfo) -> object:
        if "cert_file" in info.data and (value is None) != (info.data["cert_file"] is None):
            raise ValueError("cert_file and key_file belong together: set both.")
        return value

    @field_validator("client_ca_file")
    @classmethod
    def _needs_a_certificate(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("cert_file", value) is None:
            raise ValueError("needs cert_file and key_file.")
        return value


class Server(Section):
    """The HTTP server."""

    listen: ListenAddress = optional("0.0.0.0:9843", "host:port; `:9843` is every address.")
    tokens_file: File | None = optional(None, "A line a token: `name scope[,scope] token`.")
    tls: Tls = section()
    external_url: Url | None = optional(None, "How people reach it, for links.")
    reload: Switch = optional("false", "Whether `POST /-/reload` exists; it also needs `tokens_file`.")

    @property
    def host(self) -> str:
        """The host to listen on; empty for every address."""
        return self.listen.host

    @property
    def port(self) -> int:
        """The port to listen on."""
        return self.listen.port


class Slack(Section):
    """Summaries by Slack."""

    token: SecretText | None = optional(None, "A bot's token.")
    webhook_url: SecretUrl | None = optional(None, "An incoming webhook's address.")
    channel: Word | None = optional(None, "Where the bot posts.")
    api_url: Url = optional("https://slack.com/api/", "Where Slack is; GovSlack has an address of its own.")


class Recipients(Section):
    """Who is written to, by priority."""

    high: tuple[Address, ...] = optional([], "Addresses for what has high priority.")
    medium: tuple[Address, ...] = optional([], "Addresses for what has medium priority.")
    low: tuple[Address, ...] = optional([], "Addresses for what has low priority.")


class Email(Section):
    """Summaries by e-mail."""

    host: Word | None = optional(None, "The SMTP server.")
    port: Port = optional("587", "Its port.")
    starttls: Annotated[Literal["required", "optional", "off"], BeforeValidator(off)] = optional(
        "required", "required, optional or off."
    )
    username: Text | None = optional(None, "Who logs in there.")
    password: SecretText | None = optional(None, "The password of that user.")
    ca_file: File | None = optional(None, "Whom to trust for its certificate; by default whom the system trusts.")
    from_: Address | None = optional(None, "The sender's address.", alias="from")
    to: Recipients = section()


class Webhook(Section):
    """Summaries to a program."""

    url: SecretUrl | None = optional(None, "Where they are posted to.")
    secret: SecretText | None = optional(None, "What they are signed with.")


class Digest(Section):
    """A summary of the day."""

    schedule: Cron | None = optional(None, "When, as a cron expression.")
    timezone: TimeZone = optional("UTC", "The time zone of that schedule.")


class Notify(Section):
    """When an incident opens, changes and closes, and who is told."""

    incidents: Switch = optional(
        "true", "Whether incidents are told; false where Alertmanager alone says what is wrong."
    )
    open_after: Count = optional("2", "Bad answers of a check until its incident opens.")
    close_after: Count = optional("3", "Good answers until it closes.")
    change_factor: Factor = optional("2", "By how much the count moves before people hear of it again.")
    slack: Slack = section()
    email: Email = section()
    webhook: Webhook = section()
    digest: Digest = section()
    dashboard_url: Url | None = optional(None, "Where Grafana shows the dashboard, for a button.")
    templates: Directory | None = optional(None, "Templates that replace ours, file by file.")


class Fix(Section):
    """Which repairs may be made, and how many."""

    allow: tuple[Literal["unlink_orphan", "link_order"], ...] = optional([], "The fixes that may be applied.")
    max_per_run: CountOrZero = optional("10", "The most fixes in one run.")
    max_per_hour: CountOrZero = optional("50", "The most fixes in one hour.")
    max_quantity: Number | None = optional(None, "The largest quantity that a fix may touch.")
    quiet_period: DurationOrZero = optional("5m", "How long the rows must have been left alone.")
    attempts: Count = optional("3", "How often the same fix is tried on the same row.")
    stop: Switch = optional("false", "Stops every write, whatever else is set.")


class Reconcile(Section):
    """A full check and its repairs, on a schedule."""

    enabled: Switch = optional("false", "Whether it runs by itself.")
    schedule: Cron = optional("0 2 * * *", "When, as a cron expression.")
    timezone: TimeZone = optional("UTC", "The time zone of that schedule.")
    auto_fix: Switch = optional("false", "Whether it applies what `fix.allow` names.")


class Link(Section):
    """Links made as fills arrive."""

    enabled: Switch = optional("false", "Whether to make links.")
    verify: Switch = optional("true", "Whether to read each link again after it was made.")


class FeatureFlag(Section):
    """A gate in the guide's form."""

    enabled: Switch = optional("true", "Whether the gate is open at all.")
    rollout_percentage: Percentage = optional("100", "For which share of the orders it is open.")
    environments: tuple[Word, ...] | None = optional(None, "In which environments; by default in all.")

    def covers(self, environment: str | None) -> bool:
        """Whether an environment is in the list; no list names them all, and one without a name is in no list."""
        return self.environments is None or environment in self.environments


class FeatureFlags(Section):
    """The guide's three gates; an absent one is open."""

    position_order_relationship: FeatureFlag | None = optional(None, "Gates every write.")
    position_order_auto_linking: FeatureFlag | None = optional(None, "Gates links.")
    position_order_monitoring: FeatureFlag | None = optional(None, "Gates polls.")
