"""Batches show every sample, evaluation counts every sample, augmentation is seeded."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gradnet.classifier.estimator import IdentityTransform
from gradnet.data.augmentation import Augmentation
from gradnet.data.problem import Samples
from gradnet.training.supervised import (
    Batches,
    SupervisedTask,
    augmented_batch,
    evaluate,
    evaluate_scores,
    set_training_mode,
)


def test_an_epoch_shows_every_sample_once():
    batches = Batches(torch.arange(10, 22), 4, seed=0)
    epochs = [torch.cat([batches(3 * e + i) for i in range(3)]) for e in range(2)]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(10, 22))] * 2
    assert not torch.equal(*epochs)


def test_batches_are_a_function_of_the_step():
    batches, others = (Batches(torch.arange(50), 8, seed=1) for _ in range(2))
    forward = [batches(step).tolist() for step in range(12)]
    assert forward == [others(step).tolist() for step in reversed(range(12))][::-1]


def test_accuracy_is_counted_over_uneven_batches():
    x = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])]
    y = torch.tensor([0, 1, 2, 1, 1])
    everything = torch.arange(5)
    samples = Samples(x, y, everything, everything, IdentityTransform(), 3)
    found = evaluate_scores(lambda images: images * 10, samples, batch_size=2)
    assert found["accuracy"] == 0.8
    expected = functional.cross_entropy(x * 10, y).item()
    assert found["loss"] == pytest.approx(expected)


def image_samples():
    images = torch.randint(0, 256, (20, 1, 6, 6), dtype=torch.uint8)
    everything = torch.arange(20)
    return Samples(
        images, everything % 2, everything, everything, Augmentation(crop=4), 2
    )


def test_the_same_step_cuts_the_same_images():
    samples, batch = image_samples(), torch.tensor([3, 1, 4])
    x, y = augmented_batch(samples, batch, seed=0, step=7)
    assert torch.equal(x, augmented_batch(samples, batch, seed=0, step=7)[0])
    assert not torch.equal(x, augmented_batch(samples, batch, seed=0, step=8)[0])
    assert x.shape == (3, 1, 4, 4) and y.tolist() == [1, 1, 0]


def test_a_task_trains_in_training_mode_and_evaluates_in_evaluation_mode():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 2))
    task = SupervisedTask(model, image_samples(), batch_size=4, seed=0)
    (loss,) = task.losses(0)
    assert model.training and loss.requires_grad
    first, second = task.evaluate(), evaluate(model, image_samples())
    assert not model.training and 0 <= first["accuracy"] <= 1
    assert set(first) == set(second) == {"accuracy", "loss"}


def test_without_shuffling_every_epoch_has_the_order_of_the_indices():
    indices = torch.randperm(11) + 5
    batches = Batches(indices, 4, seed=0, shuffle=False)
    for epoch in range(2):
        found = torch.cat([batches(2 * epoch), batches(2 * epoch + 1)])
        assert torch.equal(found, indices[:8])
    task = SupervisedTask(nn.Identity(), image_samples(), 4, seed=0, shuffle=False)
    assert task.batches(5).tolist() == [0, 1, 2, 3]


def frozen_and_not():
    frozen = nn.Sequential(
        nn.Conv2d(1, 3, 1),
        nn.BatchNorm2d(3),
        nn.Dropout(),
        nn.BatchNorm2d(3, affine=False),
    )
    behind = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten())
    model = nn.Sequential(frozen, behind, nn.Linear(48, 2))
    frozen.requires_grad_(False)
    behind[0].bias.requires_grad_(False)  # partly frozen: it trains
    return model


def test_what_is_frozen_is_in_evaluation_mode_while_the_rest_trains():
    model = frozen_and_not()
    for _ in range(2):
        model.eval()
        set_training_mode(model)
        assert not any(layer.training for layer in model[0].modules())
        assert all(layer.training for layer in model[1].modules())
        assert model.training and model[2].training
    model.requires_grad_(True)
    set_training_mode(model)
    assert all(layer.training for layer in model.modules())


def test_running_statistics_of_what_is_frozen_stay():
    model = frozen_and_not()
    before = {name: value.clone() for name, value in model.named_buffers()}
    (loss,) = SupervisedTask(model, image_samples(), 8, seed=0).losses(0)
    loss.backward()
    for name, value in model.named_buffers():
        assert torch.equal(value, before[name]) == name.startswith("0."), name
