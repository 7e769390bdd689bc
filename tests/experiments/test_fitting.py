"""A GradNet is trained and saved in one call, with what was asked for in its header."""

from dataclasses import replace

import torch

from gradnet.checkpoints.tensor_file import load_with_header
from gradnet.classifier import GradNetPredictor
from gradnet.classifier.recipes import DEFAULT
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.experiments.fitting import fit_and_save
from gradnet.models import build_model
from gradnet.training.loop import Callbacks


def test_what_is_saved_is_what_was_trained(tmp_path):
    samples = make_problem(ProblemSettings(device="cpu")).gradnet_half
    base = build_model("mlp", in_channels=1, image_size=8, num_classes=10).eval()
    training = replace(DEFAULT.training, steps=4, evaluate_every=2)
    recipe, path = replace(DEFAULT, training=training), tmp_path / "a.safetensors"
    fitted = fit_and_save(
        base, samples, recipe, path, seed=3, callbacks=Callbacks(), about={"seed": 3}
    )
    header, _ = load_with_header(path)
    assert header["seed"] == 3
    assert header["validation_accuracy"] == fitted.history.best["accuracy"]
    assert fitted.gradients_per_second > 0
    x = torch.randn(5, 1, 8, 8)
    loaded = GradNetPredictor.load(path, base)
    assert torch.equal(loaded.scores(x), fitted.predictor.scores(x))
