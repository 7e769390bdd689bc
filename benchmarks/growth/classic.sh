#!/bin/sh
# Classic problems: two spirals and N-parity by cascade-correlation, its siblings and
# descendants, and dynamic node creation on five small problems.
# usage: classic.sh OUT
set -e
out=$1
mkdir -p "$out"
grow() {
  method=$1 folder=$2
  shift 2
  echo "$folder"
  gradnet grow "$method" --out "$out/$folder" "$@" >"$out/log"
  sed -n 3p "$out/log"
}
grow cascade-correlation two-spirals --data two-spirals --trials 100
for bits in 2 3 4 5 6 7 8; do
  grow cascade-correlation "parity-$bits" --data "parity-$bits" --trials 20 \
    --activations gaussian
done
for multiplier in 1 0.9 0.8 0.7 0.5; do
  grow cascade-correlation "siblings-$multiplier" --data two-spirals --trials 50 \
    --connections siblings --descendant-multiplier "$multiplier" --pool 16 \
    --max-units 40
done
for problem in xor parity-3 parity-4 encoder-8 symmetry-4 addition-2; do
  grow node-creation "node-creation-$problem" --data "$problem" --trials 10
done
