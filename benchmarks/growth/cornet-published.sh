#!/bin/sh
# cornet, pronet and the full ResNet-14 as remko66/cornet2 published them, but narrow:
# 8 to 64 channels for 64 to 512. Raw images in the order of the data, Adam, batches of
# 64, growth after 500 steps and then every 501, to 13 blocks.
# usage: cornet-published.sh DATA.npz OUT SEED...
set -e
data=$1 out=$2
shift 2
for seed in "$@"; do
  for arm in "cornet cornet-published" "pronet pronet-published" \
    "resnet14 cornet-published --initial-blocks 14 --final-blocks 14"; do
    set -- $arm
    name=$1 method=$2
    shift 2
    gradnet grow "$method" --name "$name" --seeds "$seed" --data "$data" --out "$out" \
      --width 8 --split.validation-fraction 0.04 --training.evaluate-every 750 \
      --augmentation.whiten false --augmentation.crop 0 --augmentation.flip false \
      --augmentation.contrast [] "$@"
  done
done
