"""xmpp-bridge: puts an HTTP service behind XMPP, as an external component of any server."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Return `__version__`. Looking it up takes 0.05 s: too long for the start of `run`."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("xmpp-bridge")
        except PackageNotFoundError:  # run from a source tree that is not installed
            return "0+unknown"
