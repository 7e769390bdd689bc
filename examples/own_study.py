"""Your own trained network beside its GradNet and its own further training: one call.

The network is trained here on a third of the digits and stopped early. ``seen`` says
that it has seen the train part, so that all the rest happens on other images.
"""

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from gradnet import study_network

x, y = load_digits(return_X_y=True)
x = torch.from_numpy(x).float() / 16
y = torch.from_numpy(y)
data = {
    "train": (x[:600], y[:600]),
    "val": (x[600:1200], y[600:1200]),
    "test": (x[1200:], y[1200:]),
}

torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
for _ in range(15):
    optimizer.zero_grad()
    F.cross_entropy(network(x[:600]), y[:600]).backward()
    optimizer.step()

# out="runs/mine" would write the table and a picture, and continue a stopped study.
rows = study_network(network, data, seen="train", max_epochs=3)
for row in rows:
    print(f"{row['method']:12} {row['test_accuracy']:.3f} of {len(y[1200:])} images")
