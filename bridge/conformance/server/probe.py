"""`xmpp-bridge conformance server`: try a server, check by check, and report rule by rule.

The checks are tables (`opening`, `closing`, `markup`, `routing`): a
rule, a name, a function that opens connections by the `target` and gives a judgement; to add one is
to add a function and a row. How a verdict is found is said in `outcome`. Most is probed with
messages to one's own domain, which a server routes back.

Invariant: one check at a time, each bounded in time, each with connections of its own that are
closed behind it. What no check of this side can find out has a row below, with the reason.
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
    Finding("S11", "what follows an error", _OURS, "when to come again is the component's matter"),
    Finding("S14", "a keepalive in time", _OURS, "the component sends it"),
    Finding("S15", "proof of a living peer", _OURS, "the component asks for it; see S35"),
    Finding("S16", "a component that does not read", _UNSEEN, "takes minutes and many megabytes"),
    Finding("S34", "a stanza for another domain", _UNSEEN, "needs a second domain"),
    Finding("S36", "one's own groupchat messages", _OURS, "a room sends them, not the server"),
)


async def probe_server(
    host: str, port: int, domain: str, secret: str, advance: Callable[[str, int], None]
) -> Report:
    """Attach again and again as `domain`, try everything, and report; takes most of a minute.

    Where the server is lost on the way, or lets the component in no more, the check that meets it
    fails, and the rest is not tried. A cancelled call closes its connections in order, for some
    seconds at most.

    Raises:
        NothingTried: there is no server, or it does not let the component in.
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
    """Run one check; give what it says, and why there is no use in going on."""
    said = Judgement(Verdict.NOT_TESTABLE, f"no verdict within {CHECK_S:g} s")
    lost = ""
    try:
        with trio.move_on_after(CHECK_S):
            said = await check.probe(target)
    except NotAttached as why:
        lost = f"the server does not let the component in any more ({why})"
    except trio.TooSlowError:
        lost = "the server cannot be reached any more"
    except OSError as error:
        lost = f"the server cannot be reached any more ({reason_of(error)})"
    finally:
        await target.close_all()
    return (Judgement(Verdict.FAIL, lost), lost) if lost else (said, "")
