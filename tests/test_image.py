"""The image, built as a release builds it, and run as its own user with a read-only root."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest
import yaml

from parts.image import REVISION, ROOT, Image, built
from parts.waiting import until
from po_exporter import __version__
from sidecar import populate, settings

SBOM = "opt/po-exporter/sbom.cdx.json"
SHELLS = ("/bin/sh", "/bin/bash", "/bin/dash")
INSTALLED = """
import json, importlib.metadata as m
print(json.dumps({d.metadata["Name"].lower().replace("_", "-"): d.version for d in m.distributions()}))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Iterator[Image]:
    with built(tmp_path_factory.mktemp("image")) as image:
        yield image


def python(image: Image, program: str, **options) -> str:
    finished = image.run("/opt/po-exporter/bin/python", "-c", program, **options)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)


def installed(image: Image) -> dict[str, str]:
    return json.loads(python(image, INSTALLED))


def test_hadolint_finds_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_it_says_what_it_is(image):
    labels = {key.rpartition(".")[2]: value for key, value in image.config["Labels"].items()}
    assert (labels["title"], labels["licenses"]) == ("po-exporter", "Apache-2.0")
    assert (labels["version"], labels["revision"]) == ("1.2.3", REVISION)
    assert {"description", "source", "documentation"} <= labels.keys()
    assert image.config["ExposedPorts"] == {"9843/tcp": {}}


def test_its_user_is_known_and_may_write_nowhere(image):
    assert image.config["User"] == "10001:10001"
    assert python(image, "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name, os.getgroups())") == "po-exporter []"
    # Not for want of a writable disk: its own files belong to root.
    refused = image.run("/opt/po-exporter/bin/python", "-c", "open('/opt/po-exporter/x', 'w')")
    assert "Read-only file system" in refused.stderr
    ours = [path for path in (image.root / "opt").rglob("*") if not path.is_symlink()]
    assert {path.stat().st_uid for path in ours} == {0}
    assert [path for path in ours if path.stat().st_mode & 0o6022] == []


def test_its_list_of_contents_is_complete(image):
    listed = json.loads((image.root / SBOM).read_text())
    components = [listed["metadata"]["component"], *listed["components"]]
    versions = {each["name"].lower().replace("_", "-"): each["version"] for each in components}
    assert versions == installed(image)
    assert all(each.get("licenses") for each in components)
    assert all(each["purl"].startswith("pkg:pypi/") for each in listed["components"])


def test_it_holds_what_is_locked_and_nothing_that_installs(image):
    locked = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.M))
    found = installed(image)
    assert found.pop("po-exporter") == __version__
    assert found.items() <= locked.items()
    assert not list((image.root / "opt").rglob("pip"))
    assert not (image.root / "build").exists()


async def test_it_runs_read_only_as_its_user_and_without_a_shell(image, database, tmp_path):
    await populate(database)
    tmp_path.chmod(0o755)
    (tmp_path / "po.yaml").write_text(yaml.safe_dump(settings(database.reader_dsn)))
    arguments = [*image.config["Entrypoint"], *image.config["Cmd"], "--config", "/etc/po-exporter/po.yaml"]
    running = start(image.command(*arguments, hidden=SHELLS, files=tmp_path), tmp_path / "log")
    try:

        async def answers() -> bool:
            assert running.poll() is None, (tmp_path / "log").read_text()
            try:
                async with aiohttp.request("GET", "http://127.0.0.1:9843/-/ready") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await until(answers, timeout=30, what="the image to answer")
        async with aiohttp.request("GET", "http://127.0.0.1:9843/-/healthy") as response:
            assert response.status == 200
        async with aiohttp.request("GET", "http://127.0.0.1:9843/metrics") as response:
            page = await response.text()
        (info,) = re.findall(r"^position_order_exporter_build_info\{(.*)\} 1.0$", page, re.M)
        assert sorted(info.split(",")) == [f'revision="{REVISION}"', f'version="{__version__}"']
        assert 'position_order_up{database="trading"} 1.0' in page
        assert set(psutil.Process(running.pid).uids()) == {10001}
        check = image.config["Healthcheck"]["Test"]
        assert check[0] == "CMD", "a shell would be needed otherwise"
        assert image.run(*check[1:], hidden=SHELLS).returncode == 0
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
        assert image.run(*check[1:]).returncode != 0
    finally:
        running.kill()
        running.wait()


def test_its_size_is_what_the_docs_say(image):
    page = (ROOT / "docs" / "image.md").read_text()
    size, layers = re.search(r"(\d+) MB, of which [^.]*?in (\d+) layers", page).groups()
    assert abs(image.size / 1e6 / int(size) - 1) < 0.1
    assert image.layers == int(layers)
