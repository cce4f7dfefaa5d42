"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-test.lock"]
CONFIGS = sorted(ROOT.glob("config/*.yaml"))

# What Make and the tools write.
GENERATED = {".git"} | {
    line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.endswith("/")
}

# In pieces, so that this file does not break its own rules.
A_PLACE_ON_ONE_MACHINE = re.compile(r"(?<![\w.}~-])/(?:" + "|".join(("root", "home", "work", "Users")) + r")/\w")
A_REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|npmjs|docker|debian)\." + r"(?:org|com|io)\b")


def texts() -> Iterator[tuple[Path, str]]:
    """Every file of the repository that is text."""
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT)
        if path.is_file() and not GENERATED.intersection(inside.parts):
            try:
                yield inside, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_nothing_names_a_place_on_one_machine():
    assert [(str(path), found[0]) for path, text in texts() if (found := A_PLACE_ON_ONE_MACHINE.search(text))] == []


def test_nothing_names_a_registry():
    assert [(str(path), found[0]) for path, text in texts() if (found := A_REGISTRY.search(text))] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_a_hash_and_no_address(lock):
    text = lock.read_text()
    assert "://" not in text
    entries = [entry for entry in re.split(r"\n(?=\w)", text) if not entry.startswith("#")]
    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_locks_are_in_step_with_the_project():
    run, test = (_locked(path) for path in LOCKS)
    extras = PROJECT["optional-dependencies"]
    wanted = [(run, text) for text in PROJECT["dependencies"]]
    wanted += [(test, text) for text in PROJECT["dependencies"] + extras["demo"] + extras["test"]]
    stale = []
    for locked, text in wanted:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name != PROJECT["name"] and not (name in locked and requirement.specifier.contains(locked[name])):
            stale.append(text)
    assert stale == [], "`make lock` writes them anew"
    assert {name: test[name] for name in run if test.get(name) != run[name]} == {}, "tests run what the image runs"


def test_what_the_program_imports_is_a_dependency_of_its_own():
    """What another package brings along today may be gone from it tomorrow."""
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").partition(".")[0])
    imported -= {"po_exporter", *sys.stdlib_module_names}
    imported -= {"annotated_types", "pydantic_core"}  # pydantic's documentation has its users import these
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    distributions = packages_distributions()
    assert {
        name for name in imported if not declared & set(map(canonicalize_name, distributions.get(name, [])))
    } == set()


def test_there_are_configurations_to_start_from():
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
async def test_every_configuration_is_valid(path, cli):
    finished = await cli("config", "check", config=path)
    assert finished.status == 0, finished


def _locked(path: Path) -> dict[str, str]:
    """The exact version of every package in a lock."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", path.read_text(), re.MULTILINE))
