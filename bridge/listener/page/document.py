"""The frame of every page: its head, its header, and the login. Nothing of it is from elsewhere,
and all addresses are relative, so that a proxy may put it below another path.
"""

from typing import Final

from bridge import __version__
from bridge.listener.page.html import Child, Markup, join, tag
from bridge.listener.page.session import Session

REFRESH_S: Final = 30
"""How often a page refreshes itself in a browser without scripts."""
SCRIPT: Final = "status.js"
STYLE: Final = "status.css"
ICON: Final = "status.svg"


def document(title: str, *body: Child, refreshes: bool = False) -> Markup:
    """Write a page."""
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
        head += [tag("noscript", plain), tag("script", src=SCRIPT, defer=True)]
    page = tag("html", tag("head", *head), tag("body", *body), lang="en")
    return Markup(f"<!doctype html>\n{page}\n")


def header(session: Session) -> Markup:
    """Write what is above a page: whose it is, and the way out."""
    out = tag(
        "form",
        hidden("csrf", session.csrf),
        tag("span", session.token.name, class_="token", title="the token that is logged in"),
        tag("button", "Log out", class_="quiet"),
        method="post",
        action="logout",
    )
    brand = tag("h1", "xmpp-bridge", " ", tag("small", __version__))
    return tag("header", tag("div", brand, out, class_="inner"))


def login(problem: str = "") -> Markup:
    """Write the login."""
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
        tag("p", "The secret of a token with the scope watch.", class_="dim"),
        tag("button", "Log in", class_="main"),
        method="post",
        action="login",
    )
    return document("xmpp-bridge: log in", tag("main", form, class_="login"))


def question(session: Session, title: str, *body: Child) -> Markup:
    """Write a page that asks, or tells, one thing and does not refresh itself."""
    main = tag("main", tag("section", tag("h2", title), *body, class_="card ask"))
    return document(f"xmpp-bridge: {title}", header(session), main)


def hidden(name: str, value: str) -> Markup:
    """Write a field that nobody sees."""
    return tag("input", type="hidden", name=name, value=value)


def pill(kind: str, label: str) -> Markup:
    """Write a state: `good`, `warn`, `bad` or `dim`."""
    return tag("span", label, class_=f"pill {kind}")


def facts(*pairs: tuple[str, Child]) -> Markup:
    """Write names and their values."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs]
    return tag("dl", join(*rows), class_="facts")
