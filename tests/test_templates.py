"""Templates of one's own: they replace ours file by file, see nothing but the summary, and never leave it untold."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from po_exporter.tell.blocks import escape, message
from po_exporter.tell.samples import SAMPLES
from po_exporter.tell.templates import Templates

SUMMARY = SAMPLES["opened"]
EVERYTHING = tuple(SAMPLES.values())
OWN = """{% extends "builtin/slack.j2" %}
{% block header %}
Desk: {{ summary.database }} & {{ summary.count }}
{% endblock %}
"""


def render(templates: Templates, **changes: object) -> dict[str, str]:
    return templates.render("slack.j2", replace(SUMMARY, **changes), escape)


def test_one_of_ones_own_replaces_ours(tmp_path):
    (tmp_path / "slack.j2").write_text(OWN)
    templates = Templates(tmp_path, EVERYTHING)
    assert templates.faults == []
    parts = render(templates, database="<!here>")
    assert parts["header"] == "Desk: &lt;!here&gt; & 12"
    assert parts["rows"] == render(Templates(None, ()))["rows"]


def test_the_one_in_the_documentation_is_sound(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "summaries.md").read_text()
    (tmp_path / "slack.j2").write_text(re.search(r"<!-- template: slack.j2 -->\n```jinja\n(.*?)```", page, re.S)[1])
    templates = Templates(tmp_path, EVERYTHING)
    assert templates.faults == []
    assert render(templates)["header"] == "For the desk: CRITICAL: 12 unlinked_filled_order in trading"


def test_what_may_be_missing_is_missing_in_an_example(tmp_path):
    (tmp_path / "slack.j2").write_text(OWN.replace("summary.database", "summary.environment.upper()"))
    (fault,) = Templates(tmp_path, EVERYTHING).faults
    assert "upper" in str(fault)


FAULTY = {
    "a slip": ("{% block header %}\n{{ summary.nothing_such }}{% endblock %}", 3, "nothing_such"),
    "no name": ("{% block header %}\n\n{{ sumary.count }}{% endblock %}", 4, "'sumary' is undefined"),
    "syntax": ("{% block header %}\n{{ summary.count ", 3, "unexpected end of template"),
    "a sum": ("{% block header %}{{ summary.count / 0 }}{% endblock %}", 2, "division by zero"),
    "a way out": ("{% block header %}{{ summary.__class__.__mro__ }}{% endblock %}", 2, "unsafe"),
    "for ever": ("{% block header %}{% for n in range(10 ** 9) %}{% endfor %}{% endblock %}", 2, "Range too big"),
    "itself": ('{% block header %}{% include "slack.j2" %}{% endblock %}', 2, "recursion"),
    "another file": ('{% block header %}{% include "/etc/passwd" %}{% endblock %}', 2, "/etc/passwd"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_one_with_a_fault_is_told_with_its_place_and_ours_is_used(tmp_path, case):
    text, line, why = FAULTY[case]
    (tmp_path / "slack.j2").write_text('{% extends "builtin/slack.j2" %}\n' + text)
    templates = Templates(tmp_path, EVERYTHING)
    (fault,) = templates.faults
    assert str(fault).startswith(f"{tmp_path / 'slack.j2'}:{line}: ")
    assert why in str(fault)
    assert render(templates) == render(Templates(None, ()))


def test_one_that_extends_itself_is_told(tmp_path):
    (tmp_path / "slack.j2").write_text('{% extends "slack.j2" %}')
    (fault,) = Templates(tmp_path, EVERYTHING).faults
    assert "recursion" in str(fault)


def test_a_headline_that_is_empty_is_ours(tmp_path):
    (tmp_path / "slack.j2").write_text('{% extends "builtin/slack.j2" %}{% block header %}{% endblock %}')
    content = message(Templates(tmp_path, EVERYTHING), SUMMARY)
    assert content["blocks"][0]["text"]["text"] == "CRITICAL: 12 unlinked_filled_order in trading"


def test_one_that_lacks_a_part_is_told(tmp_path):
    (tmp_path / "slack.j2").write_text("{% block header %}x{% endblock %}")
    (fault,) = Templates(tmp_path, EVERYTHING).faults
    assert "has no block fields, body, rows, footer" in str(fault)


def test_a_file_that_is_no_template_of_ours_is_told(tmp_path):
    (tmp_path / "slak.j2").write_text(OWN)
    (fault,) = Templates(tmp_path, EVERYTHING).faults
    assert "there is no such template" in str(fault)


def test_one_that_fails_only_in_earnest_is_told_then_and_ours_is_used(tmp_path, capsys):
    (tmp_path / "slack.j2").write_text(OWN.replace("summary.count", "7 // ((summary.count or 0) - 77)"))
    templates = Templates(tmp_path, EVERYTHING)
    assert templates.faults == []
    assert render(templates, count=77)["header"] == "CRITICAL: 77 unlinked_filled_order in trading"
    assert "template_failed" in "".join(capsys.readouterr())


def test_what_the_message_is_made_of_is_escaped_and_the_template_itself_is_not(tmp_path):
    (tmp_path / "slack.j2").write_text(OWN.replace("Desk:", "<!here>"))
    templates = Templates(tmp_path, EVERYTHING)
    header = message(templates, replace(SUMMARY, database="<!channel>"))["blocks"][0]["text"]["text"]
    assert header == "<!here> &lt;!channel&gt; & 12", "whoever writes the template may mention"
