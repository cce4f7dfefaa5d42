"""The page that a person opens at 3 a.m."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from factory import NAMES, NOW, answer, failed, finding, link_rate, result, status, unreadable, view
from po_exporter.expose import page
from po_exporter.expose.server import Listen, Server
from po_exporter.expose.view import View
from po_exporter.model import ChannelStatus, Finding, LinkRate, Result

SOON = NOW + timedelta(seconds=21)
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}\u202eexe.fdp\x00\r\n"
UNLINKED = answer("unlinked_filled_order", *(finding(i, trading_pair="BTC/USD", side="BUY") for i in range(3)))


class Seen(HTMLParser):
    """What a person reads, and the tags that are there."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._pieces: list[str] = []
        self._inside_style = False
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self._pieces))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside_style = tag == "style"

    def handle_endtag(self, _tag: str) -> None:
        self._inside_style = False

    def handle_data(self, data: str) -> None:
        if not self._inside_style:
            self._pieces.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def seen(shown: View, *, refresh: bool = True) -> Seen:
    return Seen(page.render(shown, SOON, refresh=refresh))


def test_a_healthy_database_is_said_to_agree():
    text = seen(view()).text
    assert "OK trading production Orders and positions agree." in text
    assert "As of 2026-01-27 02:00:00 UTC (21 seconds ago)" in text
    assert "Link rate 100.00 %" in text
    assert "13 checks found nothing wrong" in text
    assert "Wrong now" not in text


def test_what_is_wrong_is_shown_worst_first_with_its_rows():
    text = seen(view(status(answer("quantity_mismatch", finding(9, expected="1.50", found="1.25")), UNLINKED))).text
    assert "CRITICAL trading" in text
    assert "2 checks found something wrong, 1 of high priority." in text
    assert text.index("3 unlinked_filled_order") < text.index("1 quantity_mismatch")
    for each in UNLINKED.findings:
        assert each.id in text
    assert "2026-01-27 01:57:00 3 minutes ago" in text  # since when
    assert "expected found" in text
    assert "1.50 1.25" in text
    assert "po-exporter trail POSITION_ID" in text
    assert "11 checks found nothing wrong" in text


def test_with_several_databases_the_command_names_the_one():
    mismatch = answer("quantity_mismatch", finding(9))
    text = seen(view(status(mismatch, database="desk"), status(database="spot"))).text
    assert "po-exporter trail --database desk POSITION_ID" in text


def test_what_has_no_answer_comes_first_and_is_no_zero():
    text = seen(
        view(
            status(failed("quantity_mismatch", "permission denied for table positions"), failed("link_rate"), UNLINKED)
        )
    ).text
    assert "UNKNOWN trading" in text
    assert "2 checks have no answer. The others say CRITICAL" in text
    assert "permission denied for table positions" in text
    assert text.index("No answer") < text.index("Wrong now")
    for number in ("Link rate", "Eligible orders", "Linked", "Quantity mismatches"):
        assert f"{number} unknown" in text
    assert "Unlinked 3" in text
    assert "Orphaned references 0" in text


def test_a_database_that_cannot_be_read_shows_why_and_since_when_and_no_number():
    shown = seen(view(unreadable()))
    assert "UNKNOWN trading" in shown.text
    assert "This database cannot be read, so nothing is known of it." in shown.text
    assert "Why Cannot connect to db:5432: connection refused." in shown.text
    assert "Last read 2026-01-27 01:48:00 UTC (12 minutes ago)" in shown.text
    assert "Link rate" not in shown.text
    assert "nothing wrong" not in shown.text


def test_before_the_first_poll_has_ended_nothing_is_claimed():
    text = seen(view(status(up=None, result=None, last_poll=None, last_success=None))).text
    assert "UNKNOWN trading" in text
    assert "The first poll has not ended yet" in text
    assert "cannot be read" not in text


def test_a_follower_shows_no_verdict():
    text = seen(view(status(UNLINKED, leader=False))).text
    assert "This replica follows" in text
    assert not re.search("OK|DEGRADED|CRITICAL|UNKNOWN", text)
    assert UNLINKED.findings[0].id not in text


def test_a_database_that_is_not_watched_shows_no_verdict():
    text = seen(view(status(monitored=False))).text
    assert "monitor.enabled" in text
    assert not re.search("OK|DEGRADED|CRITICAL|UNKNOWN", text)


def test_a_result_that_grows_old_says_so():
    text = seen(view(status(ready=False))).text
    assert "This may be out of date: it has no result younger than three intervals." in text
    assert "out of date" not in seen(view()).text


