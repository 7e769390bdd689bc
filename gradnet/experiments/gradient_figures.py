"""Figures of gradients: of one image at every label, and mean norms by block."""

from collections.abc import Mapping, Sequence

from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from torch import Tensor

from gradnet.core.text import figure_text
from gradnet.errors import GradnetError


def draw_gradients(
    image: Tensor,
    gradients: Mapping[str, Tensor],
    class_names: Sequence[str],
    probabilities: Tensor | None = None,
) -> Figure:
    """Draw the gradients of one sample: a row a parameter, a column a candidate label.

    Each panel is the gradient as a matrix ``(outputs, inputs)``; the colours of a row
    share one scale, red above zero, blue below, logarithmic but near zero.

    Args:
        image: ``(channels, H, W)``, 1 or 3 channels, bytes or floats from 0 to 1.
        gradients: parameter name -> ``(K, *shape)``.
        class_names: ``K`` of them.
        probabilities: ``(K,)``, the base network's, written above the columns.

    Raises:
        GradnetError: the gradients are not those of ``K`` labels.
    """
    for name, gradient in gradients.items():
        if len(gradient) != len(class_names):
            raise GradnetError(
                f"{name} has gradients of {len(gradient)} labels, there are "
                f"{len(class_names)} class names"
            )
    rows, columns = len(gradients), len(class_names)
    figure = Figure(figsize=(1.1 * columns + 2, 1.3 * rows + 0.6), layout="constrained")
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[1.6] + [1] * columns)
    picture = figure.add_subplot(grid[:, 0])
    picture.imshow(image.permute(1, 2, 0).cpu().numpy(), cmap="gray")
    picture.set_axis_off()
    for row, (name, gradient) in enumerate(gradients.items()):
        largest = float(gradient.abs().max()) or 1.0
        scale = SymLogNorm(largest / 100, vmin=-largest, vmax=largest)
        for column, class_name in enumerate(class_names):
            panel = figure.add_subplot(grid[row, column + 1])
            matrix = gradient[column].reshape(gradient.shape[1], -1).cpu().numpy()
            panel.imshow(
                matrix, cmap="RdBu_r", norm=scale, aspect="auto", interpolation="none"
            )
            panel.set_xticks([])
            panel.set_yticks([])
            if column == 0:
                panel.set_ylabel(figure_text(name), fontsize="small")
            if row == 0:
                chance = (
                    "" if probabilities is None else f"\n{probabilities[column]:.2f}"
                )
                panel.set_title(f"{figure_text(class_name)}{chance}", fontsize="small")
    return figure


def draw_norms(norms: Tensor, block_names: Sequence[str]) -> Figure:
    """Draw mean gradient norms: a row a block, a column a candidate label.

    Args:
        norms: ``(B, K)``; NaN where a label never occurs.
        block_names: ``B`` of them.
    """
    rows, columns = norms.shape
    size = (3 + 0.45 * min(columns, 40), 1.8 + 0.32 * rows)
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.add_subplot()
    # Layers differ by orders of magnitude, labels by less.
    picture = panel.imshow(
        norms.cpu().numpy(), aspect="auto", interpolation="none", norm="log"
    )
    panel.set_yticks(
        range(rows), [figure_text(name or "model") for name in block_names]
    )
    panel.set_xlabel("candidate label")
    if columns <= 40:
        panel.set_xticks(range(columns))
    figure.colorbar(picture, label="mean gradient norm")
    return figure
