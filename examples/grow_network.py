"""Net2WiderNet beside the same wide network trained without growing.

The same on the command line, with tables and figures:

    gradnet grow net2wider --data digits
"""

from dataclasses import replace

from gradnet import TrainingSettings
from gradnet.data import ProblemSettings, make_problem
from gradnet.growth import Net2Wider
from gradnet.growth.run import grow

problem = make_problem(ProblemSettings(data="digits"))
samples = problem.all_training

training = TrainingSettings(
    steps=300, learning_rate=0.05, weight_decay=0.0, evaluate_every=100
)
growing = Net2Wider(
    model="mlp",
    model_args={"hidden": [16]},
    wider={"linear0": 64},
    training=training,
)
direct = replace(growing, model_args={"hidden": [64]}, wider={}, student_rate=1.0)

for name, method in (("net2wider", growing), ("trained directly", direct)):
    result = grow(method, samples, seed=0)
    last = result.history.records[-1]
    print(
        f"{name:16} validation accuracy {last['accuracy']:.3f}, "
        f"{last['parameters']} parameters, {last['flops']:.2e} training FLOPs"
    )