def test_with_no_check_enabled_nobody_is_told_that_all_agrees():
    only = Result("trading", NOW, "scan", (link_rate(),))
    text = seen(view(status(result=only, check_names=("link_rate",)))).text
    assert "orders and positions agree" not in text.lower()
    assert "No check is enabled" in text


def test_a_disabled_check_has_no_number():
    names = tuple(name for name in NAMES if name != "quantity_mismatch")
    some = Result("trading", NOW, "scan", tuple(c for c in result().checks if c.name in names))
    assert "Quantity mismatches" not in seen(view(status(result=some, check_names=names))).text


def test_databases_are_listed_worst_first_and_the_title_tells_the_worst():
    html = page.render(
        view(status(database="fine"), status(UNLINKED, database="bad"), unreadable("dark")), SOON, refresh=True
    )
    assert "<title>UNKNOWN - po-exporter</title>" in html
    assert re.findall(r"#database-\d.*?<b>(\w+)</b>", html) == ["dark", "bad", "fine"]


def test_more_rows_are_folded_and_the_rest_is_counted():
    many = answer("unlinked_filled_order", *(finding(i) for i in range(25)), count=12_345)
    shown = seen(view(status(many)))
    assert "12,345 unlinked_filled_order" in shown.text
    assert "15 more" in shown.text
    assert "The first 25 of 12,345 are kept as evidence" in shown.text
    assert finding(24).id in shown.text


def test_a_check_that_was_asked_less_often_tells_when():
    old = answer("quantity_mismatch", finding(1), as_of=NOW - timedelta(minutes=18))
    assert (
        "As of 2026-01-27 01:42:00 UTC (18 minutes ago) , when this check was last asked."
        in seen(view(status(old))).text
    )


def test_what_a_row_has_is_a_column_and_what_it_has_not_is_none():
    rows = answer(
        "unreadable_fill",
        Finding("1", None, NOW, {"zeta": 5, "side": None, "trading_pair": "BTC/USD", "reason": None}),
        Finding("2", None, NOW, {"trading_pair": None, "more": [1, {"a": True}]}),
    )
    shown = page.table(rows)
    assert shown.columns == ("trading_pair", "side", "zeta", "more")
    assert [row.cells for row in shown.rows] == [
        ("BTC/USD", None, "5", None),
        (None, None, None, '[1, {"a": true}]'),
    ]


def test_too_many_columns_share_one():
    shown = page.table(answer("unreadable_fill", Finding("1", None, NOW, {f"k{i}": str(i) for i in range(10)})))
    assert len(shown.columns) == page.MAX_COLUMNS
    assert shown.rows[0].rest == "k8 8, k9 9"


def test_whatever_a_table_holds_stays_text():
    rows = answer("unreadable_fill", Finding(HOSTILE, None, NOW, {HOSTILE: HOSTILE, "pair": HOSTILE}))
    shown = seen(
        view(
            status(rows, failed("quantity_mismatch", HOSTILE), database=HOSTILE, environment=HOSTILE),
            unreadable(HOSTILE + "2", HOSTILE),
        )
    )
    tags = {name for name, _ in shown.tags}
    assert tags.isdisjoint({"script", "img", "iframe", "object", "form", "base"})
    assert not [name for _, attributes in shown.tags for name in attributes if name.startswith("on") or name == "style"]
    assert "<script>document.title='owned'</script>" in shown.text
    assert "49" not in shown.text
    assert r"\u202eexe.fdp\x00\r\n" in shown.text
    assert "\u202e" not in shown.text


def test_long_values_are_cut():
    rows = answer("unreadable_fill", Finding("i" * 10_000, None, NOW, {"note": "n" * 10_000}))
    html = page.render(view(status(rows)), SOON, refresh=True)
    assert html.count("(10,000 characters)") == 2
    assert "i" * 200 not in html
    assert "n" * 200 not in html


def test_the_page_is_fetched_again_at_the_pace_of_the_polls_unless_told_not_to():
    def refresh(shown: Seen) -> list[str | None]:
        return [meta["content"] for meta in shown.named("meta") if meta.get("http-equiv") == "refresh"]

    assert refresh(seen(view(status(poll_interval=45)))) == ["45"]
    assert refresh(seen(view(status(poll_interval=1)))) == ["30"]
    assert refresh(seen(view(status(poll_interval=86_400)))) == ["300"]
    assert refresh(seen(view(), refresh=False)) == []


def test_the_page_asks_for_nothing_from_elsewhere():
    shown = seen(view(status(UNLINKED), unreadable("desk")))
    fetched = [attributes.get("src") or attributes.get("href") or "" for _, attributes in shown.tags]
    # The name space of SVG is no address.
    assert [address for address in fetched if "//" in address and not address.startswith("data:")] == []


