"""What of a run is worth a picture."""

from collections.abc import Callable
from typing import Final

from tests.bench.summary import BOUND, Summaries, Summary
from tests.bench.svg import Bars, Lines, document

COLOURS: Final = {  # Okabe and Ito: told apart by colour-blind eyes too
    "bridge": "#0072b2",
    "bridge-process": "#56b4e9",
    "bridge-power": "#009e73",
    "slixmpp": "#e69f00",
    "mod_component_http": "#d55e00",
    "mod_rest": "#cc79a7",
    "echo": "#999999",
}
PROCESS_COLOURS: Final = {"contestant": "#0072b2", "prosody": "#e69f00", "nginx": "#bbbbbb"}
IDLE, RISE = "#9dbfd3", "#0072b2"


def draw(summaries: Summaries) -> str:
    """The whole figure, of what was measured."""
    names = summaries.contestants
    panels = [
        _curves(summaries, "Throughput, fast endpoint", "replies/s", lambda one: one.rate.median),
        _curves(
            summaries,
            "Median latency, fast endpoint",
            "ms",
            lambda one: one.median_ms.median,
            is_log=True,
        ),
        _shares(summaries),
        _delays(summaries),
        _cpu(summaries),
        _memory(summaries),
    ]
    return document(
        "XMPP to HTTP and back: one machine, one Prosody",
        {name: COLOURS[name] for name in names},
        [panel for panel in panels if panel is not None],
    )


def _curves(
    summaries: Summaries,
    title: str,
    unit: str,
    figure: Callable[[Summary], float],
    is_log: bool = False,
) -> Lines | None:
    windows = sorted({load.window for load in summaries.loads if load.endpoint == "fast"})
    curves = {}
    for name in summaries.contestants:
        found = [
            (index, figure(one))
            for index, window in enumerate(windows)
            if (one := summaries.find(name, "fast", window)) and figure(one) > 0
        ]
        if found:
            curves[name] = found
    if not curves:
        return None
    ticks = [str(window) for window in windows]
    return Lines(title, "W, conversations at a time", unit, ticks, curves, is_log)


def _shares(summaries: Summaries) -> Bars | None:
    rows = [
        (f"{one.contestant} W={one.load.window}", [(one.share * 100, COLOURS[one.contestant])])
        for load in summaries.loads
        if load.endpoint == "slow"
        for one in summaries.under(load)
        if one.share is not None and one.contestant != BOUND
    ]
    title = "100 ms endpoint: replies of those possible"
    return Bars(title, "%, of W each 100 ms, or of what echo reaches", rows) if rows else None


def _delays(summaries: Summaries) -> Bars | None:
    rows = []
    for load in summaries.loads:
        for one in summaries.under(load) if load.endpoint == "mixed" else ():
            if one.contestant == BOUND or not one.rate.median:
                continue
            name, colour = one.contestant, COLOURS[one.contestant]
            rows.append((f"{name} W={load.window}", [(one.median_ms.median, colour)]))
            if fast := summaries.find(name, "fast", load.window):
                rows.append(("fast", [(fast.median_ms.median, "#bbbbbb")]))
    title = "1 % of the answers after 2 s: median of the rest"
    return Bars(title, "ms; grey: the fast endpoint", rows, digits=1) if rows else None


def _cpu(summaries: Summaries) -> Bars | None:
    chosen = _nearest(summaries, 64)
    rows = [
        (
            one.contestant,
            [(one.cpu_ms.get(name, 0.0), PROCESS_COLOURS[name]) for name in PROCESS_COLOURS],
        )
        for one in chosen
    ]
    if not rows:
        return None
    title = f"CPU per stanza, fast endpoint, W={chosen[0].load.window}"
    return Bars(title, "ms", rows, "blue: its own, orange: Prosody, grey: nginx", digits=2)


def _memory(summaries: Summaries) -> Bars | None:
    chosen = _nearest(summaries, 256)
    rows = [(one.contestant, [(one.idle_mb, IDLE), (one.rise_mb, RISE)]) for one in chosen]
    if not rows:
        return None
    title = f"Peak memory, fast endpoint, W={chosen[0].load.window}"
    return Bars(title, "MB; of a module: Prosody's", rows, "light: idle, dark: above it")


def _nearest(summaries: Summaries, window: int) -> list[Summary]:
    """All contestants on the fast endpoint at the window that is nearest."""
    loads = [load for load in summaries.loads if load.endpoint == "fast"]
    if not loads:
        return []
    return summaries.under(min(loads, key=lambda load: (abs(load.window - window), load.is_cold)))
