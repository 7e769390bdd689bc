#!/bin/sh
# MNIST, three hidden layers of four units each: where does dynamic node creation put
# the next four? In the layer whose new units would have the largest gradient, in each
# in turn, or at random; in turn with all older weights frozen, which the paper rejects;
# and 20 units in each layer, trained directly.
# usage: node-places.sh DATA.npz OUT SEED...
set -e
data=$1 out=$2
shift 2
seeds="$*"
grow() {
  method=$1 name=$2
  shift 2
  gradnet grow "$method" --name "$name" --seeds $seeds --data "$data" --out "$out" \
    --augmentation.crop 0 --training.steps 6000 "$@"
}
create() {
  grow node-creation "$@" --model-args '{"hidden": [4, 4, 4]}' \
    --layers linear0 linear1 linear2 --max-edits 12
}
create largest-gradient --place largest-gradient
create round-robin --place round-robin
create random --place random
create round-robin-frozen --place round-robin --frozen true
grow net2wider direct --model-args '{"hidden": [20, 20, 20]}' --wider '{}' \
  --student-rate 1
