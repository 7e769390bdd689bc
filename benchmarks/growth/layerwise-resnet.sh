#!/bin/sh
# Layer-wise growth on CIFAR-10: a residual network of 1, 1 and 1 blocks becomes one of
# 2, 2 and 2; new blocks zero or random, all or only the new block trained; beside the
# deep network trained directly, for as many steps and for as many FLOPs.
# usage: layerwise-resnet.sh DATA.npz OUT SEED...
set -e
data=$1 out=$2
shift 2
for seed in "$@"; do
  grow() {
    name=$1
    shift
    gradnet grow layerwise-resnet --name "$name" --seeds "$seed" --data "$data" \
      --out "$out" --width 8 --split.validation-fraction 0.04 --growth.patience null \
      --training.evaluate-every 250 --training.steps 2000 --stages 2 2 2 "$@"
  }
  grow zero
  grow random --initialization random
  grow zero-new-only --trains new
  grow direct --initial-stages 2 2 2
  flops=$(python -c "import json, sys; print(json.load(open(sys.argv[1]))['training_flops'])" \
    "$out/results/seed-$seed/zero.json")
  grow direct-equal-flops --initial-stages 2 2 2 --max-flops "$flops"
done
