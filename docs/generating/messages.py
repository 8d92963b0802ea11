"""All sentences that the program can say, so that a search for one finds it.

They are read from the source: what `raise` gives to an error, what the log is told, what `check` finds,
and what stands in the modules that hold nothing but sentences. What changes from case to case is `…`.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from generating import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACKAGE = Path(__file__).parent.parent.parent / "stream_detector"
CHANGES = "…"
CONFIGURATION = (
    "formats/settings.py",
    "formats/topics.py",
    "mqtt/settings.py",
    "outputs/settings.py",
    "settings/mistakes.py",
    "settings/root.py",
    "settings/streams.py",
    "storage/settings.py",
    "web/settings.py",
)
"""Where a ValueError becomes a ConfigurationError, with the file and the line before it."""
READINESS = {
    ("service/broker_target.py", "_held_back"),
    ("service/broker_target.py", "reasons"),
    ("service/delivery.py", "reasons"),
    ("service/watchdog.py", "problem"),
    ("service/loop.py", "not_ready"),
}
"""Where the reasons of /readyz are made, besides `mqtt/sentences.py`; a file without one is an error."""
KINDS = {
    "not ready": (
        "Not connected, not ready",
        "What `/readyz` gives as a reason, and the log as `not connected: …`.",
    ),
    "state": ("State refused: exit code 3", "What stands in `state_dir` cannot be used."),
    "configuration": (
        "Configuration refused: exit code 2",
        "The sentence begins with the file and the line, or the environment variable.",
    ),
    "running": ("Failed while running: exit code 1", "The command could not do what it was told."),
    "model": ("Models refused", "A broken version is passed over, and what was used goes on."),
    "log": ("Said in the log", "What stands in the log of `run` besides alerts."),
    "check": ("Found by check", "What `stream-detector check` says, with `ok`, `warn` or `FAIL`."),
}
ERRORS = {
    "StateError": "state",
    "StreamDetectorError": "running",
    "BrokerError": "running",
    "DataError": "running",
    "BundleError": "model",
}
LONGEST_NAME = 3


@dataclass(frozen=True, order=True)
class Sentence:
    """What the program can say.

    Attributes:
        kind: One of `KINDS`.
        text: With `…` for what changes.
        module: Where it stands.
    """

    kind: str
    text: str
    module: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """Return what matches the sentence as it is said."""
        return re.compile(".*".join(map(re.escape, self.text.split(CHANGES))), re.DOTALL)

    @property
    def words(self) -> str:
        """Return the longest part that never changes."""
        return max(self.text.split(CHANGES), key=len).strip(" .,;:()'")


def make() -> str:
    """Return the page of all sentences."""
    text = [
        "# What the program says",
        (
            "Every sentence of an error, of `/readyz`, of the log and of `check`; search for words of the one"
            f" that you see. `{CHANGES}` stands for what changes from case to case. What to do is a part of"
            " the sentence; [Troubleshooting](../troubleshooting.md) says more."
        ),
    ]
    found = collect()
    for kind, (title, meaning) in KINDS.items():
        lines = [
            f"- {_escaped(each)}" for each in dict.fromkeys(one.text for one in found if one.kind == kind)
        ]
        text += [f"## {title}", meaning, "\n".join(lines)]
    return markdown.page(text)


def _escaped(text: str) -> str:
    return markdown.text(re.sub(r"([\\*])", r"\\\1", text))


@cache
def collect() -> tuple[Sentence, ...]:
    """Return all sentences, sorted."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        module = _Module(ast.parse(path.read_text(encoding="utf-8")))
        found |= {
            Sentence(kind, text, name)
            for kind, text in module.sentences(name)
            if len(text.replace(CHANGES, "").split()) >= LONGEST_NAME
        }
    silent = {module for module, _ in READINESS} - {one.module for one in found if one.kind == "not ready"}
    if silent:
        sys.exit(f"docs/generating/messages.py: READINESS finds nothing in {', '.join(sorted(silent))}")
    return tuple(sorted(found))


