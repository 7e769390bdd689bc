#!/bin/sh
# MNIST, one hidden layer of about 40 units, by five ways: cascade-correlation (ten
# rounds of four units, each seeing all before it), dynamic node creation (four units at
# a time, from eight), Net2Net (20 units widened to 40), and the 40 units trained
# directly; and no hidden units at all. Then Optimal Brain Damage on the networks of
# cascade-correlation and of direct training: ten rounds of a fifth of the weights, the
# others trained on; beside each, as many steps without deletion.
# usage: hidden-units.sh DATA.npz OUT SEED...
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
grow cascade-correlation cascade-correlation --training.evaluate-every 500
grow cascade-correlation linear --rounds 0 --training.evaluate-every 500
grow node-creation node-creation --model-args '{"hidden": [8]}' \
  --layers linear0 --max-edits 8
grow net2wider net2wider --model-args '{"hidden": [20]}' --wider '{"linear0": 40}'
grow net2wider mlp --model-args '{"hidden": [40]}' --wider '{}'
for found in cascade-correlation mlp; do
  start="$out/networks/seed-{seed}/$found.safetensors"
  grow optimal-brain-damage "$found-pruned" --start "$start" --growth.first 0 \
    --growth.every 300 --rounds 10 --fraction 0.2 --training.steps 4000 \
    --training.schedule cosine
  grow net2wider "$found-trained-on" --start "$start" --wider '{}' --student-rate 1 \
    --training.steps 4000 --training.schedule cosine --training.learning-rate 0.01
done
