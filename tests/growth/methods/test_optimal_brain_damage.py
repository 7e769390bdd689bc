"""The least salient weights go and stay gone, through retraining and a kill."""

from dataclasses import replace

import pytest
import torch
from growth_cases import digits, tiny
from pruning_cases import begin, context, method, samples
from torch import nn

from gradnet.core.files import save_tensors
from gradnet.curvature.diagonal import curvature_diagonal
from gradnet.errors import InvalidInputError
from gradnet.growth.methods.optimal_brain_damage import OptimalBrainDamage
from gradnet.growth.run import grow
from gradnet.growth.saliency import weight_saliencies
from gradnet.models import build_model
from gradnet.surgery.masks import count_remaining, masks_of, without_masks
from gradnet.training.loop import Callbacks


@pytest.mark.parametrize(
    "kind", ["gauss_newton", "levenberg_marquardt", "recursion", "hessian"]
)
def test_the_least_salient_weights_go(kind):
    how = method(curvature=kind, curvature_samples=10**6)
    model = begin(how)
    edit = how.edit(model, context())
    of = samples()
    x = of.augmentation.evaluate(of.images[of.train])
    h = curvature_diagonal(model.eval(), x, of.labels[of.train], kind)
    kept = masks_of(edit.model)
    left = torch.cat([kept[n].flatten() for n in kept])
    scores = torch.cat([s.flatten() for s in weight_saliencies(model, h).values()])
    assert int((~left).sum()) == int(0.3 * len(left))
    assert scores[~left].max() <= scores[left].min() + 1e-7
    assert (
        edit.before is model
        and count_remaining(model) == edit.certificate.parameters[0]
    )
    assert edit.certificate.parameters[1] == count_remaining(edit.model)
    assert edit.certificate.largest_difference > 0 and not how.preserves_function


def test_the_criteria_differ_and_the_same_seed_deletes_the_same():
    masks = {}
    for criterion in ("obd", "magnitude", "random"):
        how = method(criterion=criterion, curvature_samples=20)
        first, again = (masks_of(how.edit(begin(how), context()).model) for _ in "ab")
        assert all(torch.equal(first[n], again[n]) for n in first)
        masks[criterion] = first["linear0.weight"]
    assert not torch.equal(masks["obd"], masks["magnitude"])
    assert not torch.equal(masks["magnitude"], masks["random"])


def test_layer_by_layer_the_same_fraction_goes_from_each():
    how = method(ranking="layer")
    kept = masks_of(how.edit(begin(how), context()).model)
    assert [int((~mask).sum()) for mask in kept.values()] == [86, 14, 5]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_deleted_weights_stay_zero_through_retraining_rounds(optimizer):
    how = method(training=replace(method().training, optimizer=optimizer))
    seen = []

    class Watched(OptimalBrainDamage):
        def edit(self, model, context):
            edit = super().edit(model, context)
            seen.append((model, edit.model))
            return edit

    growth = grow(Watched(**vars(how)), samples())
    assert len(seen) == 3
    deleted = torch.zeros(())
    for trained, pruned in [*seen[1:], (growth.model, growth.model)]:
        kept = masks_of(trained)
        plain = without_masks(trained)
        for name, mask in kept.items():
            assert (plain.get_parameter(name)[~mask] == 0).all()
            assert (masks_of(pruned)[name] <= mask).all()
        now = sum(int((~mask).sum()) for mask in kept.values())
        assert now > deleted
        deleted = now
    whole = 36 * 8 + 8 * 6 + 6 * 3
    left = [whole]
    for _ in range(3):
        left.append(left[-1] - int(0.3 * left[-1]))
    assert [e["parameters"][1] for e in growth.history.edits] == [
        n + 17 for n in left[1:]
    ]


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [10, 25])
@pytest.mark.parametrize("changes", [{}, {"units": ["linear0"]}], ids=str)
def test_a_killed_run_goes_on_with_its_masks(tmp_path, at, changes):
    how = method(**changes)
    expected = grow(how, samples()).model
    file = tmp_path / "run.pt"
    seen = 0

    def kill(record):
        nonlocal seen
        seen += record["step"] == at
        if seen == 2 or (seen and at == 25):
            raise Killed

    with pytest.raises(Killed):
        grow(how, samples(), callbacks=Callbacks(checkpoint=file, on_evaluation=kill))
    resumed = grow(how, samples(), callbacks=Callbacks(checkpoint=file)).model
    for name, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_an_edit_that_is_replayed_needs_no_samples():
    for changes in ({}, {"units": ["linear0", "linear1"]}):
        how = method(**changes)
        model = begin(how)
        learned = how.edit(model, context()).model
        replayed = how.edit(model, context(is_replayed=True, samples=None)).model
        replayed.load_state_dict(learned.state_dict())
        probe = context().probe
        assert torch.equal(replayed.eval()(probe), learned.eval()(probe))
        with pytest.raises(
            InvalidInputError, match="and there are none; set the samples"
        ):
            how.edit(model, replace(context(), samples=None))


