"""`xmpp-bridge print-man`: the manual as pages for man(1), for those who package the bridge.

Without a topic, xmpp-bridge(1) with all commands and options, taken from the commands themselves;
with one, xmpp-bridge-TOPIC(7), a page of the manual.
"""

import difflib
import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Final

import click
from markdown_it import MarkdownIt
from markdown_it.token import Token

from bridge import __version__
from bridge.cli.exit import EXIT_CODES
from bridge.cli.help import pages, summary_of
from bridge.cli.markdown import spell_links

_NAME: Final = "xmpp-bridge"
_ABOUT: Final = "put an HTTP service behind XMPP"
_TITLE: Final = re.compile(r"# .+\n\n\*.+\*\n")
_FONTS: Final = {
    "strong_open": r"\fB",
    "strong_close": r"\fR",
    "em_open": r"\fI",
    "em_close": r"\fR",
}


def command_page(root: click.Group, ctx: click.Context) -> str:
    """Return xmpp-bridge(1)."""
    topics = pages()
    lines = [*_head(_NAME, 1, _ABOUT), ".SH SYNOPSIS", rf"\fB{_roff(_NAME)}\fR COMMAND [ARGS]"]
    lines += [".SH DESCRIPTION", *_help(root), ".SH COMMANDS"]
    for name, command in _commands(root, ctx, ""):
        pieces = command.collect_usage_pieces(click.Context(command, parent=ctx))
        lines += [f".SS {_roff(' '.join([name, *pieces]))}", *_help(command)]
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                continue
            record = parameter.get_help_record(click.Context(command, parent=ctx))
            if record is not None:
                lines += [".TP", rf"\fB{_roff(record[0])}\fR", _line(record[1])]
    codes = EXIT_CODES.removeprefix("\b").removeprefix("\nExit codes: ")
    lines += [".SH EXIT STATUS", *map(_line, codes.splitlines())]
    lines += [".SH SEE ALSO", f"The manual: \\fB{_roff(_NAME)} help\\fR TOPIC, with these topics."]
    for topic, page in topics.items():
        lines += [".TP", rf"\fB{_roff(topic)}\fR", _line(summary_of(page))]
    return "\n".join(lines) + "\n"


def topic_page(topic: str, page: str) -> str:
    """Return xmpp-bridge-TOPIC(7)."""
    head = _head(f"{_NAME}-{topic}", 7, summary_of(page).rstrip("."))
    text = spell_links(_TITLE.sub("", page, count=1))
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    lines = [line for line in _Roff(tokens).lines() if line]
    return "\n".join([*head, ".SH DESCRIPTION", *lines]) + "\n"


def _head(name: str, section: int, about: str) -> list[str]:
    title = f'.TH "{name.upper()}" "{section}" "" "{_NAME} {__version__}"'
    return [title, ".SH NAME", rf"{_roff(name)} \- {_roff(about)}"]


def _commands(
    group: click.Group, ctx: click.Context, prefix: str
) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None:
            continue
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, ctx, f"{prefix}{name} ")


def _help(command: click.Command) -> Iterator[str]:
    r"""Yield the paragraphs of a command's help; those after `\b` are shown as they are."""
    text = cleandoc(command.help or "").replace("\b\n", "\b")
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b"):
            yield from _verbatim(paragraph[1:])
        else:
            yield from (".PP", _line(" ".join(paragraph.split())))


def _verbatim(text: str) -> Iterator[str]:
    yield from (".PP", ".RS 4", ".nf", *map(_line, text.rstrip("\n").splitlines()), ".fi", ".RE")


class _Roff:
    """Turns the tokens of a page into lines of roff."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens

    def lines(self) -> Iterator[str]:
        heading, row, in_table, item = "", [""], False, ""
        for token in self._tokens:
            match token.type:
                case "heading_open":
                    heading = ".SH " if token.tag in ("h1", "h2") else ".SS "
                case "bullet_list_open":
                    item = r".IP \(bu 2"
                case "ordered_list_open":
                    item = ".IP 1. 3"
                case "list_item_open":
                    yield item if "1." not in item else f".IP {token.info}. 3"
                case "paragraph_open" if token.level == 0:
                    yield ".PP"
                case "thead_open":
                    in_table = True
                case "tr_open":
                    row = []
                case "tr_close":
                    in_table = False
                    yield from (".TP", row[0])
                    yield _line_of("; ".join(filter(None, row[1:])) or r"\&")
                case "fence" | "code_block":
                    yield from _verbatim(token.content)
                case "inline" if heading:
                    yield heading + _inline(token)
                    heading = ""
                case "inline" if token.level >= 4 and self._is_cell(token):
                    row.append(rf"\fI{_inline(token)}\fR" if in_table else _inline(token))
                case "inline":
                    yield _line_of(_inline(token))

    def _is_cell(self, token: Token) -> bool:
        before = self._tokens[self._tokens.index(token) - 1]
        return before.type in ("th_open", "td_open")


def _inline(token: Token) -> str:
    parts = []
    for child in token.children or []:
        if child.type in _FONTS:
            parts.append(_FONTS[child.type])
        elif child.type == "code_inline":
            parts.append(rf"\fB{_roff(child.content)}\fR")
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        else:
            parts.append(_roff(child.content))
    return "".join(parts)


def _roff(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")


def _line(text: str) -> str:
    return _line_of(_roff(text))


def _line_of(text: str) -> str:
    """Keep a line from being read as a request."""
    return rf"\&{text}" if text.startswith(".") else text


@click.command("print-man", epilog=EXIT_CODES)
@click.argument("topic", required=False)
@click.pass_context
def print_man(ctx: click.Context, topic: str | None) -> None:
    """Print a page for man: all commands, or the page of one TOPIC of the manual.

    \b
    xmpp-bridge print-man > xmpp-bridge.1
    xmpp-bridge print-man queue > xmpp-bridge-queue.7
    """
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    known = pages()
    if topic is None:
        text = command_page(root.command, root)
    elif topic in known:
        text = topic_page(topic, known[topic])
    else:
        near = difflib.get_close_matches(topic, known, 1)
        remedy = f"Did you mean {near[0]!r}?" if near else "See xmpp-bridge help."
        raise click.UsageError(f"There is no topic {topic!r}. {remedy}", ctx)
    click.echo(text.encode(), nl=False)
