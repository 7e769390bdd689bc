import contextlib, json
import numpy as np, torch
from sklearn.datasets import load_digits
import gradnet.training as training
from gradnet.cli import main
from gradnet.growth import GROWTH

d = load_digits()
order = np.random.default_rng(0).permutation(len(d.target))
x = (d.images[order] * 16).clip(0, 255).astype(np.uint8)[..., None]
y = d.target[order].astype(np.int64)
np.savez_compressed("digits.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:120], y_test=y[80:120])

@contextlib.contextmanager
def interrupted(steps, at):
    whole = training._Run.train_step
    def train_step(self):
        if self.settings.steps == steps and self.step == at:
            raise KeyboardInterrupt
        whole(self)
    training._Run.train_step = train_step
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        training._Run.train_step = whole

def run(*arguments):
    code = 0
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as e:
        code = e.code
    assert code in (0, None, 130), (code, arguments)

recipe = """hidden: 2
activation: relu
training: {steps: %d, batch_size: 16, optimizer: adamw, learning_rate: 0.003, weight_decay: 0.0, evaluate_every: 4, patience: null}
"""
open("short.yaml", "w").write(recipe % 8)
open("long.yaml", "w").write(recipe % 12)
data = ["--data", "digits.npz", "--device", "cpu"]
base = ["--model", "mlp", "--hidden", "4", "--levels", "0.2", "--training.steps", "200", "--training.batch_size", "16"]
with interrupted(12, 9):
    run("reproduce", *data, *base, "--recipes", "short.yaml", "long.yaml", "--out", "study", "--most_epochs", "10")
tiny = ["--training.steps", "8", "--training.batch_size", "16", "--training.evaluate_every", "4"]
out = ["--out", "growth"]
net2wider = ["--model_args", '{"hidden": [4]}', "--wider", '{"linear0": 6}', "--growth.first", "4"]
cascade = ["--rounds", "2", "--units", "1", "--pool", "2", "--candidate_steps", "3", "--candidate_batch", "16", "--growth.first", "3"]
run("grow", "net2wider", *data, *tiny, *net2wider, *out)
run("grow", "layerwise-resnet", *data, *tiny, "--width", "2", "--initial_stages", "1", "1", "--stages", "2", "1", *out)
run("grow", "cornet", *data, *tiny, "--width", "2", "--stages", "1", "1", "--growth.first", "4", *out)
run("grow", "cascade-correlation", *data, *tiny, *cascade, *out)
run("grow", "node-creation", *data, *tiny, "--most_edits", "2", "--nodes", "1", "--model_args", '{"hidden": [3, 3]}', "--growth.every", "3", "--growth.first", "3", *out)
run("grow", "optimal-brain-damage", *data, *tiny, "--model_args", '{"hidden": [4]}', "--rounds", "2", "--fraction", "0.2", "--growth.first", "3", "--growth.every", "3", *out)
run("grow", "optimal-brain-damage", *data, *tiny, "--rounds", "1", "--fraction", "0.2", "--growth.first", "0", "--name", "pruned-cascade", "--start", "growth/networks/seed-0/cascade-correlation.safetensors", *out)
with interrupted(11, 9):
    run("grow", "net2wider", *data, *tiny[2:], "--training.steps", "11", *net2wider, "--name", "unfinished", *out)
with interrupted(13, 11):
    run("grow", "node-creation", *data, *tiny[2:], "--training.steps", "13", "--most_edits", "2", "--nodes", "1", "--model_args", '{"hidden": [3, 3]}', "--growth.every", "3", "--growth.first", "3", "--name", "unfinished-nodes", *out)
import torch
from gradnet.predictor import GradNetPredictor
from gradnet.snapshots import load_snapshot
from gradnet.growth.saved import load_grown
from gradnet.store import GradientStore
np.savez_compressed("few.npz", x_train=x[:6], y_train=y[:6], x_test=x[80:84], y_test=y[80:84])
snapshot = "study/snapshots/seed-0/level-0.2.safetensors"
run("extract", "--data", "few.npz", "--checkpoint", snapshot, "--out", "store")
base = load_snapshot(snapshot).model
image = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
predictor = GradNetPredictor.load("study/gradnets/seed-0/level-0.2/short.safetensors", base)
from pathlib import Path
expected = {"snapshot": base(image)[0].tolist(), "gradnet": predictor.scores(image)[0].tolist()}
expected["grown"] = {p.stem: load_grown(p)(image)[0].tolist() for p in sorted(Path("growth/networks/seed-0").glob("*.safetensors"))}
rows = GradientStore("store").read(0, 6)
expected["store"] = {k: float(v.double().sum()) for k, v in rows.items()}
json.dump(expected, open("expected.json", "w"), indent=1)
