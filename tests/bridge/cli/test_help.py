"""`xmpp-bridge help`: the list of topics, pages at a terminal and through a pipe, wrong topics."""

import os
import pty
import re
import subprocess
import sys
from importlib import resources

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from bridge.cli.help import pages, summary_of
from bridge.cli.main import main
from bridge.cli.markdown import render, spell_links

PAGES = pages()
TOPICS = list(PAGES)
WIDTH = 80


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["help", *arguments])


# --- the list


def test_every_file_of_the_manual_is_a_topic() -> None:
    files = (resources.files("bridge") / "manual").iterdir()
    assert sorted(f"{topic}.md" for topic in TOPICS) == sorted(file.name for file in files)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_a_line(topic: str) -> None:
    assert re.fullmatch(r"[A-Za-z].+\.", summary_of(PAGES[topic]))


def test_without_a_topic_all_are_listed() -> None:
    result = invoke()
    assert result.exit_code == 0
    for topic, page in PAGES.items():
        assert re.search(rf"^  {topic} +{re.escape(summary_of(page))}$", result.output, re.M)
    assert max(map(len, result.output.splitlines())) <= WIDTH


def test_the_help_of_all_commands_names_it() -> None:
    assert re.search("The manual: +xmpp-bridge help$", CliRunner().invoke(main).output, re.M)


# --- a page


@pytest.mark.parametrize("topic", TOPICS)
def test_a_pipe_gets_the_markdown(topic: str) -> None:
    result = invoke(topic)
    assert (result.exit_code, result.output) == (0, PAGES[topic])


@pytest.mark.parametrize("width", [WIDTH, 40, 300])
@pytest.mark.parametrize("topic", TOPICS)
def test_a_rendered_page_fits(topic: str, width: int) -> None:
    text = render(PAGES[topic], Console(width=width, color_system=None))
    assert max(map(len, text.splitlines())) <= min(width, 100)
    assert text.count("…") == PAGES[topic].count("…")  # nothing is cut off


@pytest.mark.parametrize("topic", TOPICS)
def test_no_name_in_a_table_is_broken(topic: str) -> None:
    """The first column of a table holds names, which must be found by a search."""
    text = render(PAGES[topic], Console(width=WIDTH, color_system=None))
    words = set(text.split())
    for row in re.findall(r"^\| (.+?) +\|", spell_links(PAGES[topic]), re.M):
        names = row.replace("`", "").replace("*", "").replace("\\|", "|").split()
        assert [name for name in names if name not in words and set(name) != {"-"}] == []


def test_a_link_to_another_page_names_its_topic() -> None:
    assert spell_links("See [the keys](configuration.md#log).") == (
        "See the keys (see `help configuration`)."
    )
    assert spell_links("See [`queue`](queue.md).") == "See `queue`."


def test_other_links() -> None:
    assert spell_links("[above](#the-top)") == "above"
    assert spell_links("[it](https://example.com/)") == "it (https://example.com/)"
    assert spell_links("[how](../../.github/HOW.md)") == "how (.github/HOW.md)"


def test_a_link_may_stand_on_two_lines() -> None:
    assert spell_links("[the\nkeys](log.md)") == "the\nkeys (see `help log`)"


def test_code_has_no_links() -> None:
    code = "```python\nnames[0](log.md)\n```\n"
    assert spell_links(f"{code}[a](#a)\n\n{code}") == f"{code}a\n\n{code}"


def test_the_last_line_names_the_pages_that_it_links_to() -> None:
    text = render("# T\n\n[a](a.md) [b](b.md#c) [a](a.md) [d](#d)\n", Console(width=WIDTH))
    assert text.rstrip().endswith("Each with xmpp-bridge help TOPIC: a, b.")


def test_a_page_without_links_has_no_such_line() -> None:
    assert "See also" not in render("# T\n\nText.\n", Console(width=WIDTH))


def test_a_table_wider_than_all_its_words_breaks_one() -> None:
    table = f"| a | b |\n|---|---|\n| {'x' * 30} | {'y' * 30} |\n"
    text = render(table, Console(width=40))
    assert (text.count("x"), text.count("y")) == (30, 30)
    assert max(map(len, text.splitlines())) <= 40


# --- a terminal


def at_terminal(*arguments: str, **variables: str) -> str:
    """Return what the command prints at a terminal of 80 columns, its pager being `cat`."""
    ours, theirs = pty.openpty()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LC_")},
        "TERM": "xterm",
        "PAGER": "cat",
        "COLUMNS": str(WIDTH),
        "LANG": "C.UTF-8",
        **variables,
    }
    for name in ("NO_COLOR", "FORCE_COLOR", "PYTHONIOENCODING", "PYTHONUTF8"):
        if name not in variables:
            environment.pop(name, None)
    command = [sys.executable, "-m", "bridge", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        read = b""
        try:
            while chunk := os.read(ours, 65536):
                read += chunk
        except OSError:  # so Linux says that the other side is closed
            pass
    os.close(ours)
    return read.decode(errors="replace").replace("\r\n", "\n")


def test_at_a_terminal_a_page_is_rendered() -> None:
    text = at_terminal("help", "delivery")
    assert "## " not in text
    assert "See also" in text
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines())) <= WIDTH


def test_at_a_terminal_without_colour() -> None:
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", at_terminal("help", "delivery", NO_COLOR="1"))


def test_at_a_dumb_terminal() -> None:
    text = at_terminal("help", "delivery", TERM="dumb")
    assert "See also" in text
    assert "\x1b" not in text


LOCALES = [
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
]


@pytest.mark.parametrize("variables", LOCALES)
@pytest.mark.parametrize("pager", ["cat", ""])
def test_a_locale_without_utf_8(variables: dict[str, str], pager: str) -> None:
    terminal = {"TERM": "xterm" if pager else "dumb", "PAGER": pager}
    text = at_terminal("help", "architecture", **variables, **terminal)
    assert "Traceback" not in text
    assert "XMPP server" in text
    assert "See also" in text


@pytest.mark.parametrize("variables", LOCALES)
def test_a_pipe_gets_utf_8_in_any_locale(variables: dict[str, str]) -> None:
    command = [sys.executable, "-m", "bridge", "help", "architecture"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, check=True)
    assert done.stdout.decode() == PAGES["architecture"]


# --- a topic that the manual does not have


def refusal(topic: str) -> str:
    result = invoke(topic)
    assert result.exit_code == 2
    assert result.stdout == ""
    return result.stderr


def test_a_mistyped_topic_names_the_nearest() -> None:
    assert "There is no topic 'confguration'. Did you mean 'configuration'?" in refusal(
        "confguration"
    )


def test_a_topic_that_is_near_none() -> None:
    assert "There is no topic 'zzz'. See xmpp-bridge help." in refusal("zzz")


def test_a_command_that_is_not_a_topic() -> None:
    assert "xmpp-bridge run --help" in refusal("run")


@pytest.mark.parametrize("topic", ["../cli/help", "queue.md", "", "queue\x1b[2J"])
def test_a_topic_is_not_a_path(topic: str) -> None:
    assert "\x1b" not in refusal(topic)
