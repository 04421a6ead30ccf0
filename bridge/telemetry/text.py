"""Times, durations, sizes and untrusted text, formatted for people."""

from datetime import UTC, datetime


def when(at: float) -> str:
    """Format a Unix time (s) as the log and the JSON do: ISO 8601, in UTC."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):  # from a clock or a file that is far off
        return f"{at:g} s since 1970"


def age(seconds: float) -> str:
    """Format a duration in its largest unit."""
    for unit, span in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * span:
            return f"{seconds / span:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def size(count: int) -> str:
    """Format a number of bytes in its largest unit."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def printable(text: str) -> str:
    """Escape all characters but visible ones and the space; line ends are escaped too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """Return a duration with three significant digits, in µs, ms or s."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"
