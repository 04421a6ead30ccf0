"""xmpp-bridge: puts an HTTP service behind XMPP, as an external component of any server."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("xmpp-bridge")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
