"""Sizes on a command line."""

import click
import pytest
from click.testing import CliRunner, Result

from bridge.cli.size import size_from, written


@click.command()
@click.option("--size", callback=size_from(1000))
def show(size: int | None) -> None:
    click.echo(size)


def given(text: str) -> Result:
    return CliRunner().invoke(show, ["--size", text])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("1000B", 1000),
        ("1K", 1024),
        ("64M", 64 * 1024**2),
        ("64m", 64 * 1024**2),
        ("64MB", 64 * 1024**2),
        ("64MiB", 64 * 1024**2),
        (" 1G ", 1024**3),
        ("2T", 2 * 1024**4),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert given(text).output == f"{size}\n"


def test_without_it_there_is_none() -> None:
    assert CliRunner().invoke(show, []).output == "\n"


@pytest.mark.parametrize("text", ["", "x", "1.5G", "-1G", "1 G", "1P", "G", "1e9", "٣G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    result = given(text)
    assert result.exit_code == 2
    assert f"{text!r} is not a valid size: use 64M or 1G." in result.output


def test_what_is_too_little_is_refused() -> None:
    result = given("999")
    assert result.exit_code == 2
    assert "'999' is less than 1000." in result.output


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1000, "1000"), (1024, "1K"), (64 * 1024**2, "64M"), (1025, "1025")],
)
def test_a_size_is_written(size: int, text: str) -> None:
    assert written(size) == text
