"""A grid search over the recipe of a GradNet, by scikit-learn."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from gradnet import GradNetClassifier

x, y = load_digits(return_X_y=True)
x = x.astype("float32")[:200] / 16
y = y[:200]

torch.manual_seed(0)
base = torch.nn.Sequential(
    torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
).eval()

classifier = GradNetClassifier(base=base).set_params(recipe__training__steps=20)
search = GridSearchCV(
    classifier,
    {"recipe__training__learning_rate": [1e-3, 1e-2], "recipe__hidden": [4, 8]},
    cv=2,
)
search.fit(x, y)
print(search.best_params_, f"{search.best_score_:.3f}")