class _Module:
    """The source of one module."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    def sentences(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield kind and text of each sentence."""
        if name == "mqtt/sentences.py":
            for node in ast.walk(self._tree):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield from (("not ready", text) for text in self._texts(node.value, None))
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                    yield from (("log", text) for text in self._texts(node.value, None))
        for function in self._functions.values():
            for node in ast.walk(function):
                for kind, value in self._said(node, name, function):
                    yield from ((kind, text) for text in self._texts(value, function))

    def _said(self, node: ast.AST, name: str, function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
        """Yield what an expression or a statement says."""
        if (name, function.name) in READINESS:
            if isinstance(node, ast.Return) and node.value is not None:
                yield "not ready", node.value
            if isinstance(node, ast.Call) and _called(node) == "append":
                yield "not ready", node.args[0]
        elif isinstance(node, ast.Assign) and _named(node.targets[0], "problem"):
            yield "log", node.value
        elif isinstance(node, ast.Assign) and _named(node.targets[0], "what") and name in CONFIGURATION:
            yield "configuration", node.value
        elif isinstance(node, ast.Call):
            kind, place = _kind(node, name)
            yield from ((kind, each) for each in node.args[place : place + 1] if kind)

    def _texts(  # noqa: PLR0911 - one for each kind of expression
        self, node: ast.expr, function: ast.FunctionDef | None, depth: int = 3
    ) -> Sequence[str]:
        """Return what an expression can say; nothing where only running it would tell."""
        match node:
            case ast.Constant(value=str(text)):
                return [_plain(text)]
            case ast.JoinedStr(values=values):
                parts = [self._texts(part, function, depth) or [CHANGES] for part in values]
                return [_plain("".join(choice)) for choice in itertools.product(*parts)]
            case ast.FormattedValue():
                return [CHANGES]
            case ast.BoolOp(values=values):
                return [text for value in values for text in self._texts(value, function, depth)]
            case ast.IfExp(body=body, orelse=orelse):
                return [*self._texts(body, function, depth), *self._texts(orelse, function, depth)]
            case ast.Call() if depth and _called(node) in self._functions:
                inner = self._functions[_called(node)]
                values = [
                    each.value for each in ast.walk(inner) if isinstance(each, ast.Return) and each.value
                ]
                return [text for value in values for text in self._texts(value, inner, depth - 1)]
            case ast.Call(func=ast.Attribute(value=inner, attr="format")):
                return self._texts(inner, function, depth)
            case ast.Name(id=name) if depth and function is not None:
                values = [
                    each.value
                    for each in ast.walk(function)
                    if isinstance(each, ast.Assign)
                    and any(isinstance(target, ast.Name) and target.id == name for target in each.targets)
                ]
                return [text for value in values for text in self._texts(value, function, depth - 1)]
        return []


def _kind(node: ast.Call, module: str) -> tuple[str, int]:  # noqa: PLR0911 - one for each
    """Return what kind of sentence a call is given, empty for none, and in which place."""
    match _called(node), _owner(node):
        case "Finding", _:
            return "check", 2
        case "ConfigurationError", _:
            return "configuration", 0
        case "ValueError", _:
            return "configuration" if module in CONFIGURATION else "", 0
        case (("refused" | "refusing"), _):
            return "model" if module.startswith("models/") else "", 1
        case ("warn", _) | ("log", "LOGGER"):
            return "log", 1  # after the key that it is repeated by, or its level
        case ("info", "log" | "_log") | (_, "LOGGER"):
            return "log", 0
        case "StorageError", _:
            return "running" if module == "storage/backup.py" else "not ready", 0
        case called, _:
            return ERRORS.get(called, ""), 0
    return "", 0


def _named(node: ast.expr, name: str) -> bool:
    return name in {getattr(node, "attr", ""), getattr(node, "id", "")}


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _owner(node: ast.Call) -> str:
    if not isinstance(node.func, ast.Attribute):
        return ""
    owner = node.func.value
    return owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")


def _plain(text: str) -> str:
    """Return a text with one sign for everything that changes."""
    text = re.sub(r"%(?:\.\d+)?[sdf]", CHANGES, text)
    return re.sub(f"{CHANGES}+", CHANGES, text)
