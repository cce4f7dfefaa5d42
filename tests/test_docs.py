"""The documentation, held to what it says: links lead somewhere, commands and examples run, no metric is made up."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import check_reference
from parts.database import Database
from parts.waiting import until
from po_exporter import config
from po_exporter.cli import cli as program
from po_exporter.config.shape import keys
from po_exporter.expose.metrics import CATALOG
from po_exporter.mapping import CANONICAL, DERIVED
from po_exporter.sql import KEYS, LINK_RATE, load_checks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"))
}
CHECKS = load_checks()
METRICS = {family.name for family in CATALOG}
EXAMPLES = Path(__file__).with_name("check_examples.sql")
RULES = (ROOT / "alerts" / "position-order.rules.yaml").read_text(encoding="utf-8")
POSITION = "00000000-0000-4000-b000-0000000000a1"
STAND_FOR = {"NAME": "trading", "FILE": "po.yaml", "URL": "https://x.example/"}
"""What a reader puts in place of the words in capitals."""

# The clock of the examples; a function found before PostgreSQL's own.
FROZEN = "".join(
    f"CREATE FUNCTION frozen.{name}() RETURNS timestamptz STABLE LANGUAGE sql"
    " AS $$SELECT timestamptz '2026-01-27 02:00Z'$$;"
    for name in ("clock_timestamp", "now")
)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``mark`` is the comment above it, which says what a test is to do with it."""

    page: str
    mark: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    found = re.finditer(r"^(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```", PAGES[page], re.M | re.S)
    return [Block(page, match[1] or "", match[2], match[3]) for match in found]


def marked(mark: str, pages: list[str] | None = None) -> list[Block]:
    """Every block with a mark that begins so."""
    return [block for page in pages or PAGES for block in blocks(page) if block.mark.split(":")[0] == mark]


def only(mark: str, page: str) -> str:
    (block,) = marked(mark, [page])
    return block.text


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def commands(page: str) -> Iterator[list[str]]:
    """The arguments of every call of the program that stands in a page."""
    shells = [block.text for block in blocks(page) if block.language in ("", "sh", "console", "text")]
    lines = "".join(shells).splitlines() + re.findall(r"`(po-exporter [^`]+)`", prose(PAGES[page]))
    for line in lines:
        found = re.fullmatch(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?po-exporter( .*)?", line)
        if found:
            words = shlex.split(found[1] or "", comments=True)
            yield list(takewhile(lambda word: word != "|" and not word.startswith(">"), words))


def anchors(text: str) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
async def examples(database: Database) -> Database:
    """The rows behind the examples, and a clock that stands still."""
    await database.execute(EXAMPLES.read_text())
    await database.execute(f"CREATE SCHEMA frozen; GRANT USAGE ON SCHEMA frozen TO PUBLIC; {FROZEN}")
    await database.execute(f"ALTER DATABASE {database.name} SET search_path = frozen, pg_catalog, public")
    await database.close()  # the next session has the new path
    return database


def findings(answer: Any) -> dict[str, dict[str, Any]]:
    """Check -> id -> finding, out of what `check --format json` prints."""
    (database,) = answer["databases"]
    assert all(check["ok"] for check in database["checks"]), database
    return {check["name"]: {each["id"]: each for each in check["findings"]} for check in database["checks"]}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[page])):
        name, _, anchor = target.partition("#")
        if name.startswith(("http:", "https:")):
            continue
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text(encoding="utf-8"))):
            broken.append(target)
    assert broken == []


def test_every_page_is_in_the_index():
    index = PAGES["docs/README.md"] + PAGES["docs/runbooks/README.md"].replace("](", "](runbooks/")
    pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if path != DOCS / "README.md"]
    assert [page for page in pages if f"]({page})" not in index] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_can_be_typed(page):
    for words in commands(page):
        rest = words
        command: click.Command = program
        context = click.Context(program)
        while isinstance(command, click.Group) and rest:
            _, found, rest = command.resolve_command(context, rest)
            assert found
            command, context = found, click.Context(found, parent=context)
        if not isinstance(command, click.Group):
            command.make_context(command.name, rest)


