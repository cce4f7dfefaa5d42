"""The benchmark is a claim about others, too: everybody must find the same in a table whose truth is known."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEADLINES = {"unlinked_filled_order", "orphaned_position_reference", "quantity_mismatch", "eligible", "links"}


@pytest.mark.timeout(600)  # the first run fetches PostgreSQL and the other exporters
def test_all_parties_count_the_same(tmp_path):
    """A tiny run, beginning to end: real servers, real exporters, and po-exporter as one installs it."""
    arguments = ["--orders", "20000", "--repetitions", "1", "--polls", "3", "--format", "json"]
    arguments += ["--seconds", "3", "--bad-rows", "2", "--pairs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=590, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)

    assert report["agreed"]
    assert report["orders"] == 20_000
    expected = {"po-exporter, full check", "po-exporter, window poll", "postgres_exporter", "query-exporter"}
    left_out = set(report["left_out"])
    if left_out and os.environ.get("CI") != "true":
        pytest.skip(f"could not be had here: {report['left_out']}")
    assert expected <= report["parties"].keys()
    truth = report["truth"]
    assert len(truth) == len(HEADLINES) + 10  # thirteen checks and the two parts of the link rate
    assert all(truth.values())  # every check has something to find
    for name in expected:
        assert report["parties"][name]["answers"] == truth, name
        assert min(report["parties"][name]["database_seconds"]) > 0

    # What changed is compared with the truth after every change, and all that lived has to be found.
    changes = report["changes"]
    assert changes["followed"].keys() == {"0", "100"}
    for found in changes["followed"].values():
        assert min(found["database_seconds"]) > min(found["feed_seconds"]) > 0
    assert [rate["wanted"] for rate in changes["rates"]] == [350, 500]
    assert all(rate["lives"] > 0 and rate["polls"] > 0 for rate in changes["rates"])
    assert len(changes["latency_seconds"]) == 2
    assert all(len(ratios) == 1 and ratios[0] > 0 for ratios in changes["pairs"].values())
