"""Settings of cascade-correlation; defaults as in Fahlman's Lisp program."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from gradnet.core.constraints import Length, Range
from gradnet.core.validation import Count, NonNegative, Positive, Validated, Width
from gradnet.models.activations import activation


@dataclass(frozen=True)
class PhaseSettings(Validated):
    """How output weights or candidates are trained.

    Attributes:
        rate: learning rate of quickprop; divided by the number of samples, and for
            candidates also by the number of their connections.
        growth: maximum growth factor of quickprop (its mu).
        decay: weight decay, added to the slopes.
        patience: stop after this many epochs without a significant change.
        change: the relative change of the error, or of the best score, that counts as
            significant.
        epochs: maximum number of epochs in a phase.
    """

    rate: Positive
    growth: Positive = 2.0
    decay: NonNegative = 0.0
    patience: Count = 8
    change: NonNegative = 0.01
    epochs: Count = 100


@dataclass(frozen=True)
class CascadeSettings(Validated):
    """How a network grows by cascade-correlation; defaults as in Fahlman's program.

    Attributes:
        pool: number of candidates in each round.
        activations: of the candidates, assigned in turn; names of
            :data:`gradnet.models.activations.ACTIVATIONS`.
        output: sigmoid (targets -0.5 and 0.5) or linear.
        outputs: the training of output weights.
        candidates: the training of candidates.
        max_units: maximum number of hidden units.
        sigmoid_offset: added to the derivative of sigmoid outputs.
        raw_residual: candidates are trained on the error itself, not multiplied by the
            derivative of the outputs.
        weight_range: initial weights are uniform in plus or minus this.
        weight_multiplier: a unit's first output weight is minus its correlation times
            this; 0 preserves the function.
        threshold: solved when every output is closer to its target than this.
        criterion: covariance (the published one) or error (Cascade-2), whose candidates
            want a rate of 10 or more: its gradient does not grow as the error falls.
        connections: cascade; flat (units see inputs only); or siblings (half of the
            pool joins the deepest layer, the other half opens a new one).
        descendant_multiplier: multiplies the scores of that other half.
        fan_in: features besides the bias that a candidate sees, drawn again for each;
            None for all.
    """

    pool: Annotated[int, Range(1, 10_000)] = 8
    activations: Annotated[list[str], Length(1, 100)] = field(
        default_factory=lambda: ["sigmoid"]
    )
    output: Literal["sigmoid", "linear"] = "sigmoid"
    outputs: PhaseSettings = field(
        default_factory=lambda: PhaseSettings(rate=0.35, decay=1e-4)
    )
    candidates: PhaseSettings = field(
        default_factory=lambda: PhaseSettings(rate=1.0, change=0.03)
    )
    max_units: Annotated[int, Range(0, 10_000)] = 25
    sigmoid_offset: NonNegative = 0.1
    raw_residual: bool = False
    weight_range: NonNegative = 1.0
    weight_multiplier: NonNegative = 1.0
    threshold: NonNegative = 0.4
    criterion: Literal["covariance", "error"] = "covariance"
    connections: Literal["cascade", "flat", "siblings"] = "cascade"
    descendant_multiplier: NonNegative = 0.8
    fan_in: Width | None = None

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            InvalidInputError: a number is out of range, or a name is unknown.
        """
        super().__post_init__()
        for name in self.activations:
            activation(name)

    def for_two_spirals(self) -> "CascadeSettings":
        """With the rates and patience that Fahlman's file recommends for them."""
        return replace(
            self,
            outputs=replace(self.outputs, rate=1.0, patience=12),
            candidates=replace(self.candidates, rate=100.0),
        )


@dataclass(frozen=True)
class SpiralCascadeSettings(CascadeSettings):
    """Cascade-correlation with the numbers that Fahlman's file has for two spirals."""

    outputs: PhaseSettings = field(
        default_factory=lambda: CascadeSettings().for_two_spirals().outputs
    )
    candidates: PhaseSettings = field(
        default_factory=lambda: CascadeSettings().for_two_spirals().candidates
    )