async def test_every_command_that_asks_a_database_answers(examples, po_exporter, cli):
    (po_exporter.directory / "po.yaml").write_text(f"databases: {{trading: {{dsn: '{examples.reader_dsn}'}}}}\n")
    asking = {
        tuple(words)
        for page in PAGES
        for words in commands(page)
        if words
        and words[0] not in ("run", "demo", "install")
        and words[:2] != ["notify", "test"]
        # The others write, or ask the record.
        and (words[0] != "fix" or words[1] == "plan")
        and "--auto-fix" not in words
    }
    assert {words[0] for words in asking} == {
        "check", "doctor", "trail", "config", "rules", "dashboards", "notify", "fix", "reconcile",
    }  # fmt: skip
    for words in asking:
        typed = [STAND_FOR.get(word, POSITION if re.fullmatch("[A-Z_]+", word) else word) for word in words]
        finished = await cli(*typed, env={"PO_EXPORTER_CONFIG": "po.yaml"})
        # The examples are wrong, so that 1 is the answer of those that have a verdict.
        assert finished.status == (1 if words[0] in ("check", "trail", "reconcile") else 0), (words, finished)
        assert finished.stdout, words


@pytest.mark.parametrize("block", marked("config"), ids=lambda block: f"{block.page}: {block.mark}")
def test_every_configuration_is_sound(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checks").mkdir()
    for name in re.findall(r"_file: ([a-z-]+)", block.text):
        (tmp_path / name).write_text("a secret")
    (tmp_path / "po.yaml").write_text(block.text)
    assert config.load(tmp_path / "po.yaml", {}).databases


@pytest.mark.parametrize("page", ["README.md", "docs/schemas.md"])
async def test_the_mapping_fits_the_tables_that_it_describes(page, empty_database, cli):
    await empty_database.execute(only("tables", "docs/schemas.md"))
    await empty_database.execute("GRANT USAGE ON SCHEMA oms TO po_reader")
    await empty_database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA oms TO po_reader")
    # 0.999 came in of 1; in the README's mapping nothing is known of fees, so that the position is off by them.
    await empty_database.execute(
        """INSERT INTO oms.book VALUES (1, 'BTC/USD', 'main', 'LONG', 0.999, now() - interval '1 hour', NULL);
        INSERT INTO oms."Order" VALUES (7, 1, 'BTC/USD', 'main', 'B', 'done', 1, 1, 0.001, 'kraken', 'x',
                                        now() AT TIME ZONE 'Europe/Zurich', now())"""
    )
    mapping = next(block.text for block in blocks(page) if block.mark == "config: oms")
    env = {"PO_EXPORTER_DSN": empty_database.reader_dsn}
    finished = await cli("check", "--format", "json", config=mapping, env=env)
    found = {name: list(each) for name, each in findings(finished.json).items() if each}
    assert found == ({"quantity_mismatch": ["1"]} if page == "README.md" else {})
    examined = await cli("doctor", config=mapping, env=env)
    assert examined.status == 0, examined


@pytest.mark.parametrize("block", marked("role"), ids=lambda block: block.page)
async def test_the_role_has_the_rights_that_it_needs_and_no_others(block, database, cli, exporter):
    name = f"role_of_{database.name}"
    await database.execute(block.text.replace("po_reader", name))
    try:
        dsn = re.sub(r"//[^@]*@", f"//{name}@", database.dsn)
        finished = await cli("doctor", "--format", "json", env={"PO_EXPORTER_DSN": dsn, "PGPASSWORD": "choose one"})
        (examined,) = finished.json["databases"]
        advice = {remark["subject"] for remark in examined["remarks"] if remark["level"] != "ok"}
        # An index is all that is missing, what would save the scanning, and a place for what is told.
        assert (finished.status, advice) == (0, {"orders.exchange_order_id", "incremental feed", "schema po_exporter"})
        running = await exporter(env={"PO_EXPORTER_DSN": dsn, "PGPASSWORD": "choose one"})

        async def is_up() -> bool:
            return f'position_order_up{{database="{database.name}"}} 1.0' in (await running.get("/metrics")).text

        await until(is_up, what="the first poll")
        await running.stop()
    finally:
        await database.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_prometheus_takes_the_queries(promtool, tmp_path):
    queries = [line for block in marked("promql") for line in block.text.splitlines()]
    assert len(queries) > 3
    rules = [{"record": f"answer:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "docs", "rules": rules}]}))
    await promtool("check", "rules", tmp_path / "queries.yml")


def test_every_check_has_a_page_and_every_page_a_check():
    assert {path.stem for path in (DOCS / "checks").glob("*.md")} == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_page_has_the_facts_of_its_check(name):
    text = PAGES[f"docs/checks/{name}.md"]
    assert text.startswith(f"# {name}\n")
    assert check_reference.facts(CHECKS[name]) in text, "`python tests/check_reference.py` writes them anew"


def test_the_readme_lists_every_check_with_its_priority():
    listed = re.findall(r"^\| \[(\w+)\]\(docs/checks/\1\.md\) \| (\w+) \|", PAGES["README.md"], re.M)
    assert dict(listed) == {name: check.priority for name, check in CHECKS.items() if name != LINK_RATE}


async def test_the_examples_of_the_checks_are_what_the_checks_say(examples, cli):
    answer = (await cli("check", "--format", "json", env={"PO_EXPORTER_DSN": examples.reader_dsn})).json
    found = findings(answer)
    shown: dict[str, str] = {}
    for name in CHECKS:
        page = f"docs/checks/{name}.md"
        example = json.loads(only("example", page))
        rows = await examples.fetch(only("rows", page))
        if name == LINK_RATE:
            metrics = answer["databases"][0]["metrics"]
            assert example == {key: metrics[key] for key in example}
            assert (rows[0]["eligible"], rows[0]["links"]) == (example["eligible_orders"], example["links"])
            continue
        assert found[name][example["id"]] == example, name
        assert {str(row["id"]) for row in rows} == set(found[name]), f"{name}: the query finds what the check finds"
        shown[name] = example["id"]
    mends = {Path(block.page).stem: block.text for block in marked("mend")}
    assert mends
    for mend in mends.values():
        assert await examples.execute(mend) == "UPDATE 1"
    left = findings((await cli("check", "--format", "json", env={"PO_EXPORTER_DSN": examples.reader_dsn})).json)
    assert [name for name in mends if shown[name] in left[name]] == []


async def test_the_check_of_ones_own_finds_what_it_says(examples, po_exporter, cli):
    (block,) = marked("check")
    directory = po_exporter.directory / "checks"
    directory.mkdir()
    (directory / block.mark.removeprefix("check: ")).write_text(block.text)
    name = block.mark.removeprefix("check: ").removesuffix(".sql")
    await examples.execute(
        """UPDATE orders SET average_fill_price = 100;
        INSERT INTO orders (id, trading_pair, side, status, quantity, filled_quantity, average_fill_price, created_at)
        VALUES ('00000000-0000-4000-a000-0000000000e1', 'BTC/USD', 'BUY', 'FILLED', 0.1, 0.1, 0, '2026-01-27 01:50')"""
    )
    env = {"PO_EXPORTER_DSN": examples.reader_dsn}
    finished = await cli("check", "--format", "json", config=only("config", block.page), env=env)
    assert findings(finished.json)[name] == {(each := json.loads(only("finding", block.page)))["id"]: each}
    (check,) = (check for check in finished.json["databases"][0]["checks"] if check["name"] == name)
    assert (check["issue_type"], check["priority"]) == ("FILL_WITHOUT_PRICE", "medium")


def test_what_a_check_may_ask_for_is_explained():
    explained = set(re.findall(r"`((?:orders|positions|ledger)\.\w+)`", PAGES["docs/own-checks.md"]))
    assert set(DERIVED) - explained == set()
    assert explained - set(CANONICAL) == set()
    for key in KEYS:
        assert f"| `{key}` |" in PAGES["docs/own-checks.md"], key


@pytest.mark.parametrize("page", PAGES)
def test_no_metric_is_made_up(page):
    suffixes = ("", "_bucket", "_sum", "_count")
    known = {f"{family.name}{end}" for family in CATALOG for end in (suffixes if family.kind == "histogram" else ("",))}
    known |= {part for key in keys() for part in key.path}  # the guide's block and its feature flags
    known |= {"position_order_data_quality", "position_order_migration"}  # the guide's modules
    known |= {*re.findall(r"position_order_exporter_notification_[a-z_]+", RULES)}  # an alert waits for those
    assert set(re.findall(r"\bposition_order_[a-z_]*[a-z]\b", PAGES[page])) - known == set()


def test_the_changelog_lists_every_metric():
    listed = set(re.findall(r"`(position_order_\w+)`", PAGES["CHANGELOG.md"]))
    assert listed == METRICS


def test_every_log_event_is_explained():
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py") if "demo" not in path.parts)
    logged = set(re.findall(r'\blog\.\w+\(\s*"(\w+)"', source))
    table = PAGES["docs/operating.md"].partition("## Logs")[2]
    explained = {event for row in re.findall(r"^\| (`.*?) \|", table, re.M) for event in re.findall(r"`(\w+)`", row)}
    assert logged - explained == set()
    assert {event for event in explained if f'"{event}"' not in source} == set()
