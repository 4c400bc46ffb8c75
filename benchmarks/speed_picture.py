"""The picture of a speed.json: how fast each side is, as a share of the reference.

python -m benchmarks.speed_picture benchmarks/speed_cpu.json docs/speed_cpu.svg
"""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.speed import PRODUCTS, REFERENCE, table
from lab.files import read_json
from lab.reporting.drawing import COLOURS, GREY, STYLE, render

ARMS = ("ar", "dlm")
OFFSET = 0.16  # of an arm's mark from the line of its side


def draw(cells: list[dict]) -> Figure:
    """One panel a shape and number of cores; the lines are 10 to 90 % of the rounds."""
    kinds = list(dict.fromkeys((cell["shape"], cell["cores"], cell["dtype"]) for cell in cells))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.6 + 2.4 * -(-len(kinds) // 2)), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        panels = figure.subplots(-(-len(kinds) // 2), 2, squeeze=False).flatten()
        for panel in panels[len(kinds) :]:
            panel.set_visible(False)
        for panel, kind in zip(panels, kinds, strict=False):
            shape, cores, dtype = kind
            same = [cell for cell in cells if (cell["shape"], cell["cores"], cell["dtype"]) == kind]
            names = list(dict.fromkeys(name for cell in same for name in cell["sides"]))
            names = [name for name in names if name not in (*PRODUCTS, REFERENCE)]
            panel.set_title(f"{shape}, {cores} core{'s' if cores > 1 else ''}, {dtype}", fontsize=9)
            panel.axvline(1, color=GREY, linewidth=1)
            for cell in same:
                sign = OFFSET if cell["arm"] == ARMS[0] else -OFFSET
                for row in table(cell):
                    if row["side"] in names:
                        y = len(names) - names.index(row["side"]) + sign
                        colour = COLOURS[cell["arm"]]
                        panel.plot([row["ratio_low"], row["ratio_high"]], [y, y], color=colour, linewidth=1.4)
                        panel.plot(row["ratio"], y, "o", color=colour, markersize=5)
            panel.set_yticks(range(len(names), 0, -1), names, fontsize=8)
            panel.set_ylim(0.4, len(names) + 0.6)
            panel.set_xlim(0, 1.25)
            panel.grid(axis="x")
            panel.tick_params(axis="x", labelsize=8)
        figure.supxlabel("tokens/s, as a share of PyTorch compiled (AR orange, DLM blue)", fontsize=9)
    return figure


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_bytes(render(draw(read_json(source)["cells"]), "svg"))
