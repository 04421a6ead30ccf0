"""`xmpp-bridge conformance server`: the table of all checks of a server, and their run.

The checks are rows of tables (`opening`, `closing`, `markup`, `routing`): a rule, a name, and a
function that opens connections through the `target` and returns a judgement. To add a check, add a
function and a row. `outcome` explains the verdicts. Most probes are messages to the component's own
domain, which a server routes back.

Invariant: one check runs at a time, with a time limit; its connections are closed after it. Rules
that cannot be tested from this side have a row below, with the reason.
"""

from collections.abc import Callable
from typing import Final

import trio

from bridge.conformance.report import Finding, Report, Verdict, in_order
from bridge.conformance.server import closing, markup, opening, routing
from bridge.conformance.server.outcome import Judgement
from bridge.conformance.server.target import Check, NotAttached, Target, reason_of

CHECK_S: Final = 30.0

CHECKS: Final[tuple[Check, ...]] = (
    *opening.CHECKS,
    *closing.CHECKS,
    *markup.CHECKS,
    *routing.CHECKS,
)

_OURS: Final = Verdict.NOT_APPLICABLE
_UNSEEN: Final = Verdict.NOT_TESTABLE
NOT_TRIED: Final = (
    Finding("S7", "a handshake that never comes", _UNSEEN, "takes minutes"),
    Finding("S11", "the reaction to an error", _OURS, "reconnecting is up to the component"),
    Finding("S14", "a keepalive in time", _OURS, "the component sends it"),
    Finding("S15", "proof that the peer is alive", _OURS, "the component asks for it; see S35"),
    Finding("S16", "a component that does not read", _UNSEEN, "takes minutes and many megabytes"),
    Finding("S34", "a stanza for another domain", _UNSEEN, "needs a second domain"),
    Finding(
        "S36", "the component's groupchat messages", _OURS, "a room sends them, not the server"
    ),
)


async def probe_server(
    host: str, port: int, domain: str, secret: str, advance: Callable[[str, int], None]
) -> Report:
    """Attach as `domain` again and again, run all checks, and return the report.

    Takes most of a minute. If the server becomes unreachable or refuses the component, the current
    check fails and the remaining ones are not run. A cancelled call closes its connections cleanly,
    which takes a few seconds at most.

    Raises:
        NothingTried: if the server cannot be reached, or refuses the component.
    """
    target = Target(host, port, domain, secret)
    await target.greet()
    findings = list(NOT_TRIED)
    lost = ""
    for check in CHECKS:
        advance(f"{check.rule} {check.name}", len(CHECKS))
        if lost:
            said = Judgement(Verdict.NOT_TESTABLE, f"not tried: {lost}")
        else:
            said, lost = await _run(check, target)
        findings.append(Finding(check.rule, check.name, said.verdict, said.seen))
    return Report(f"{target} as {domain}", in_order(findings))


async def _run(check: Check, target: Target) -> tuple[Judgement, str]:
    """Run one check. Return its judgement, and the reason to stop the run, "" if there is none."""
    said = Judgement(Verdict.NOT_TESTABLE, f"no verdict within {CHECK_S:g} s")
    lost = ""
    try:
        with trio.move_on_after(CHECK_S):
            said = await check.probe(target)
    except NotAttached as why:
        lost = f"the server no longer lets the component in ({why})"
    except trio.TooSlowError:
        lost = "the server can no longer be reached"
    except OSError as error:
        lost = f"the server can no longer be reached ({reason_of(error)})"
    finally:
        await target.close_all()
    return (Judgement(Verdict.FAIL, lost), lost) if lost else (said, "")
