"""File, environment and flags -> Config, or every fault at once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from po_exporter.config import guide
from po_exporter.config.advice import advice
from po_exporter.config.config import LOADED, Config, Database
from po_exporter.config.kinds import duration_text, near, number
from po_exporter.config.settings import CheckSettings
from po_exporter.config.shape import Settings, hint, keys, kind_at
from po_exporter.config.tree import KeyPath, Place, Tree, concrete, read_file
from po_exporter.config.variables import place_dsn, read_variables
from po_exporter.errors import ConfigError, Fault
from po_exporter.mapping import BUILT_IN
from po_exporter.secret import Secret
from po_exporter.sql import LINK_RATE, CheckFile, CheckFileError, load_checks

_NO_OVERRIDES: Mapping[str, object] = {}


def example() -> str:
    """A commented file to begin with."""
    return files(__package__).joinpath("example.yaml").read_text(encoding="utf-8")


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] = _NO_OVERRIDES) -> Config:
    """Reads the file, lets the environment win over it and the overrides over both, and checks it all.

    ``overrides`` maps dotted key paths to values; None is as good as absent. Relative file names are taken from the
    working directory. Raises ConfigError with every fault at once.
    """
    faults: list[Fault] = []
    tree = read_file(path, faults) if path else Tree()
    variables = read_variables(environ, tree, faults)
    guide.spread(tree, variables, faults)
    tree.merge(variables)
    place_dsn(environ, tree, variables, faults)
    for name, value in overrides.items():
        if value is not None:
            key = tuple(name.split("."))
            tree.put(key, _as_text(value), Place("the command line", key))
    _fold_secret_files(tree, faults)
    check_files = _check_files(tree, faults)
    settings, details = _validate(tree)
    faults += [_fault(tree, detail, list(check_files)) for detail in details]
    faults += _cross_faults(tree, check_files)
    if settings is None or faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return _config(settings, check_files)


def _as_text(value: object) -> object:
    """A flag's value as it would stand in the file."""
    if isinstance(value, list | tuple):
        return [_as_text(item) for item in value]
    if isinstance(value, timedelta):
        return duration_text(value)
    return value if isinstance(value, bool | dict) else str(value)


def _fold_secret_files(tree: Tree, faults: list[Fault]) -> None:
    """``dsn_file: name`` becomes ``dsn: Path(name)``: one value, whichever way it was given."""
    for key in keys():
        if not key.is_file:
            continue
        for path in concrete(tree.values, key.path):
            name, plain = tree.get(path), (*path[:-1], path[-1].removesuffix("_file"))
            if name is not None and tree.get(plain) is not None:
                faults.append(tree.fault(path, f"{plain[-1]} is set, too; keep one of the two."))
            elif name is not None:
                tree.put(plain, Path(name.strip()) if isinstance(name, str) else name, tree.place(path))
            tree.remove(path)


def _check_files(tree: Tree, faults: list[Fault]) -> dict[str, CheckFile]:
    """All checks there are; empty when the user's cannot be read, so that nothing is said about their names."""
    directory = tree.get(("checks", "directory"))
    try:
        if not isinstance(directory, str) or not Path(directory).is_dir():
            return load_checks()  # what is wrong with the directory itself is found with its key
        wrong: list[CheckFileError] = []
        found = load_checks(Path(directory), wrong)
    except CheckFileError as error:
        wrong, found = [error], {}
    faults += [Fault(f"{each.path}:{each.line}" if each.line else each.path, each.message) for each in wrong]
    return {} if wrong else found


def _validate(tree: Tree) -> tuple[Settings | None, list[ErrorDetails]]:
    schemas = tree.get(("schemas",))
    names = [*BUILT_IN, *(schemas if isinstance(schemas, dict) else ())]
    try:
        return Settings.model_validate(tree.values, context={"schemas": names}), []
    except ValidationError as error:
        return None, error.errors(include_url=False, include_input=False)


