"""The plots: each contender's cost as a multiple of COPY's, and the time to read by the number of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.costs import Contest, ManyChunks, Measure

SHOWN: Final = (Measure.WALL, Measure.CLIENT_CPU, Measure.SERVER_CPU, Measure.MEMORY)
COLOURS: Final = ("#0b6e4f", "#5fa777", "#b4552d")
"""The connector in two greens, the stock source in another colour."""
FLOOR_COLOUR: Final = "#666666"
MARKERS: Final = ("o", "D", "s")
STEP: Final = 0.22
"""Between the lines of one table's contenders; tables are 1 apart."""

mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "benchmarks",
    }
)


def draw_contests(contests: Sequence[Contest], path: Path, caption: str) -> None:
    """One panel for each measure: a point for each contender and table, with its range, on a logarithmic scale."""
    figure = Figure(figsize=(11, 1.2 + 0.8 * len(contests)), layout="constrained")
    panels = figure.subplots(1, len(SHOWN), sharey=True, squeeze=False)[0]
    for panel, measure in zip(panels, SHOWN, strict=True):
        _draw_measure(panel, measure, contests)
    panels[0].set_yticks(range(len(contests)), [contest.title for contest in contests])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    _save(figure, path, caption)


def _draw_measure(panel: Axes, measure: Measure, contests: Sequence[Contest]) -> None:
    panel.axvline(1, color=FLOOR_COLOUR, linewidth=1, label=contests[0].floor)
    for position, name in enumerate(contests[0].contenders):
        points = [
            (row + STEP * (position - 1), spread)
            for row, contest in enumerate(contests)
            if (spread := contest.ratio(name, measure)) is not None
        ]
        below = [spread.middle - spread.low for _, spread in points]
        above = [spread.high - spread.middle for _, spread in points]
        panel.errorbar(
            [spread.middle for _, spread in points],
            [height for height, _ in points],
            xerr=(below, above),
            fmt=MARKERS[position],
            markersize=5,
            color=COLOURS[position],
            elinewidth=1.5,
            label=name,
        )
    panel.set_title(f"{measure.value}, times COPY's", fontsize=9)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(axis="x", which="major", color="#dddddd")
    panel.set_axisbelow(True)


def draw_chunks(many: Sequence[ManyChunks], path: Path, caption: str) -> None:
    """Seconds by chunks: a straight line through the origin is what is wanted."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    panel = figure.subplots()
    chunks = [one.chunks for one in many]
    for position, (label, seconds) in enumerate(
        (
            ("read, 2 readers", [one.read_seconds for one in many]),
            ("discover", [one.discover_seconds for one in many]),
        )
    ):
        panel.plot(
            [0, *chunks], [0, *seconds], marker=MARKERS[position], color=COLOURS[2 * position], label=label
        )
    for one in many:
        panel.annotate(
            f"{one.milliseconds_per_chunk:.2f} ms per chunk",
            (one.chunks, one.read_seconds),
            textcoords="offset points",
            xytext=(8, -10),
        )
    panel.set_xlabel("chunks")
    panel.set_ylabel("seconds after start-up")
    panel.set_xlim(0, 1.3 * max(chunks))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.set_ylim(bottom=0)
    panel.legend(frameon=False, loc="upper left")
    _save(figure, path, caption)


def _save(figure: Figure, path: Path, caption: str) -> None:
    figure.supxlabel(caption, fontsize=7, color=FLOOR_COLOUR)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
