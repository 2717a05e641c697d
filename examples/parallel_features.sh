#!/bin/bash
# Features of many images on machines that share a disk, by GNU parallel: eight shares, then one process gathers.
#
#   examples/parallel_features.sh                                    # on this machine
#   MACHINES=2/node1,2/node2 examples/parallel_features.sh           # two at a time on each, by ssh
#
# parallel tries a share up to three times; one that was killed continues where it stopped.
set -euo pipefail

export TLKIT_CACHE=${TLKIT_CACHE:-$PWD/tlkit-cache} # on a disk that every machine can reach, like the images
images=${IMAGES:-$PWD/images} shards=${SHARDS:-8}
options=(--backbone "${BACKBONE:-resnet50}" --out "${OUT:-$PWD/features.parquet}")
where=(--jobs "${JOBS:-1}")
if [ -n "${MACHINES:-}" ]; then where=(--sshlogin "$MACHINES" --env TLKIT_CACHE --workdir "$PWD"); fi
seq "$shards" | parallel "${where[@]}" --retries 3 --halt soon,fail=1 \
  tlkit features "$images" "${options[@]}" --shard "{}/$shards"
tlkit features "$images" "${options[@]}"
