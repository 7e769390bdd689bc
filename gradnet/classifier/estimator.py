"""GradNetClassifier: GradNet as a scikit-learn estimator."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from gradnet.classifier.fit import fit_gradnet
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import RECIPES, Recipe
from gradnet.core.nested_parameters import nested_parameters, replace_nested
from gradnet.core.reproducibility import (
    derive_seed,
    isolated_randomness,
    resolve_device,
)
from gradnet.data.augmentation import IdentityTransform
from gradnet.data.problem import Samples
from gradnet.data.splits import make_splits
from gradnet.errors import InvalidInputError
from gradnet.store.reader import GradientStore
from gradnet.training.loop import TrainingSettings, fit
from gradnet.training.supervised import SupervisedTask

# Parts of fewer samples could be empty or have a single class.
MIN_SAMPLES_TO_SPLIT = 40


class GradNetClassifier(ClassifierMixin, BaseEstimator):
    """Classifies by the gradients of a base network.

    Args:
        base: maps inputs ``(N, ...)`` to logits ``(N, K)``, one for each class in
            sorted order. A copy of it is used, in evaluation mode. None trains a
            network with one hidden layer of 32 units on standardized inputs, on half of
            the data.
        recipe: a name of :data:`gradnet.classifier.recipes.RECIPES`, or a recipe. Its
            fields are parameters too: ``recipe__hidden``,
            ``recipe__training__learning_rate``, and so on.
        validation_fraction: fraction of the training data for validation.
        device: of training and prediction: ``cpu``, ``cuda`` or ``auto``.
        random_state: seed of weights, order and random labels.
        max_memory: of a chunk of samples, in bytes or such as ``"2GB"``; None takes the
            default of the device.

    Attributes:
        classes_: the labels, sorted.
        base_: the copy of the base network.
        predictor_: the :class:`~gradnet.classifier.predictor.GradNetPredictor`.
        history_: the history of its training.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from gradnet import GradNetClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> classifier = GradNetClassifier().set_params(recipe__training__steps=20)
        >>> classifier.fit(X[:200], y[:200]).predict(X[200:203]).shape
        (3,)
    """

    def __init__(
        self,
        base: nn.Module | None = None,
        recipe: str | Recipe = "default",
        validation_fraction: float = 0.1,
        device: str = "auto",
        random_state: int = 0,
        max_memory: str | float | None = None,
    ) -> None:
        self.base = base
        self.recipe = recipe
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.max_memory = max_memory

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name.

        Args:
            deep: include the fields of the recipe, as ``recipe__hidden`` and
                ``recipe__training__learning_rate``.
        """
        found: dict[str, Any] = super().get_params(deep=False)
        return found | self._recipe_parameters() if deep else found

    def set_params(self, **params: Any) -> "GradNetClassifier":
        """Set parameters by the names that :meth:`get_params` returns.

        Raises:
            ValueError: there is no such parameter, or it is out of its range.
        """
        nested = {k: v for k, v in params.items() if k.startswith("recipe__")}
        super().set_params(**{k: v for k, v in params.items() if k not in nested})
        if nested:
            changes = {k.removeprefix("recipe__"): v for k, v in nested.items()}
            self.recipe = replace_nested(self._recipe(), changes)
        return self

    def fit(self, X: ArrayLike, y: ArrayLike) -> "GradNetClassifier":
        """Train GradNet, and before it a base network if none was given.

        Args:
            X: ``(N, ...)``, floats as the base takes them.
            y: ``(N,)``, labels of any type.

        Raises:
            InvalidInputError: there is only one class, the number of classes is not
                that of the base network's logits, or there is no such recipe.
        """
        X, y = validate_data(self, X, y, dtype=np.float32, allow_nd=True)
        check_classification_targets(y)
        recipe = self._recipe()
        self.classes_, encoded = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidInputError("all samples are of one class; give two classes")
        device = resolve_device(self.device)
        inputs = torch.from_numpy(X).to(device, self._dtype())
        labels = torch.from_numpy(encoded.astype(np.int64)).to(device)
        base_half, gradnet_half = self._halves(inputs, labels)
        if self.base is None:
            self.base_ = self._train_base(base_half)
        else:
            self.base_ = self._copy_of_base(device)
            self._check_classes(inputs)
        self.predictor_, self.history_ = fit_gradnet(
            self.base_,
            gradnet_half,
            recipe,
            seed=self.random_state,
            max_memory=self.max_memory,
        )
        return self

    def fit_store(self, store: str | GradientStore) -> "GradNetClassifier":
        """Train GradNet on gradients that ``gradnet extract`` stored.

        Args:
            store: a store, or its folder or URL; of the base network, at all labels.

        Raises:
            InvalidInputError: there is no base network, or the store does not fit it.
        """
        if self.base is None:
            raise InvalidInputError(
                "a store holds no base network; give one with base=..."
            )
        opened = GradientStore(store) if isinstance(store, str) else store
        self.classes_ = np.arange(opened.plan.num_logits)
        self.base_ = self._copy_of_base(resolve_device(self.device))
        self.predictor_, self.history_ = fit_gradnet(
            self.base_,
            opened,
            self._recipe(),
            validation_fraction=self.validation_fraction,
            seed=self.random_state,
            max_memory=self.max_memory,
        )
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float32]:
        """Scores ``(N, K)``; for two classes their difference, ``(N,)``."""
        scores: NDArray[np.float32] = self._scores(X).cpu().numpy()
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Softmax of the scores, ``(N, K)``."""
        probabilities: NDArray[np.float32] = self._scores(X).softmax(1).cpu().numpy()
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of the largest score, ``(N,)``."""
        best = self._scores(X).argmax(1).cpu().numpy()
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _scores(self, X: ArrayLike) -> Tensor:
        check_is_fitted(self, "predictor_")
        X = validate_data(self, X, dtype=np.float32, allow_nd=True, reset=False)
        predictor: GradNetPredictor = self.predictor_
        weight = next(predictor.base.parameters())
        return predictor.scores(torch.from_numpy(X).to(weight))

    def _dtype(self) -> torch.dtype:
        """The dtype of the base network's inputs."""
        parameters = () if self.base is None else self.base.parameters()
        return next((p.dtype for p in parameters), torch.float32)

    def _copy_of_base(self, device: torch.device) -> nn.Module:
        """A copy of the base in evaluation mode; the original is not modified."""
        assert self.base is not None
        return copy.deepcopy(self.base).to(device).eval()

    def _recipe_parameters(self) -> dict[str, Any]:
        if isinstance(self.recipe, str):
            return nested_parameters("recipe", RECIPES.get(self.recipe))
        return nested_parameters("recipe", self.recipe)

    def _recipe(self) -> Recipe:
        if isinstance(self.recipe, Recipe):
            return self.recipe
        if not (isinstance(self.recipe, str) and self.recipe in RECIPES):
            raise InvalidInputError(
                f"no recipe {self.recipe!r}: give {', '.join(RECIPES)}"
            )
        return RECIPES[self.recipe]

    def _halves(self, inputs: Tensor, labels: Tensor) -> tuple[Samples, Samples]:
        """Samples for the base and for GradNet, which gets all if a base was given."""

        def samples(train: Tensor, validation: Tensor) -> Samples:
            number = len(self.classes_)
            return Samples(
                inputs, labels, train, validation, IdentityTransform(), number
            )

        indices = torch.arange(len(labels))
        if len(labels) < MIN_SAMPLES_TO_SPLIT:
            return samples(indices, indices), samples(indices, indices)
        splits = make_splits(len(labels), self.random_state, self.validation_fraction)
        base_half = samples(splits.base_train, splits.base_validation)
        if self.base is None:
            train = splits.gradnet_train
        else:
            train = torch.cat(
                [splits.gradnet_train, splits.base_train, splits.base_validation]
            )
        return base_half, samples(train, splits.gradnet_validation)

    def _train_base(self, half: Samples) -> nn.Module:
        rows = half.images[half.train.to(half.images.device)].flatten(1)
        with isolated_randomness():
            torch.manual_seed(derive_seed("base", self.random_state))
            model = nn.Sequential(
                nn.Flatten(),
                Standardize(rows),
                nn.Linear(rows.shape[1], 32),
                nn.ReLU(),
                nn.Linear(32, len(self.classes_)),
            ).to(rows.device)
        settings = TrainingSettings(
            steps=300,
            batch_size=32,
            optimizer="adamw",
            learning_rate=1e-2,
            evaluate_every=20,
            patience=5,
        )
        task = SupervisedTask(model, half, settings.batch_size, self.random_state)
        fit(task, settings, seed=self.random_state)
        return model.eval()

    def _check_classes(self, inputs: Tensor) -> None:
        with torch.no_grad():
            num_logits = self.base_(inputs[:1]).shape[-1]
        if num_logits != len(self.classes_):
            raise InvalidInputError(
                f"the base network has {num_logits} logits, the labels are of "
                f"{len(self.classes_)} classes; they must be as many"
            )


class Standardize(nn.Module):
    """Subtracts the mean of ``rows (N, D)`` and divides by their standard deviation."""

    mean: Tensor
    factor: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        deviation, mean = torch.std_mean(rows, dim=0, correction=0)
        self.register_buffer("mean", mean)
        self.register_buffer("factor", torch.where(deviation > 0, deviation, 1) ** -1)

    def forward(self, x: Tensor) -> Tensor:
        """The standardized rows."""
        return (x - self.mean) * self.factor
