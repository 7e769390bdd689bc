"""Samples a second of GradNetClassifier on a torchvision ResNet-18.

    python benchmarks/classifier_resnet18.py --images 64 --steps 20

Fits the default recipe to random images of 32 x 32 in 10 classes and predicts them,
once. Prints JSON: seconds and samples a second of fitting (each step counts a batch of
64 samples, or all there are; each evaluation the validation samples) and of predicting.
"""

import argparse
import importlib
import json
import time
from dataclasses import replace

import numpy as np
import torch

from gradnet.classifier.estimator import GradNetClassifier
from gradnet.classifier.recipes import DEFAULT
from gradnet.core.torchvision import import_torchvision

NUM_CLASSES = 10


def measure(images: int, steps: int) -> dict[str, float]:
    """Seconds and samples a second of one fit and one prediction."""
    torch.manual_seed(0)
    import_torchvision()
    models = importlib.import_module("torchvision.models")
    base = models.resnet18(num_classes=NUM_CLASSES).eval()
    x = np.random.default_rng(0).normal(size=(images, 3, 32, 32)).astype(np.float32)
    y = np.arange(images) % NUM_CLASSES
    training = replace(DEFAULT.training, steps=steps, evaluate_every=steps)
    classifier = GradNetClassifier(
        base, replace(DEFAULT, training=training), device="cpu"
    )
    start = time.perf_counter()
    classifier.fit(x, y)
    fitted = time.perf_counter()
    classifier.predict(x)
    predicted = time.perf_counter()
    used = classifier.predictor_.gradients_used / NUM_CLASSES - images
    return {
        "fit_seconds": fitted - start,
        "predict_seconds": predicted - fitted,
        "fit_samples_per_second": used / (fitted - start),
        "predict_samples_per_second": images / (predicted - fitted),
        "samples_per_second": (used + images) / (predicted - start),
    }


def main() -> None:
    """Measure once and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    found = {key: round(value, 3) for key, value in measure(**vars(arguments)).items()}
    print(json.dumps({**vars(arguments), **found, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
