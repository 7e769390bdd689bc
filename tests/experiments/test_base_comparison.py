"""Steps are cut to epochs, and the better of two runs is told by accuracy, then loss.

Rows and files of whole comparisons are tested with the two studies that make them.
"""

from dataclasses import replace

import pytest

from gradnet.classifier.recipes import DEFAULT, GRADNET_2018
from gradnet.experiments.base_comparison import cut_to_epochs, rank, samples_seen_by
from gradnet.training.loop import History, TrainingSettings


@pytest.mark.parametrize(
    ("recipe", "epochs", "count", "steps", "every"),
    [
        (DEFAULT, None, 640, 1200, 200),
        (DEFAULT, 1e6, 640, 1200, 200),
        (DEFAULT, 30, 640, 300, 50),
        (DEFAULT, 0.001, 640, 1, 1),
        (GRADNET_2018, 2, 250, 20, 20),
    ],
)
def test_steps_are_at_most_so_many_passes(recipe, epochs, count, steps, every):
    training = cut_to_epochs(recipe, epochs, count).training
    assert (training.steps, training.evaluate_every) == (steps, every)
    same = replace(training, steps=0 or recipe.training.steps, evaluate_every=1)
    assert same == replace(recipe.training, evaluate_every=1)


def history(*pairs):
    made = History()
    made.records = [
        {"step": step, "accuracy": accuracy, "loss": loss}
        for step, (accuracy, loss) in enumerate(pairs)
    ]
    made.best_step = max(range(len(pairs)), key=lambda i: pairs[i][0])
    return made


def test_runs_are_ranked_by_their_best_evaluation():
    low, high = history((0.2, 1.0), (0.5, 2.0)), history((0.1, 0.3), (0.5, 1.5))
    assert rank(low) < rank(high) < rank(history((0.6, 9.0), (0.1, 0.1)))
    assert samples_seen_by(high, TrainingSettings(batch_size=7)) == 7
