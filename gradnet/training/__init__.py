"""The one training loop, and supervised learning by it.

``loop`` fits, evaluates, keeps the best weights and resumes; ``supervised`` is the task
of learning from labelled samples.
"""

from gradnet.training.loop import Callbacks, History, Part, Task, TrainingSettings, fit
from gradnet.training.supervised import (
    Batches,
    SupervisedTask,
    augmented_batch,
    evaluate,
    evaluate_scores,
)

__all__ = [
    "Batches",
    "History",
    "Part",
    "SupervisedTask",
    "Task",
    "TrainingSettings",
    "Callbacks",
    "augmented_batch",
    "evaluate",
    "evaluate_scores",
    "fit",
]
