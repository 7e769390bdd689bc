#!/bin/sh
# Net2Net on CIFAR-10: a teacher of 4 layers is made deeper after half of the steps, a
# layer at a time over 1,200 steps; beside random layers, the deep network trained
# directly, and that at the FLOPs of the grown one. DEPTHS are the convolutions of the
# three stages: "2 2 3" makes 8 layers, the head counted in, and "6 6 7" 20. Options for
# all arms may follow.
# usage: net2deeper.sh DATA.npz OUT "SEED..." "DEPTHS" [OPTION...]
set -e
data=$1 out=$2 seeds=$3 depths=${4:?"give DEPTHS, such as \"2 2 3\""}
shift 4
edits=-3
for depth in $depths; do edits=$((edits + depth)); done
for seed in $seeds; do
  grow() {
    name=$1
    shift
    gradnet grow net2deeper --name "$name" --seeds "$seed" --data "$data" --out "$out" \
      --width 8 --split.validation-fraction 0.04 --training.evaluate-every 250 \
      --training.steps 3000 --training.schedule cosine --growth.first 1500 \
      --growth.every $((1200 / edits)) --depths $depths "$@"
  }
  grow net2deeper "$@"
  grow net2deeper-full-rate --student-rate 1 "$@"
  grow random-deeper --initialization random "$@"
  grow teacher-on "$@" --depths 1 1 1
  grow direct "$@" --initial-depths $depths
  flops=$(python -c "import json, sys; print(json.load(open(sys.argv[1]))['training_flops'])" \
    "$out/results/seed-$seed/net2deeper.json")
  grow direct-equal-flops "$@" --initial-depths $depths --max-flops "$flops"
done
