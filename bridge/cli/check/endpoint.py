"""Asking an endpoint by OPTIONS, never by a POST: whether it is there, and seems to take one."""

import errno
import os
from typing import Final
from urllib.parse import urlsplit

import httpx
import trio

from bridge.cli.check.report import Report
from bridge.config.pull import pollers_of
from bridge.config.settings import Component, Settings, http_of
from bridge.webhook.endpoint import Endpoint, OptionsAnswer

_TIMEOUT_S: Final = 10.0
_NOT_IMPLEMENTED: Final = 501
_REFUSED: Final = os.strerror(errno.ECONNREFUSED)


async def check_endpoint(component: Component, settings: Settings, report: Report) -> None:
    if component.post_url.is_pulled:
        _tell_pollers(component, settings, report)
        return
    http = http_of(component, settings)
    endpoint = Endpoint(component.post_url, http)
    domain, what = component.domain, f"OPTIONS {component.post_url}"
    try:
        with trio.fail_after(min(_TIMEOUT_S, http.timeout_s)):
            answer = await endpoint.options()
    except httpx.TransportError as error:
        why = str(error) or type(error).__name__
        report.bad(domain, what, why + _remedy(why, component.post_url.url))
    except trio.TooSlowError:
        report.bad(domain, what, "no answer in time: is your service busy, or the port another's?")
    else:
        doubt = doubt_of(answer)
        told = f"answers with status {answer.status}"
        if doubt:
            report.warn(domain, what, f"{told}: {doubt}")
        else:
            report.good(domain, what, told)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await endpoint.aclose()


def _tell_pollers(component: Component, settings: Settings, report: Report) -> None:
    """Report who may poll. Whether anybody does is not known here."""
    names = [] if settings.listen is None else pollers_of(component, settings.listen)
    if names:  # otherwise there is a warning of the configuration
        place = "" if settings.listen is None else f" at {settings.listen.place}"
        details = f"may be polled{place} by the token{'s' * (len(names) > 1)} {', '.join(names)}"
        report.good(component.domain, "events (pull:)", details)


def doubt_of(answer: OptionsAnswer) -> str:
    """Return why an endpoint may not take POSTs, with a remedy; empty if nothing speaks against it.

    Many services answer OPTIONS worse than they answer POST, so this is never more than a doubt.
    """
    status, allow = answer.status, answer.allow
    if 300 <= status < 400:
        place = "elsewhere" if answer.location is None else f"to {answer.location}"
        return f"it redirects {place}, which is never followed; set component_post_url to that URL"
    if status in (401, 403, 407):
        return "it refuses the bridge; check the credentials in component_post_url or the headers"
    if status in (404, 410):
        return "there may be no such path; correct the path of component_post_url"
    if allow is not None and "POST" not in allow:
        methods = ", ".join(sorted(allow)) or "nothing"
        return f"it allows {methods}, but no POST; correct component_post_url, or the service"
    if status == 405 and allow is None:
        return "it does not say that it takes POST; make sure that it does, on this path"
    if status in (502, 503, 504):
        return "a proxy does not reach the service; start it, or correct the proxy"
    if status >= 500 and status != _NOT_IMPLEMENTED:  # Python's http.server knows no OPTIONS
        return "it fails; see your service's own log"
    return ""


def _remedy(why: str, url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    low = why.lower()
    if _REFUSED in why:
        return (
            f": nothing listens on port {port}; start your service, or correct component_post_url"
        )
    if "wrong version number" in low or "record layer failure" in low:
        return ": the port has no TLS; write http:// in component_post_url, or correct its port"
    if "certificate" in low or "mismatch" in low:
        return ": set ca_file of [http], or use the name that the certificate has"
    if "name or service" in low or "address associated" in low or "name resolution" in low:
        return ": correct the host of component_post_url"
    return ""
