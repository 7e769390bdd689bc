#!/bin/sh
# cornet, pronet and the full ResNet-14 as remko66/cornet2 published them, but narrow:
# 8 to 64 channels for 64 to 512. Raw images in the order of the data, Adam, batches of
# 64, growth after 500 steps and then every 501, to 13 blocks. Beside them the full
# network at cornet's FLOPs.
# usage: cornet-published.sh DATA.npz OUT SEED...
set -e
data=$1 out=$2
shift 2
for seed in "$@"; do
  grow() {
    method=$1 name=$2
    shift 2
    gradnet grow "$method" --name "$name" --seeds "$seed" --data "$data" --out "$out" \
      --width 8 --split.validation-fraction 0.04 --training.evaluate-every 750 \
      --augmentation.whiten false --augmentation.crop 0 --augmentation.flip false \
      --augmentation.contrast [] "$@"
  }
  full="--initial-blocks 14 --final-blocks 14"
  grow cornet-published cornet
  grow pronet-published pronet
  grow cornet-published resnet14 $full
  flops=$(python -c "import json, sys; print(json.load(open(sys.argv[1]))['training_flops'])" \
    "$out/results/seed-$seed/cornet.json")
  grow cornet-published resnet14-equal-flops $full --max-flops "$flops"
done
