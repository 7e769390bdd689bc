"""Recipes: all settings of a GradNet and its training, as one frozen dataclass."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gradnet.classifier.features import FeatureSettings
from gradnet.classifier.network import GradNet
from gradnet.errors import InvalidInputError
from gradnet.training.loop import TrainingSettings


@dataclass(frozen=True)
class Recipe:
    """How gradients are read, made features, and classified.

    Attributes:
        layers: name patterns of the layers to read; None reads all.
        biases: read the biases too.
        weight_decay_term: adds this times the weights to each gradient.
        features: see :class:`~gradnet.classifier.features.FeatureSettings`.
        statistics_samples: training samples that the scaling is fitted on, each at one
            random label.
        head: ``sum`` or ``scorer``, see :class:`~gradnet.classifier.network.GradNet`.
        hidden: hidden units of each group of blocks; one number serves all groups.
        window: adjacent blocks that a group sees.
        activation: ``relu`` or ``identity``.
        dropout: of the hidden units.
        initial_std: of all weights; None scales by fan in.
        training: see :class:`~gradnet.training.loop.TrainingSettings`.
    """

    layers: tuple[str, ...] | None = None
    biases: bool = False
    weight_decay_term: float = 0.0
    features: FeatureSettings = field(default_factory=FeatureSettings)
    statistics_samples: int = 1000
    head: Literal["sum", "scorer"] = "scorer"
    hidden: int | tuple[int, ...] = 16
    window: int = 1
    activation: Literal["relu", "identity"] = "relu"
    dropout: float = 0.0
    initial_std: float | None = None
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def make_network(self, block_sizes: Mapping[str, int], num_classes: int) -> GradNet:
        """An untrained GradNet for these blocks.

        Raises:
            InvalidInputError: the recipe does not fit the number of blocks.
        """
        return GradNet(
            block_sizes,
            num_classes,
            hidden=self.hidden,
            window=self.window,
            head=self.head,
            activation=self.activation,
            dropout=self.dropout,
            initial_std=self.initial_std,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; :meth:`from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that :meth:`to_dict` returned.

        Raises:
            InvalidInputError: a field is unknown or missing.
        """
        fields = dict(values)
        try:
            fields["features"] = FeatureSettings(**fields["features"])
            fields["training"] = TrainingSettings(**fields["training"])
            for name in ("layers", "hidden"):
                if isinstance(fields[name], list):
                    fields[name] = tuple(fields[name])
            return cls(**fields)
        except (TypeError, KeyError) as error:
            raise InvalidInputError(f"this is no recipe: {error}") from None


# 1,000 steps are one pass over the 25,000 images of 2018, the first entry of its log;
# accuracy was still rising after 200,000. All-label validation costs more than the
# training.
GRADNET_2018 = Recipe(
    weight_decay_term=5e-4,
    features=FeatureSettings(percent=15, scaling="min-max", power=0.5),
    head="sum",
    hidden=(5, 100, 25),
    initial_std=0.02,
    training=TrainingSettings(
        steps=1000,
        batch_size=25,
        optimizer="sgd",
        learning_rate=0.01,
        momentum=0.0,
        weight_decay=0.0,
        evaluate_every=1000,
        patience=None,
    ),
)

# The tangent model on gradients without features. On the validation part of CIFAR-10
# (JPEG copy), at equal samples, it was as accurate as a ReLU layer of 16 units a block
# on scaled gradients, and more accurate than on gradients scaled by deviation or
# maximum. No gradient needs to be formed.
DEFAULT = Recipe(
    head="scorer",
    hidden=1,
    activation="identity",
    training=TrainingSettings(
        steps=1200,
        batch_size=64,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.0,
        schedule="cosine",
        evaluate_every=200,
        patience=4,
    ),
)

RECIPES: Mapping[str, Recipe] = {"default": DEFAULT, "gradnet2018": GRADNET_2018}