def _fault(tree: Tree, detail: ErrorDetails, checks: list[str]) -> Fault:
    """One of pydantic's errors in our words."""
    path = tuple(str(part) for part in detail["loc"])
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden" if tree.get(path) is None:  # it may be the second half of an unquoted secret
            return tree.fault(path[:-1], f"has an unknown key without a value.{hint(path, [])}")
        case "extra_forbidden":
            message = f"is unknown.{hint(path, [])}"
        case "missing":
            kind = kind_at(path)
            message = f"is missing{f' (or {path[-1]}_file)' if kind is Secret else ''}."
        case "model_type" | "dict_type":
            message = "should be a mapping of keys to values."
            if len(path) == 2 and path[0] == "checks" and checks and path[1] not in checks:
                message = f"is unknown.{hint(path, checks)}"
        case "tuple_type":
            message = "should be a list such as [a, b]."
        case "literal_error":
            message = f"should be {context['expected']}."
        case "greater_than_equal":
            message = f"should be at least {context['ge']}."
        case "less_than_equal":
            message = f"should be at most {context['le']}."
        case "value_error":
            message = str(context["error"])
        case other:
            message = f"is not right ({other.replace('_', ' ')})."
    if path[-1:] == ("[key]",):
        path = path[:-1]
    return tree.fault(path, message)


def _cross_faults(tree: Tree, check_files: Mapping[str, CheckFile]) -> list[Fault]:
    """What only the whole shows, or the other files."""
    faults = []
    if not tree.get(("databases",)):
        faults.append(tree.fault(("databases",), "should name at least one; or set PO_EXPORTER_DSN."))
    faults += [
        tree.fault(("schemas", name), "is the name of a built-in schema; call yours something else.")
        for name in _names(tree, ("schemas",))
        if name in BUILT_IN
    ]
    for name in _names(tree, ("checks",)) if check_files else ():
        path: KeyPath = ("checks", name)
        value = tree.get(path)
        if name == "directory" or (value is not None and not isinstance(value, dict)):
            continue
        if name not in check_files:
            faults.append(tree.fault(path, f"there is no such check.{near(name, [*check_files, 'directory'])}"))
        elif tree.get((*path, "tolerance")) is not None and check_files[name].tolerance is None:
            faults.append(tree.fault((*path, "tolerance"), "this check compares no quantities, so it has none."))
    rate = ("checks", LINK_RATE, "threshold")
    if isinstance(tree.get(rate), str) and _is_above_100(tree.get(rate)):
        faults.append(tree.fault(rate, "should be at most 100: it is a percentage."))
    return faults


def _is_above_100(text: str) -> bool:
    try:
        return number(text) > 100
    except ValueError:
        return False


def _names(tree: Tree, path: KeyPath) -> list[str]:
    value = tree.get(path)
    return list(value) if isinstance(value, dict) else []


def _config(settings: Settings, check_files: dict[str, CheckFile]) -> Config:
    mappings = BUILT_IN | {name: schema.mapping(name) for name, schema in settings.schemas.items()}
    databases = {
        name: Database(
            name=name,
            dsn=given.dsn,
            password=given.password,
            direct_dsn=given.direct_dsn,
            feed_dsn=given.feed_dsn,
            fix_dsn=given.fix_dsn,
            mapping=mappings[given.schema_],
            environment=given.environment,
        )
        for name, given in settings.databases.items()
    }
    return Config(
        databases=databases,
        monitor=settings.monitor,
        checks={name: _check(settings, name, file) for name, file in check_files.items()},
        check_files=check_files,
        server=settings.server,
        leader=settings.leader,
        notify=settings.notify,
        fix=settings.fix,
        reconcile=settings.reconcile,
        link=settings.link,
        feature_flags=settings.feature_flags,
        warnings=tuple(advice(settings)),
        settings=settings,
        made_by=LOADED,
    )


def _check(settings: Settings, name: str, file: CheckFile) -> CheckSettings:
    """What the user set, then what the guide's thresholds and the check's own file say."""
    extra: dict[str, Any] = settings.checks.__pydantic_extra__ or {}
    given: CheckSettings = extra.get(name, CheckSettings())
    defaults: dict[str, Any] = {"priority": file.priority, "tolerance": file.tolerance}
    for threshold, check in guide.THRESHOLDS.items():
        if check == name:
            defaults["threshold"] = getattr(settings.thresholds, threshold)
    missing = {key: value for key, value in defaults.items() if key not in given.model_fields_set}
    return given.model_copy(update=missing)
