"""Colours and an empty page, shared by all figures of this package."""

from typing import Any

from fastclip.installation import install_command

INK, MUTED, LINE = "#1b1f24", "#6e7781", "#d0d7de"
BLUE, GREEN, RED = "#0969da", "#1a7f37", "#cf222e"


def new_figure(width: float, height: float) -> Any:
    """Return an empty white matplotlib figure; sizes are in inches, at 130 dots per inch.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The figure needs matplotlib: {install_command('demo', 'matplotlib')}"
        ) from error
    # This canvas draws without a window system.
    figure = Figure(figsize=(width, height), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    return figure
