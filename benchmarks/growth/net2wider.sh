#!/bin/sh
# Net2Net on MNIST: a teacher of 100 and 100 hidden units, widened after half of the
# steps, beside random pads, networks trained directly, and the teacher trained on. All
# have the teacher's learning rate in the first half, a tenth of it in the second;
# "new" networks are trained for as many steps as a student.
# usage: net2wider.sh DATA.npz OUT SEED...
set -e
data=$1 out=$2
shift 2
grow() {
  name=$1
  shift
  gradnet grow net2wider --name "$name" --seeds $seeds --data "$data" --out "$out" \
    --split.validation-fraction 0.1 --augmentation.crop 0 --training.evaluate-every 750 \
    --training.steps 6000 --growth.first 3000 --model-args '{"hidden": [100, 100]}' "$@"
}
seeds="$*"
grow teacher-on --wider '{}'
for widths in "150 100" "150 150" "200 150" "200 200" "300 300" "400 400"; do
  set -- $widths
  wider="{\"linear0\": $1}"
  if [ "$2" != 100 ]; then wider="{\"linear0\": $1, \"linear1\": $2}"; fi
  grow "net2wider-$1-$2" --wider "$wider"
  grow "random-pad-$1-$2" --wider "$wider" --initialization random-pad
  grow "direct-$1-$2" --wider '{}' --model-args "{\"hidden\": [$1, $2]}"
  grow "new-$1-$2" --wider '{}' --model-args "{\"hidden\": [$1, $2]}" \
    --student-rate 1 --training.steps 3000
done
