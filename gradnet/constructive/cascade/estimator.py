"""CascadeCorrelationClassifier: cascade-correlation as a scikit-learn estimator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from gradnet.constructive.cascade.network import CascadeNetwork
from gradnet.constructive.cascade.pruning import prune, to_module
from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation
from gradnet.core.nested_parameters import nested_parameters, replace_nested
from gradnet.core.reproducibility import resolve_device
from gradnet.errors import InvalidInputError


class CascadeCorrelationClassifier(ClassifierMixin, BaseEstimator):
    """Classifier grown by cascade-correlation (Fahlman and Lebiere 1990).

    Inputs are standardized. Two classes share one output; with more, each has its own.

    Args:
        settings: see
            :class:`~gradnet.constructive.cascade.settings.CascadeSettings`; None for
            the defaults. Its fields are parameters too: ``settings__max_units``,
            ``settings__candidates__rate``, and so on.
        validation_fraction: fraction of the training data held out for early stopping;
            0 grows until all samples are learned or ``settings.max_units`` is reached.
        patience: early stopping after this many units in a row without fewer validation
            errors; the network with the fewest errors is kept.
        prune_fraction: fraction of the weights that Optimal Brain Damage deletes in
            each round, followed by retraining, as long as validation errors do not
            increase; 0 does not prune.
        device: ``cpu``, ``cuda`` or ``auto``.
        random_state: seed of the initial weights and of the validation split.

    Attributes:
        classes_: the labels, sorted.
        network_: the grown
            :class:`~gradnet.constructive.cascade.network.CascadeNetwork`, before
            pruning.
        result_: the :class:`~gradnet.constructive.cascade.trainer.CascadeResult`.
        validation_errors_: error rate on the held-out samples without hidden units and
            after each one; empty without a validation split.
        module_: the ``nn.Module`` used for prediction, which takes standardized inputs
            ``(N, D)``; deleted weights are zero.

    Example:
        >>> from gradnet.constructive.cascade import CascadeCorrelationClassifier
        >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], ["even", "odd", "odd", "even"]
        >>> classifier = CascadeCorrelationClassifier().fit(X, y)
        >>> classifier.predict([[1, 0], [1, 1]]).tolist()
        ['odd', 'even']
        >>> int(classifier.network_.hidden[0])
        1
    """

    def __init__(
        self,
        settings: CascadeSettings | None = None,
        validation_fraction: float = 0.0,
        patience: int = 5,
        prune_fraction: float = 0.0,
        device: str = "cpu",
        random_state: int = 0,
    ) -> None:
        self.settings = settings
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.prune_fraction = prune_fraction
        self.device = device
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name.

        Args:
            deep: include the fields of the settings, as ``settings__max_units`` and
                ``settings__candidates__rate``.

        Returns:
            Parameter name -> value.
        """
        found: dict[str, Any] = super().get_params(deep=False)
        if not deep:
            return found
        settings = CascadeSettings() if self.settings is None else self.settings
        return found | nested_parameters("settings", settings)

    def set_params(self, **params: Any) -> "CascadeCorrelationClassifier":
        """Set parameters by the names that :meth:`get_params` returns.

        Args:
            **params: parameter name -> new value. ``settings`` is set before its
                fields, whatever the order.

        Returns:
            The estimator itself.

        Raises:
            ValueError: a parameter is unknown or out of range.
        """
        nested = {k: v for k, v in params.items() if k.startswith("settings__")}
        super().set_params(**{k: v for k, v in params.items() if k not in nested})
        if nested:
            changes = {k.removeprefix("settings__"): v for k, v in nested.items()}
            self.settings = replace_nested(self._settings(), changes)
        return self

    def fit(self, X: ArrayLike, y: ArrayLike) -> "CascadeCorrelationClassifier":
        """Grow a network.

        Args:
            X: ``(N, D)``.
            y: ``(N,)``, labels of any type.

        Returns:
            The fitted estimator itself.

        Raises:
            InvalidInputError: there is only one class, a parameter is out of range,
                there are too few samples to hold some out, outputs are linear, or
                ``prune_fraction`` is set without ``validation_fraction``.
        """
        rows, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        settings = self._settings()
        self._check_parameters(settings)
        self.classes_, encoded = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidInputError("all samples are of one class; give two classes")
        train, held_out = self._split(encoded)
        self.mean_ = rows[train].mean(0)
        deviation = rows[train].std(0)
        self.scale_ = np.where(deviation > 0, deviation, 1.0)
        labels = torch.from_numpy(encoded).to(resolve_device(self.device))
        inputs, targets = self._inputs(rows), self._targets(labels)
        self.validation_errors_: list[float] = []

        def errors(outputs: Tensor) -> float:
            wrong = self._classes_of(outputs) != labels[held_out]
            return wrong.double().mean().item()

        def should_stop(network: CascadeNetwork) -> Tensor:
            self.validation_errors_.append(errors(network(inputs[held_out])[0]))
            best = int(np.argmin(self.validation_errors_))
            waited = len(self.validation_errors_) - 1 - best
            return torch.full_like(network.hidden, waited >= self.patience) > 0

        self.result_ = cascade_correlation(
            inputs[train],
            targets[train],
            settings,
            seeds=[self.random_state],
            should_stop=should_stop if len(held_out) else None,
        )
        self.network_ = self.result_.network
        if self.validation_errors_:
            self.network_.hidden[0] = int(np.argmin(self.validation_errors_))
        self.module_: nn.Module = to_module(self.network_)
        if self.prune_fraction:
            samples = inputs[train], targets[train]
            self._prune(*samples, lambda module: errors(module(inputs[held_out])))
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """The outputs in [-0.5, 0.5]: ``(N, K)``, or ``(N,)`` for two classes."""
        outputs: NDArray[np.float64] = self._outputs(X).cpu().numpy()
        return outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of the largest output, ``(N,)``."""
        best = self._classes_of(self._outputs(X)).cpu().numpy()
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _settings(self) -> CascadeSettings:
        settings = CascadeSettings() if self.settings is None else self.settings
        if not isinstance(settings, CascadeSettings):
            raise InvalidInputError(
                f"settings is a {type(settings).__name__}; give CascadeSettings or None"
            )
        return settings

    def _check_parameters(self, settings: CascadeSettings) -> None:
        if settings.output != "sigmoid":
            raise InvalidInputError(
                "a classifier has sigmoid outputs; set output='sigmoid'"
            )
        if not 0 <= self.prune_fraction < 1:
            raise InvalidInputError(
                f"prune_fraction is {self.prune_fraction}; give one from 0 to below 1"
            )
        if not 0 <= self.validation_fraction < 1:
            raise InvalidInputError(
                f"validation_fraction is {self.validation_fraction}; give one from 0 "
                "to below 1"
            )
        if self.patience < 1:
            raise InvalidInputError(f"patience is {self.patience}; it must be >= 1")
        if self.prune_fraction and not self.validation_fraction:
            raise InvalidInputError(
                "held-out samples say when to stop pruning; give validation_fraction"
            )

    def _prune(
        self, inputs: Tensor, targets: Tensor, errors: Callable[[nn.Module], float]
    ) -> None:
        """Delete weights while validation errors do not increase."""
        with torch.no_grad():
            initial_error = errors(self.module_)
            self.module_ = prune(
                self.module_,
                inputs,
                targets,
                self.prune_fraction,
                lambda module: errors(module) <= initial_error,
            )

    def _outputs(self, X: ArrayLike) -> Tensor:
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        with torch.no_grad():
            outputs: Tensor = self.module_(self._inputs(rows))
        return outputs

    def _inputs(self, rows: NDArray[np.float64]) -> Tensor:
        inputs = torch.from_numpy((rows - self.mean_) / self.scale_)
        return inputs.to(resolve_device(self.device))

    def _targets(self, labels: Tensor) -> Tensor:
        if len(self.classes_) == 2:
            return labels[:, None].double() - 0.5
        return torch.nn.functional.one_hot(labels, len(self.classes_)).double() - 0.5

    def _classes_of(self, outputs: Tensor) -> Tensor:
        """Class indices ``(N,)`` from outputs ``(N, K)`` or ``(N, 1)``."""
        if outputs.shape[1] == 1:
            return (outputs[:, 0] > 0).long()
        return outputs.argmax(1)

    def _split(self, encoded: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Indices of training and held-out samples, stratified where possible."""
        indices = np.arange(len(encoded))
        if not self.validation_fraction:
            return torch.from_numpy(indices), torch.empty(0, dtype=torch.long)
        has_singleton = np.bincount(encoded).min() < 2
        try:
            train, held_out = train_test_split(
                indices,
                test_size=self.validation_fraction,
                random_state=self.random_state,
                stratify=None if has_singleton else encoded,
            )
        except ValueError as error:
            raise InvalidInputError(
                f"{len(encoded)} samples cannot be split with validation_fraction "
                f"{self.validation_fraction}: {error}"
            ) from None
        return torch.from_numpy(train), torch.from_numpy(held_out)
