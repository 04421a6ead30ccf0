"""The clock by which what is kept grows old. The wall clock does not do: if it is set forward by
40 days, everything seems to be older than any limit, and would be deleted at once.
"""

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_s() -> float:
    """Return the seconds since the machine was started, also those in which it was suspended
    (clock_gettime(2)). Nobody can set this clock.
    """
    return time.clock_gettime(_CLOCK)
