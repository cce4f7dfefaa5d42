"""The templates of summaries: Jinja2, sandboxed, with strict names; a user's directory overrides ours file by file.

A template of a user that fails is told, and ours is used in its place: nothing is left untold for a slip of the pen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import jinja2
import structlog
from jinja2.sandbox import ImmutableSandboxedEnvironment

from po_exporter.tell import words
from po_exporter.tell.summary import Summary

log = structlog.get_logger()

Escape: TypeAlias = Callable[[str], str]
FAILURES = (
    jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, OSError,
)  # fmt: skip
"""What a template can run into: one that extends itself, too. Loops are bounded by the sandbox, which bounds ranges."""
OURS = Path(__file__).parent / "templates"
BLOCKS = {
    "slack.j2": ("header", "fields", "body", "rows", "footer"),
    "email.txt.j2": ("subject", "body"),
    "email.html.j2": ("body",),
}
"""Our templates, and the blocks that each must have."""
FILTERS = {
    "headline": words.headline,
    "story": words.story,
    "moved": words.moved,
    "facts": words.facts,
    "past": words.past,
    "colour": words.colour,
    "stamp": words.stamp,
    "lasted": words.lasted,
    "legible": words.legible,
}


class TemplateFault(Exception):
    """A template that cannot be used: the file, the line, and why."""

    def __init__(self, file: str, line: int, why: str) -> None:
        self.file, self.line, self.why = file, line, why
        super().__init__(f"{file}:{line}: {why}")


class Templates:
    """Ours, and in front of them those of ``directory``. ``faults`` says which of the latter cannot be used.

    One of theirs can begin with ``{% extends "builtin/slack.j2" %}`` and replace single blocks.
    """

    def __init__(self, directory: Path | None, samples: Sequence[Summary]) -> None:
        self._directory = directory
        self._environments: dict[tuple[bool, Escape], jinja2.Environment] = {}
        self._replaced = {name for name in BLOCKS if directory and (directory / name).is_file()}
        self.faults: list[TemplateFault] = []
        for name in sorted(self._replaced):
            try:
                for sample in samples:
                    self._render(name, sample, str)
            except TemplateFault as fault:
                self.faults.append(fault)
                self._replaced.discard(name)
        for path in sorted(directory.glob("*.j2")) if directory else ():
            if path.name not in BLOCKS:
                self.faults.append(
                    TemplateFault(str(path), 0, f"there is no such template; we have {', '.join(BLOCKS)}")
                )

    def render(self, name: str, summary: Summary, escape: Escape) -> dict[str, str]:
        """The text of each block. ``escape`` is applied to every value, and to no text of the template itself."""
        try:
            return self._render(name, summary, escape)
        except TemplateFault as fault:
            if name not in self._replaced:
                raise
            log.error("template_failed", file=fault.file, line=fault.line, error=fault.why)
            self._replaced.discard(name)
            return self._render(name, summary, escape)

    def _render(self, name: str, summary: Summary, escape: Escape) -> dict[str, str]:
        environment = self._environment(name in self._replaced, escape)
        try:
            template = environment.get_template(name)
            context = template.new_context({"summary": summary})
            "".join(template.root_render_func(context))  # only now does the context have the blocks that were inherited
            missing = [block for block in BLOCKS[name] if block not in context.blocks]
            if missing:
                raise TemplateFault(template.filename or name, 1, f"has no block {', '.join(missing)}")
            return {block: "".join(context.blocks[block][0](context)).strip("\n") for block in BLOCKS[name]}
        except jinja2.TemplateSyntaxError as error:
            raise TemplateFault(error.filename or name, error.lineno, error.message or "cannot be read") from None
        except FAILURES as error:
            raise TemplateFault(*_place(error, name), str(error)) from None

    def _environment(self, theirs: bool, escape: Escape) -> jinja2.Environment:  # noqa: FBT001 - a key of two parts
        if (theirs, escape) not in self._environments:
            ours = jinja2.FileSystemLoader(OURS)
            first = [jinja2.FileSystemLoader(self._directory)] if theirs and self._directory else []
            environment = ImmutableSandboxedEnvironment(
                loader=jinja2.ChoiceLoader([*first, ours, jinja2.PrefixLoader({"builtin": ours})]),
                undefined=jinja2.StrictUndefined,
                autoescape=False,
                finalize=lambda value: escape(str(value)),
                trim_blocks=True,
                lstrip_blocks=True,
            )
            environment.filters.update(FILTERS)
            self._environments[theirs, escape] = environment
        return self._environments[theirs, escape]


def _place(error: BaseException, name: str) -> tuple[str, int]:
    """The file and line of the template in which it failed: the innermost of jinja2's frames."""
    found, trace = (name, 0), error.__traceback__
    while trace:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template:
            found = template.filename or name, template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return found