def test_removed_units_really_shrink_the_network():
    how = method(units=["linear0", "linear1"], fraction=0.5)
    model = begin(how)
    with torch.no_grad():  # two units that nothing reads
        model.linear1.weight[:, [2, 5]] = 0
    edit = how.edit(model, context())
    assert edit.model.linear0.weight.shape == (4, 36)
    assert edit.model.linear1.weight.shape == (3, 4)
    assert edit.model.linear2.weight.shape == (3, 3)
    rows = {tuple(row.tolist()) for row in edit.model.linear0.weight}
    kept = [
        i for i, row in enumerate(model.linear0.weight) if tuple(row.tolist()) in rows
    ]
    assert len(kept) == 4 and not {2, 5} & set(kept)
    assert edit.certificate.parameters[1] < edit.certificate.parameters[0] / 1.9
    last = method(units=["linear0"], fraction=0.9, model_args={"hidden": [2]})
    assert last.edit(begin(last), context()).model.linear0.weight.shape == (1, 36)


def test_units_that_cost_nothing_go_first_and_the_function_stays():
    how = method(units=["linear0"], fraction=0.25)
    model = begin(how)
    with torch.no_grad():
        model.linear1.weight[:, [2, 5]] = 0
    edit = how.edit(model, context())
    assert edit.certificate.preserves(1e-5)


def test_a_users_network_and_a_trained_one(tmp_path):
    trained = build_model("mlp", in_channels=1, image_size=6, num_classes=3)
    path = save_tensors(tmp_path / "weights.pt", trained.state_dict())
    how = method(checkpoint=str(path), model_args={})
    assert torch.equal(begin(how).linear0.weight, trained.linear0.weight)
    rates = [how.training_at(stage).learning_rate for stage in (0, 1, 2)]
    assert rates == pytest.approx([0.05, 0.025, 0.025])
    assert how.edits == 3


def test_batch_norm_networks_prune_in_either_mode():
    how = method(model="convnet", model_args={"width": 2, "depths": [1, 1]})
    model = begin(how).train()
    edit = how.edit(model, context())
    assert edit.model.training and model.training
    assert isinstance(edit.model.norm0_0, nn.BatchNorm2d)
    assert "norm0_0.weight" not in masks_of(edit.model)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"fraction": 1.0}, "fraction is 1.0; it must be > 0 and < 1"),
        ({"rounds": 0}, "must be >= 1"),
        ({"curvature_samples": 0}, "must be >= 1"),
    ],
)
def test_wrong_numbers_are_refused(changes, match):
    with pytest.raises(InvalidInputError, match=match):
        method(**changes)


def test_what_deciding_costs_is_counted():
    edits = {}
    for criterion in ("obd", "magnitude"):
        method = tiny("optimal-brain-damage")
        method = replace(method, criterion=criterion, curvature="gauss_newton")
        edits[criterion] = grow(method, digits()).flops.total
    assert edits["obd"] > edits["magnitude"]
