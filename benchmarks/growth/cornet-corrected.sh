#!/bin/sh
# cornet and pronet with the quirks of the published code mended: images normalized and
# shuffled, 14 blocks, growth spread evenly over the run, a kept head, a learning rate
# that falls to zero; beside the full network, at equal steps and at cornet's FLOPs.
# usage: cornet-corrected.sh DATA.npz OUT SEED...
set -e
data=$1 out=$2
shift 2
for seed in "$@"; do
  grow() {
    method=$1 name=$2
    shift 2
    gradnet grow "$method" --name "$name" --seeds "$seed" --data "$data" --out "$out" \
      --width 8 --split.validation-fraction 0.04 --training.evaluate-every 750 \
      --training.steps 3000 --augmentation.crop 0 --augmentation.flip false \
      --augmentation.contrast [] "$@"
  }
  grow cornet cornet
  grow cornet cornet-preserving --style preactivation
  grow pronet pronet
  grow cornet resnet14 --initial-blocks 14
  flops=$(python -c "import json, sys; print(json.load(open(sys.argv[1]))['training_flops'])" \
    "$out/results/seed-$seed/cornet.json")
  grow cornet resnet14-equal-flops --initial-blocks 14 --max-flops "$flops"
done
