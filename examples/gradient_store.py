"""Gradients to disk and back, and a GradNet that is fitted on them.

The same on the command line, for networks and images of any size:

    gradnet extract --model package.module:factory --data images/ --out gradients
"""

import tempfile

import torch

from gradnet import GradientStore, GradNetClassifier
from gradnet.checkpoints import InputSettings, load_inputs
from gradnet.store import Extraction, ExtractionSettings, write_store

inputs = load_inputs(InputSettings(data="digits", limit=200))
unseen = load_inputs(InputSettings(data="digits", part="test"))

torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Flatten(),
    torch.nn.Linear(64, 32),
    torch.nn.ReLU(),
    torch.nn.Linear(32, 10),
).eval()

with tempfile.TemporaryDirectory() as folder:
    settings = ExtractionSettings()
    extraction = Extraction(network, inputs, settings)
    print(extraction.plan.describe())
    write_store(folder, extraction.plan, extraction.rows)

    store = GradientStore(folder)
    rows = store.read(0, 5)  # 5 samples, all labels
    print({name: tuple(values.shape) for name, values in rows.items()})

    classifier = GradNetClassifier(base=network)
    classifier.set_params(recipe__training__steps=20).fit_store(store)

x = unseen.prepare(unseen.images).numpy()
accuracy = classifier.score(x, unseen.targets.numpy())
print(f"accuracy on the test images {accuracy:.3f}")
