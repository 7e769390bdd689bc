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
from gradnet.core.reproducibility import resolve_device
from gradnet.errors import InvalidInputError


class CascadeCorrelationClassifier(ClassifierMixin, BaseEstimator):
    """A network that grows until it has learned its classes.

    Inputs are standardized. Two classes make one output, more one each.

    Args:
        settings: see
            :class:`~gradnet.constructive.cascade.settings.CascadeSettings`; None takes
            the defaults.
        validation_fraction: part of the training data that stops the growth; 0 grows
            until all is learned, or there are as many units as may be.
        patience: stop after so many units without fewer errors there; the network then
            goes back to where it had the fewest.
        prune_fraction: of its weights, deleted by Optimal Brain Damage again and again,
            the others retrained, as long as there are no more errors there; 0 deletes
            none.
        device: ``cpu``, ``cuda`` or ``auto``.
        random_state: seed of weights and of the part that is held out.

    Attributes:
        classes_: the labels, sorted.
        network_: the :class:`~gradnet.constructive.cascade.network.CascadeNetwork`
            that was found, before pruning.
        result_: what the training did.
        validation_errors_: after each unit, the first without any; empty without a
            validation part.
        module_: the network that predicts, an ``nn.Module`` of standardized inputs
            ``(N, D)``; deleted weights are zero.
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

    def fit(self, X: ArrayLike, y: ArrayLike) -> "CascadeCorrelationClassifier":
        """Grow a network.

        Args:
            X: ``(N, D)``.
            y: ``(N,)``, labels of any type.

        Raises:
            InvalidInputError: the labels are of one class, the settings have other
                outputs than sigmoids, or nothing is held out to prune by.
        """
        rows, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        settings = self._checked_settings()
        self.classes_, encoded = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidInputError("all samples are of one class; give two classes")
        train, held_out = self._parts(encoded)
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
        """The outputs, between -0.5 and 0.5: ``(N, K)``, of two classes ``(N,)``."""
        outputs: NDArray[np.float64] = self._outputs(X).cpu().numpy()
        return outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of the largest output, ``(N,)``."""
        best = self._classes_of(self._outputs(X)).cpu().numpy()
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _checked_settings(self) -> CascadeSettings:
        settings = self.settings or CascadeSettings()
        if settings.output != "sigmoid":
            raise InvalidInputError(
                "a classifier has sigmoid outputs; set output='sigmoid'"
            )
        if not 0 <= self.prune_fraction < 1:
            raise InvalidInputError(
                f"prune_fraction is {self.prune_fraction}; give one from 0 to below 1"
            )
        if self.prune_fraction and not self.validation_fraction:
            raise InvalidInputError(
                "held-out samples say when to stop pruning; give validation_fraction"
            )
        return settings

    def _prune(
        self, inputs: Tensor, targets: Tensor, errors: Callable[[nn.Module], float]
    ) -> None:
        """Delete weights while there are no more errors than before."""
        with torch.no_grad():
            fewest = errors(self.module_)
            self.module_ = prune(
                self.module_,
                inputs,
                targets,
                self.prune_fraction,
                lambda module: errors(module) <= fewest,
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
        """The number of each sample's class ``(N,)``, of ``(N, K)`` or ``(N, 1)``."""
        if outputs.shape[1] == 1:
            return (outputs[:, 0] > 0).long()
        return outputs.argmax(1)

    def _parts(self, encoded: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """What trains and what is held out, of each class its part."""
        everything = np.arange(len(encoded))
        if not self.validation_fraction:
            return torch.from_numpy(everything), torch.empty(0, dtype=torch.long)
        is_rare = np.bincount(encoded).min() < 2
        train, held_out = train_test_split(
            everything,
            test_size=self.validation_fraction,
            random_state=self.random_state,
            stratify=None if is_rare else encoded,
        )
        return torch.from_numpy(train), torch.from_numpy(held_out)
