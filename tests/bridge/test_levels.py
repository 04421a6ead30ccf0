"""Who may import whom: two packages, one direction, and levels that only look down."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
MODULES: Final = {
    package: {
        ".".join(path.relative_to(ROOT / package).with_suffix("").parts): ast.parse(
            path.read_text()
        )
        for path in (ROOT / package).rglob("*.py")
    }
    for package in ("bridge", "xmppstream")
}
"""Each module's tree, by its name inside of the package."""
PAIRS: Final = [
    pytest.param(tree, name, id=f"{package}.{name}")
    for package, modules in MODULES.items()
    for name, tree in modules.items()
]


def imports(tree: ast.AST) -> Iterator[str]:
    """Give the full names of all modules (and what is taken of them) that are imported anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(package: str, imported: str) -> set[str]:
    """Give the modules of a package that import another package."""
    return {
        name
        for name, tree in MODULES[package].items()
        if any(one.partition(".")[0] == imported for one in imports(tree))
    }


def test_the_stream_does_not_know_the_bridge() -> None:
    assert importers("xmppstream", "bridge") == set()


def test_only_the_parser_imports_lxml() -> None:
    assert importers("xmppstream", "lxml") == {"parser"}
    assert importers("bridge", "lxml") == set()


def test_only_the_driver_and_its_threads_import_trio() -> None:
    assert importers("xmppstream", "trio") == {"dial", "thread", "trio_stream"}


@pytest.mark.parametrize("package", ["json", "httpx", "structlog"])
def test_the_stream_knows_no_http_no_json_and_no_log(package: str) -> None:
    assert importers("xmppstream", package) == set()


def test_the_stream_has_only_values_of_msgspec() -> None:
    names = {name for tree in MODULES["xmppstream"].values() for name in imports(tree)}
    assert {name for name in names if name.startswith("msgspec")} == {
        "msgspec.Struct",
        "msgspec.structs.force_setattr",
    }


def caught_broadly(tree: ast.AST) -> Iterator[str]:
    """Give what the handlers catch that is too much, `bare` for one that names nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield "bare"
            else:
                names = {
                    ast.unparse(one) for one in ast.walk(node.type) if isinstance(one, ast.expr)
                }
                yield from names & {"Exception", "BaseException", "trio.Cancelled", "Cancelled"}


def test_two_exception_handlers_catch_everything() -> None:
    """That of a stanza's task, and that of a connection to the listener: foreign code is there."""
    found = [
        (f"{package}.{name}", caught)
        for package, modules in MODULES.items()
        for name, tree in modules.items()
        for caught in caught_broadly(tree)
    ]
    assert sorted(found) == [
        ("bridge.dispatch.dispatcher", "Exception"),
        ("bridge.listener.server.connection", "Exception"),
    ]


@pytest.mark.parametrize(("tree", "name"), PAIRS)
def test_groups_are_caught_in_daemon_and_commands_only(tree: ast.AST, name: str) -> None:
    stars = [node for node in ast.walk(tree) if isinstance(node, ast.TryStar)]
    assert not stars or name.partition(".")[0] in ("daemon", "cli") or name.endswith(".command")
