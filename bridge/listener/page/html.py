"""HTML built from values. Everything that is not markup already is text, and is escaped."""

from collections.abc import Iterable
from typing import Final, TypeAlias

from markupsafe import Markup, escape

from bridge import __version__
from bridge.listener.page.session import Session
from bridge.telemetry.text import age, printable

_VOID: Final = frozenset({"br", "hr", "input", "link", "meta"})

Child: TypeAlias = "str | Iterable[Child] | None"
Value = str | int | float | bool | None
REFRESH_S: Final = 30
"""The interval at which a page refreshes itself in a browser without scripts."""
_JID_LIMIT: Final = 120  # of up to 3071 characters; the title has all of them


def text(value: str) -> Markup:
    """Return text as markup. An invisible character is written as its escape, so a line end or a
    direction mark in an address cannot change how the page reads.
    """
    return escape(printable(value))


def join(*children: Child) -> Markup:
    """Return children as markup, one after the other. None is left out."""
    return Markup("".join(_written(children)))


def tag(name: str, /, *children: Child, **attributes: Value) -> Markup:
    """Return an element.

    In the names of attributes `_` becomes `-`, and one at the end is dropped. True is an attribute
    without a value; an attribute that is None or False is left out.
    """
    words = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{text(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    end = "" if name in _VOID else f"{join(*children)}</{name}>"
    return Markup(f"<{name}{words}>{end}")


def _written(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str):
            yield text(child)
        elif child is not None:
            yield from _written(child)


SCRIPT: Final = "status.js"
STYLE: Final = "status.css"
ICON: Final = "status.svg"


def document(
    title: str, *body: Child, refreshes: bool = False, without_scripts: bool = True
) -> Markup:
    """Return a complete page. One that `refreshes` does so `without_scripts` too, or only with."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href=ICON, type="image/svg+xml"),
        tag("link", rel="stylesheet", href=STYLE),
    ]
    if refreshes:
        plain = tag("meta", http_equiv="refresh", content=REFRESH_S)
        head.append(tag("script", src=SCRIPT, defer=True))
        if without_scripts:
            head.append(tag("noscript", plain))
    page = tag("html", tag("head", *head), tag("body", *body), lang="en")
    return Markup(f"<!doctype html>\n{page}\n")


def header(session: Session) -> Markup:
    """Return the header of a page, with the name of the token and the button to log out."""
    out = tag(
        "form",
        hidden("csrf", session.csrf),
        tag("span", session.token.name, class_="token", title="the token you are logged in with"),
        tag("button", "Log out", class_="quiet"),
        method="post",
        action="logout",
    )
    brand = tag("h1", "xmpp-bridge", " ", tag("small", __version__))
    return tag("header", tag("div", brand, out, class_="inner"))


def login(problem: str = "") -> Markup:
    """Return the login page. It says where secrets are, but not which tokens there are."""
    where = (
        "Enter the secret of a token that has the scope watch. It is the ",
        tag("code", "secret"),
        ", or the content of the ",
        tag("code", "secret_file"),
        ", of a ",
        tag("code", "[[listen.token]]"),
        " in the bridge's configuration file.",
    )
    how = ("To make a new one: ", tag("code", "openssl rand -hex 32 > operator.token"))
    form = tag(
        "form",
        tag("h1", "xmpp-bridge"),
        tag("p", problem, class_="problem", role="alert") if problem else None,
        tag("input", type="text", name="user", value="token", autocomplete="username", hidden=True),
        tag("label", "Token", for_="token"),
        tag(
            "input",
            id="token",
            name="token",
            type="password",
            required=True,
            autofocus=True,
            autocomplete="current-password",
        ),
        tag("button", "Log in", class_="main"),
        tag("p", *where, class_="dim"),
        tag("p", *how, class_="dim"),
        method="post",
        action="login",
    )
    return document("xmpp-bridge: log in", tag("main", form, class_="login"))


def question(session: Session, title: str, *body: Child) -> Markup:
    """Return a page with one question or one message. It does not refresh itself."""
    main = tag("main", tag("section", tag("h2", title), *body, class_="card ask"))
    return document(f"xmpp-bridge: {title}", header(session), main)


def hidden(name: str, value: str) -> Markup:
    """Return a hidden field of a form."""
    return tag("input", type="hidden", name=name, value=value)


def pill(kind: str, label: str) -> Markup:
    """Return a state label. Its `kind` is `good`, `warn`, `bad` or `dim`."""
    return tag("span", label, class_=f"pill {kind}")


def facts(*pairs: tuple[str, Child]) -> Markup:
    """Return a list of names and values."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs]
    return tag("dl", join(*rows), class_="facts")


def parties(from_: str | None, to: str | None, domain: str) -> Markup:
    return join(address_part("b", from_ or "nobody"), " → ", address_part("span", to or domain))


def address_part(kind: str, jid: str) -> Markup:
    if len(jid) <= _JID_LIMIT:
        return tag(kind, jid)
    return tag(kind, f"{jid[: _JID_LIMIT - 1]}…", title=jid)


def ago(seconds: float) -> str:
    return f"{age(seconds)} ago"


def nothing(sentence: str) -> Markup:
    return tag("p", sentence, class_="dim nothing")


def card(name: str, title: str, count: int | None, *body: Child) -> Markup:
    number = None if count is None else tag("span", f"{count:,}", class_="count")
    heading = tag("h2", title, " ", number)
    return tag("section", heading, *body, class_=f"card {name}", id=name, data_part=name)
