"""What is compared on one base network: itself, its GradNets and its controls."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from gradnet.checkpoints.fingerprint import weights_fingerprint
from gradnet.classifier.fit import evaluate_predictor
from gradnet.classifier.recipes import Recipe
from gradnet.core.flops import count_parameters
from gradnet.data.problem import EvaluationSamples, Samples
from gradnet.experiments.controls import CONTROLS, train_control
from gradnet.experiments.fitting import fit_and_save
from gradnet.experiments.results import Facts, Row, read_result, several_environments
from gradnet.experiments.run_folder import RunFolder
from gradnet.experiments.run_key import RunKey
from gradnet.training.loop import Callbacks, History, TrainingSettings
from gradnet.training.supervised import evaluate

# A control is evaluated about as often as the GradNet beside it.
CONTROL_EVALUATIONS = 8


@dataclass(frozen=True)
class BaseComparison:
    """Compares on a base network, and writes a row of the run folder for each result.

    Attributes:
        folder: what is finished there is not done again.
        samples: better ones that the base has not seen; train GradNets and controls.
        test: evaluated once for each row.
        recipes: name -> recipe; the controls see as many samples as the first.
        control: how the controls are trained, but for their steps; None leaves them
            out.
        rates: learning rates that each control is trained at, to take the one that is
            best on the validation samples; empty takes the rate of ``control``.
    """

    folder: RunFolder
    samples: Samples
    test: EvaluationSamples
    recipes: Mapping[str, Recipe]
    control: TrainingSettings | None
    rates: Sequence[float] = ()

    def run(self, seed: int, level: float | None, base: nn.Module) -> None:
        """Do every run on a base network that is not finished yet.

        Args:
            seed: of weights, order, augmentation and random labels.
            level: of the snapshot that the base is; None where it is none.
            base: inputs to logits ``(N, K)``, in evaluation mode; left as it is.
        """
        self.evaluate_base(seed, level, base)
        samples_seen = [
            self.fit(seed, level, base, name, recipe)
            for name, recipe in self.recipes.items()
        ]
        if self.control is not None:
            for name in CONTROLS:
                self.train_control(
                    seed, level, base, name, self.control, samples_seen[0]
                )

    def evaluate_base(self, seed: int, level: float | None, base: nn.Module) -> None:
        """Write the base's own row: its accuracy under the same centre crop."""
        key, inputs = RunKey(seed, "base", level), _inputs(base)
        if self.folder.is_done(key, inputs=inputs):
            return
        row = {
            "validation_accuracy": evaluate(base, self.samples)["accuracy"],
            **self._test(key, base),
        }
        self.folder.finish(key, row, inputs=inputs)

    def fit(
        self,
        seed: int,
        level: float | None,
        base: nn.Module,
        name: str,
        recipe: Recipe,
    ) -> int:
        """Train and evaluate a GradNet; returns how many samples it has seen."""
        key, inputs = RunKey(seed, name, level), _inputs(base)
        if self.folder.is_done(key, recipe, inputs=inputs):
            return int(read_result(self.folder.result(key))["samples_seen"])
        callbacks = self._callbacks(key, inputs)
        fitted = fit_and_save(
            # Some networks keep what they computed last; a control is copied from one
            # that keeps nothing of torch.func.
            copy.deepcopy(base),
            self.samples,
            recipe,
            self.folder.gradnet(key),
            seed=seed,
            callbacks=callbacks,
            about=key.fields,
        )
        predictor = fitted.predictor
        used, start = predictor.gradients_used, time.monotonic()
        test = evaluate_predictor(predictor, self.test, _of_test(key))
        seconds = time.monotonic() - start
        row = {
            **_training_facts(fitted.history, recipe.training),
            "test_accuracy": test["accuracy"],
            "parameters": count_parameters(predictor.network),
            "evaluate_seconds": seconds,
            "fit_gradients_per_second": fitted.gradients_per_second,
            "evaluate_gradients_per_second": (predictor.gradients_used - used)
            / seconds,
        }
        self.folder.finish(key, row, recipe, inputs=inputs)
        return int(row["samples_seen"])

    def train_control(
        self,
        seed: int,
        level: float | None,
        base: nn.Module,
        name: str,
        training: TrainingSettings,
        samples_seen: int,
    ) -> None:
        """Train and evaluate a control on as many samples as GradNet has seen."""
        steps = max(1, round(samples_seen / training.batch_size))
        every = max(1, min(steps // CONTROL_EVALUATIONS, 100))
        training = replace(training, steps=steps, evaluate_every=every)
        key, inputs = RunKey(seed, name, level), _inputs(base)
        facts = {"rates": list(self.rates)} if self.rates else None
        if self.folder.is_done(key, training, facts, inputs=inputs):
            return
        tried = []
        for rate in self.rates or [training.learning_rate]:
            trained = train_control(
                name,
                base,
                self.samples,
                replace(training, learning_rate=rate),
                seed=seed,
                callbacks=self._callbacks(self._key_of_rate(key, rate), inputs),
            )
            tried.append((*trained, rate))
        model, history, rate = max(tried, key=lambda one: rank(one[1]))
        row = {**_training_facts(history, training), **self._test(key, model)}
        if self.rates:
            row["learning_rate"] = rate
        self.folder.finish(key, row, training, facts, inputs=inputs)
        for rate in self.rates:
            checkpoint = self.folder.checkpoint(self._key_of_rate(key, rate))
            checkpoint.unlink(missing_ok=True)

    def _key_of_rate(self, key: RunKey, rate: float) -> RunKey:
        if not self.rates:
            return key
        return replace(key, method=f"{key.method}-rate-{rate:g}")

    def _callbacks(self, key: RunKey, inputs: Facts) -> Callbacks:
        callbacks = self.folder.callbacks(key, self.folder.checkpoint(key))
        return replace(callbacks, inputs=inputs)

    def _test(self, key: RunKey, model: nn.Module) -> Facts:
        start = time.monotonic()
        return {
            "test_accuracy": evaluate(model, self.test, _of_test(key))["accuracy"],
            "parameters": count_parameters(model),
            "evaluate_seconds": time.monotonic() - start,
        }


def rank(history: History) -> tuple[float, float]:
    """How good a run's best evaluation was: by accuracy, then by loss."""
    return history.best["accuracy"], -history.best["loss"]


def cut_to_epochs(recipe: Recipe, max_epochs: float | None, count: int) -> Recipe:
    """The recipe with steps for at most so many passes over ``count`` samples."""
    if max_epochs is None:
        return recipe
    training = recipe.training
    per_epoch = count / training.batch_size
    most = max(1, round(max_epochs * per_epoch))
    if most >= training.steps:
        return recipe
    every = max(1, training.evaluate_every * most // training.steps)
    return replace(recipe, training=replace(training, steps=most, evaluate_every=every))


def _of_test(key: RunKey) -> str:
    return f"{key}: test images"


def _inputs(base: nn.Module) -> dict[str, str]:
    """What a row is made from, beside the data: the weights of its base network."""
    return {"base": weights_fingerprint(base)}


def _training_facts(history: History, training: TrainingSettings) -> Row:
    return {
        "validation_accuracy": history.best["accuracy"],
        "best_step": int(history.best_step),
        "samples_seen": samples_seen_by(history, training),
        "fit_seconds": history.seconds,
        **several_environments(history.environments),
    }


def samples_seen_by(history: History, training: TrainingSettings) -> int:
    """Samples that a run was trained on, each counted as often as it was seen."""
    return int(history.records[-1]["step"]) * training.batch_size
