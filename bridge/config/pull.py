"""Checks components whose `component_post_url` is `pull:`, and gives them a budget of their own."""

from collections.abc import Callable, Sequence
from typing import Final

from attrs import evolve, fields

from bridge.config.settings import (
    Component,
    ConfigFile,
    HttpTable,
    ListenSettings,
    RetrySettings,
    RetryTable,
)
from bridge.config.token import Scope

PULLED_BUDGET_S: Final = 300.0
"""The default of `message_budget_s` for a pulled component. A lease takes up to 60 s: with the
usual budget of 60 s, an event whose poller dies would never come again.
"""
_SCOPE: Final[Scope] = "receive"
_APPLIES: Final = frozenset({"max_in_flight"})


def budgets_of_pulled(
    common: RetryTable, own: RetryTable | None, retry: RetrySettings
) -> RetrySettings:
    """Return the budgets of a pulled component; `common` and `own` are the tables of the file."""
    is_set = any(
        table.budget_s is not None or table.message_budget_s is not None
        for table in (common, own or RetryTable())
    )
    return retry if is_set else evolve(retry, message_budget_s=PULLED_BUDGET_S)


class PullValidation:
    """Collects what is wrong with pulled components, or has no effect on them."""

    def __init__(self, fault: Callable[[str, str, str], None], warn: Callable[[str], None]) -> None:
        """`fault` takes key, problem and remedy."""
        self._fault = fault
        self._warn = warn

    def check(
        self, file: ConfigFile, components: Sequence[Component], listen: ListenSettings | None
    ) -> None:
        """Check all components; `listen` is None if there is no `[listen]`, or a fault in it."""
        for component in components:
            if not component.post_url.is_pulled:
                continue
            key, table = f'component."{component.domain}"', file.component[component.domain]
            if file.listen is None:
                problem = '"pull:" needs the listener, at which the service polls'
                remedy = f'Add [listen] with an address, and a token with the scope "{_SCOPE}"'
                self._fault(f"{key}.component_post_url", problem, remedy)
            elif listen is not None and not pollers_of(component, listen):
                self._warn(
                    f'{key}: no token may poll its events: add the scope "{_SCOPE}" to a'
                    " [[listen.token]]"
                )
            if component.webhook_secrets:
                self._warn(
                    f"{key}.webhook_secrets has no effect, because nothing is POSTed: give the"
                    " secret to xmpp-bridge forward"
                )
            idle = _without_effect(table.http)
            if idle:
                self._warn(
                    f"{key}.http: {', '.join(idle)} has no effect, because nothing is POSTed; only"
                    f" {', '.join(sorted(_APPLIES))} applies"
                )


def pollers_of(component: Component, listen: ListenSettings) -> list[str]:
    """Return the names of the tokens that may poll a component's events."""
    return [
        one.name
        for one in listen.tokens
        if _SCOPE in one.scopes and component.domain in one.components
    ]


def _without_effect(table: HttpTable | None) -> list[str]:
    """Return the keys of a component's `[http]` that do not apply to a pulled one."""
    if table is None:
        return []
    names = (one.name for one in fields(HttpTable))
    return [one for one in names if one not in _APPLIES and getattr(table, one)]
