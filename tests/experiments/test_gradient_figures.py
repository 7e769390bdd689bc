"""The figure of a sample's gradients has a panel for every label and parameter."""

import pytest
import torch

from gradnet.errors import GradnetError
from gradnet.experiments.gradient_figures import draw_gradients, draw_norms

GRADIENTS = {"conv": torch.randn(3, 4, 1, 2, 2), "linear": torch.zeros(3, 5, 4)}


def test_a_panel_for_each_label_and_parameter():
    image = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
    figure = draw_gradients(image, GRADIENTS, "abc", torch.tensor([0.7, 0.2, 0.1]))
    assert len(figure.axes) == 1 + 2 * 3
    panels = {axes.get_title(): axes for axes in figure.axes[1:4]}
    assert list(panels) == ["a\n0.70", "b\n0.20", "c\n0.10"]
    shown = torch.as_tensor(panels["b\n0.20"].images[0].get_array())
    torch.testing.assert_close(shown, GRADIENTS["conv"][1].reshape(4, 4))


def test_another_number_of_labels_is_refused():
    with pytest.raises(GradnetError, match="gradients of 3 labels, there are 2 class"):
        draw_gradients(torch.zeros(3, 4, 4), GRADIENTS, "ab")


def test_norms_by_block_and_label():
    norms = torch.arange(6.0).view(2, 3)
    figure = draw_norms(norms, ["conv", ""])
    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["conv", "model"]
    torch.testing.assert_close(torch.as_tensor(panel.images[0].get_array().data), norms)
