"""Proxies that the environment names, by the variables that curl reads, too."""

from urllib.request import getproxies, proxy_bypass

import httpx


def proxy_for(url: httpx.URL) -> str | None:
    """Return the proxy for a URL from the environment (HTTPS_PROXY, NO_PROXY, …), if any."""
    proxies = getproxies()
    if proxy_bypass(url.host):
        return None
    return proxies.get(url.scheme) or proxies.get("all")
