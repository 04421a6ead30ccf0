"""The worst habits of our English stay out of the source; `.github/CONTRIBUTING.md` has the style.

Two rules, each narrow enough to have no exceptions:

- A docstring does not begin with Give, Tell, Have or Say, nor with Gives, Tells or Says: a function
  returns, reports, or does.
- What a user reads does not say that something "is no X" or "are no X": it is not a valid X. User
  visible are strings of the source (docstrings only of commands, where they are the `--help`), the
  texts of the status page and the dashboard, and the documentation. "There is no X" is English, and
  so are "no longer" and "no more".
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.manual.page import DOCUMENTS, ROOT
from tests.manual.test_reference import logged

SOURCES = sorted(
    path for package in ("bridge", "xmppstream") for path in (ROOT / package).rglob("*.py")
)
PAGE = ROOT / "bridge" / "listener" / "page"
DASHBOARD = ROOT / "bridge" / "listener" / "monitor" / "dashboard.json"
BAD_START = re.compile(r"\s*(Give|Tell|Have|Say)s?\b")
IS_NO = re.compile(r"(?<!\bthere )\b(is|are|was|were) no (?!longer\b|more\b)\w", re.I)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.Constant]]:
    """Yield whatever has a docstring, and the docstring; attributes may have one, too."""
    for node in ast.walk(tree):
        body = node.body if isinstance(node, DOCUMENTED) else []
        for at, statement in enumerate(body):
            match statement:
                case ast.Expr(value=ast.Constant(value=str()) as text):
                    yield (node if at == 0 else body[at - 1]), text


def bad_starts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the docstrings that begin badly, with their lines."""
    for _, text in docstrings(ast.parse(source)):
        if BAD_START.match(str(text.value)):
            yield text.lineno, str(text.value).strip().partition("\n")[0]


def bad_strings(source: str, events: frozenset[str] = frozenset()) -> Iterator[tuple[int, str]]:
    """Yield the strings that a user sees and that say "is no X", with their lines."""
    tree = ast.parse(source)
    hidden = {id(text) for owner, text in docstrings(tree) if not is_command(owner)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            visible = id(node) not in hidden and node.value not in events
            if visible and IS_NO.search(node.value):
                yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            # A value may stand where "there" would, or where the X is: f"{name} is no {kind}".
            text = "".join(
                str(one.value) if isinstance(one, ast.Constant) else "V" for one in node.values
            )
            parts = [one.value for one in node.values if isinstance(one, ast.Constant)]
            if IS_NO.search(text) and not any(IS_NO.search(str(one)) for one in parts):
                yield node.lineno, text


def is_command(node: ast.AST) -> bool:
    """Return whether click makes a `--help` of its docstring."""
    return isinstance(node, FUNCTIONS) and any(
        re.search(r"\b(command|group)\b", ast.unparse(one)) for one in node.decorator_list
    )


def refuse(offenders: list[tuple[Path, int, str]]) -> None:
    """Fail with a list of them, if there are any."""
    lines = [
        f"{path.relative_to(ROOT)}:{line}: {' '.join(text.split())}"
        for path, line, text in offenders
    ]
    if lines:
        pytest.fail("\n".join((f"{len(lines)} of them:", *lines)), pytrace=False)


def test_no_docstring_begins_badly() -> None:
    offenders = [(path, *one) for path in SOURCES for one in bad_starts(path.read_text())]
    refuse(offenders)


def test_no_user_reads_that_something_is_no_such_thing() -> None:
    events = frozenset(logged())
    offenders = [(path, *one) for path in SOURCES for one in bad_strings(path.read_text(), events)]
    refuse(offenders)


def test_no_page_says_that_something_is_no_such_thing() -> None:
    texts = [(one.path, text) for one in DOCUMENTS for text in one.prose]
    texts += [(path, path.read_text()) for path in PAGE.iterdir() if path.suffix in {".js", ".svg"}]
    texts += [(DASHBOARD, text) for text in strings_in(json.loads(DASHBOARD.read_text()))]
    offenders = [(path, 0, text) for path, text in texts if IS_NO.search(text)]
    refuse(offenders)


def strings_in(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for one in value.values():
                yield from strings_in(one)
        case list():
            for one in value:
                yield from strings_in(one)


# --- the rules themselves


@pytest.mark.parametrize(
    "source",
    [
        '"""Tell all."""',
        'def f():\n    """Give it."""',
        'async def f():\n    """Have it done."""',
        'class C:\n    """Says it."""',
        'x = 1\n"""Gives one."""',
    ],
)
def test_a_bad_start(source: str) -> None:
    assert len(list(bad_starts(source))) == 1


@pytest.mark.parametrize(
    "source", ['"""Given names."""', '"""Return what you tell."""', 'x = "Tell me."']
)
def test_a_start_that_is_not_bad(source: str) -> None:
    assert list(bad_starts(source)) == []


@pytest.mark.parametrize(
    "source",
    [
        'x = "It is no size."',
        'x = f"{y!r} is no size."',
        'x = f"these are no {y}"',
        '@click.command("c")\ndef c():\n    """This is no drill."""',
        '@main.group()\ndef c():\n    """These are no drills."""',
    ],
)
def test_a_bad_string(source: str) -> None:
    assert len(list(bad_strings(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        'x = "There is no such file; there are no files."',
        'x = "It is no longer there, and there is no more."',
        'def f():\n    """It is no size."""',
        'log.info("this is no event")',
        'x = f"{y} is not a size"',
    ],
)
def test_a_string_that_is_not_bad(source: str) -> None:
    assert list(bad_strings(source, frozenset({"this is no event"}))) == []
