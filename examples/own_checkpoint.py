"""From a state dict that you have saved to a GradNet, beside the network itself.

The network is trained here on a third of the digits and stopped early; GradNet and the
comparison use images that it has not seen.
"""

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from gradnet import GradNetClassifier, load_weights


def make_network() -> torch.nn.Sequential:
    """A small perceptron; yours is imported from where it is defined."""
    return torch.nn.Sequential(
        torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )


x, y = load_digits(return_X_y=True)
x = torch.from_numpy(x).float() / 16
y = torch.from_numpy(y)
base_part, gradnet_part, test = slice(0, 600), slice(600, 1200), slice(1200, None)

torch.manual_seed(0)
trained = make_network()
optimizer = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9)
for _ in range(15):
    optimizer.zero_grad()
    F.cross_entropy(trained(x[base_part]), y[base_part]).backward()
    optimizer.step()

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "my.pt"
    torch.save(trained.state_dict(), path)
    network = make_network().eval()
    load_weights(path, network)  # nothing is unpickled

classifier = GradNetClassifier(base=network).set_params(recipe__training__steps=200)
classifier.fit(x[gradnet_part].numpy(), y[gradnet_part].numpy())

base_accuracy = (network(x[test]).argmax(1) == y[test]).float().mean().item()
gradnet_accuracy = classifier.score(x[test].numpy(), y[test].numpy())
print(f"network itself {base_accuracy:.3f}, GradNet {gradnet_accuracy:.3f}")
