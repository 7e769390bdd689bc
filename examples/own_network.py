"""Gradients of your own network for every candidate label, and a check of them."""

import torch
from sklearn.datasets import load_digits

from gradnet import GradientExtractor
from gradnet.gradients import compare_engines

x, y = load_digits(return_X_y=True)
x = torch.from_numpy(x).float().reshape(-1, 1, 8, 8) / 16
y = torch.from_numpy(y)

torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.MaxPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(8 * 4 * 4, 10),
).eval()

# Always check the gradients of a new network first.
for row in compare_engines(network, x[:8]):
    print(f"{row.block:10} largest error {row.error:.1e}")
    assert row.error < 1e-4

extractor = GradientExtractor(network)
for name, gradients in extractor.all_labels(x[:16]).items():
    print(f"{name:10} (N, K, *weight) = {tuple(gradients.shape)}")

# The gradient at the true label alone costs one backward pass instead of ten.
one_label = extractor.per_sample(x[:16], y[:16])
print({name: tuple(gradients.shape) for name, gradients in one_label.items()})

# More images than fit: the gradients of a chunk at a time.
norms = torch.zeros(10)
for first in range(0, 512, 64):
    gradients = extractor.all_labels(x[first : first + 64])
    norms += gradients["4.weight"].flatten(2).norm(dim=2).sum(0)
print(
    "mean norm of the last layer's gradient, by label:", (norms / 512).round(decimals=2)
)