def test_a_channel_that_fails_is_told_with_what_waits():
    failing = ChannelStatus("slack", failures={"rejected": 2}, waiting=1234, error=f"refused: {HOSTILE}")
    shown = seen(replace(view(status(UNLINKED)), channels=(failing, ChannelStatus("email", sent=3))))
    assert "Summaries by slack do not arrive: refused: <script>" in shown.text, "as text"
    assert not shown.named("script")
    assert "Waiting: 1,234." in shown.text
    assert "email" not in shown.text


def test_a_configuration_that_could_not_be_loaded_is_told():
    assert "The last attempt to load the configuration failed" in seen(view(config_loaded=False)).text


@pytest.mark.parametrize(
    ("eligible", "links", "text"),
    [(0, 0, "nothing eligible"), (1200, 1188, "99.00 %"), (1_000_000, 999_999, "99.99 %"), (3, 3, "100.00 %")],
)
def test_a_rate_of_100_percent_means_all(eligible, links, text):
    assert str(LinkRate(eligible, links)) == text


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(milliseconds=900), "just now"),
        (timedelta(seconds=1), "1 second ago"),
        (timedelta(seconds=119), "119 seconds ago"),
        (timedelta(minutes=2), "2 minutes ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(days=1500), "1,500 days ago"),
    ],
)
def test_ages_are_told_in_words(age, words):
    assert page.ago(NOW - age, NOW) == words


# --- in a real browser


@pytest.fixture
async def opened(chromium):
    """Opens a view in the browser as the server serves it: the page, and what the browser complained of."""
    servers = []

    async def open_page(shown: View, **context):
        async def nothing() -> None:
            raise AssertionError("nobody asked for a reload")

        server = Server(Listen("127.0.0.1", 0), lambda: shown, nothing)
        await server.start()
        servers.append(server)
        tab = await (await chromium.new_context(**context)).new_page()
        complaints: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        await tab.goto(f"http://127.0.0.1:{server.port}/")
        return tab, complaints

    yield open_page
    for server in servers:
        await server.stop()


MIXED = view(
    status(
        failed("link_rate"),
        UNLINKED,
        answer(
            "unreadable_fill",
            Finding("L" * 10_000, None, NOW, {"note": "n" * 10_000, **{f"column_{i}": HOSTILE for i in range(12)}}),
        ),
    ),
    unreadable("d" * 200, "e" * 5000),
    status(database="follower", leader=False),
)


async def test_a_browser_shows_it_styled_without_a_complaint_and_within_its_width(opened):
    for scheme, width in (("light", 320), ("light", 1280), ("dark", 320), ("dark", 1280)):
        tab, complaints = await opened(MIXED, color_scheme=scheme, viewport={"width": width, "height": 800})
        assert complaints == []
        assert await tab.title() == "UNKNOWN - po-exporter"
        assert await tab.evaluate("document.documentElement.scrollWidth") == width
        shade = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", shade))) < 300) == (scheme == "dark")


async def test_an_id_can_be_selected_at_once(opened):
    tab, _ = await opened(view(status(UNLINKED)))
    await tab.get_by_text(UNLINKED.findings[1].id).click()
    assert await tab.evaluate("getSelection().toString()") == UNLINKED.findings[1].id


async def test_what_is_fine_unfolds_without_a_script(opened):
    tab, _ = await opened(view(), java_script_enabled=False)
    name = tab.get_by_text("orphaned_position_reference")
    assert not await name.is_visible()
    await tab.get_by_text("13 checks found nothing wrong").click()
    assert await name.is_visible()


async def test_text_stands_out_from_its_background(opened):
    """Every text has the contrast to what is behind it that WCAG AA asks for: 4.5 to 1."""
    shown = view(
        status(UNLINKED, database="a"),
        status(answer("quantity_mismatch", finding(1)), database="b"),
        status(database="c"),
        unreadable("d"),
    )
    for scheme in ("light", "dark"):
        tab, _ = await opened(shown, color_scheme=scheme)
        pairs = await tab.evaluate(
            """() => [...document.querySelectorAll('p, dt, dd, a, h1, h2, h3, th, td, code, span, summary')]
                .map(element => {
                    let behind = element
                    const paint = () => getComputedStyle(behind).backgroundColor
                    while (paint() == 'rgba(0, 0, 0, 0)') behind = behind.parentElement
                    return [getComputedStyle(element).color, paint(), element.className]
                })"""
        )
        assert len(pairs) > 100
        assert [pair for pair in pairs if _contrast(pair[0], pair[1]) < 4.5] == []


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_the_picture_in_the_documentation_is_small():
    assert (Path(__file__).parents[1] / "docs" / "images" / "page.png").stat().st_size < 200_000
