#!/bin/sh
# Net2Net on CIFAR-10: a teacher of 4 layers is made deeper after half of the steps, in
# four edits, to 8 layers; beside random layers, the 8 layers trained directly, and that
# at the FLOPs of the grown one. Options for all arms may follow.
# usage: net2deeper.sh DATA.npz OUT "SEED..." [OPTION...]
set -e
data=$1 out=$2 seeds=$3
shift 3
for seed in $seeds; do
  grow() {
    name=$1
    shift
    gradnet grow net2deeper --name "$name" --seeds "$seed" --data "$data" --out "$out" \
      --width 8 --split.validation-fraction 0.04 --training.evaluate-every 250 \
      --training.steps 3000 --training.schedule cosine --growth.first 1500 \
      --growth.every 300 "$@"
  }
  grow net2deeper "$@"
  grow net2deeper-full-rate --student-rate 1 "$@"
  grow random-deeper --initialization random "$@"
  grow teacher-on "$@" --depths 1 1 1
  grow direct "$@" --initial-depths 2 2 3
  flops=$(python -c "import json, sys; print(json.load(open(sys.argv[1]))['training_flops'])" \
    "$out/results/seed-$seed/net2deeper.json")
  grow direct-equal-flops "$@" --initial-depths 2 2 3 --most-flops "$flops"
done
