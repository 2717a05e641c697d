#!/bin/bash
# Features of many images on a SLURM cluster: sixteen tasks compute one share each, then one gathers.
#
#   array=$(sbatch --parsable --array=0-15 examples/slurm_features.sh)
#   sbatch --dependency="afterok:$array" examples/slurm_features.sh
#
# Resubmit a task that failed or was pre-empted by its number, `--array=7`; rows already stored are kept.
#SBATCH --job-name=tlkit-features
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail

export TLKIT_CACHE=${TLKIT_CACHE:-$PWD/tlkit-cache} # on a file system that every node sees
images=${IMAGES:-images}
options=(--backbone "${BACKBONE:-resnet50}" --out "${OUT:-features.parquet}")
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  # The same number of shares in every task, even if only one of them is resubmitted.
  shards=${SHARDS:-16}
  exec tlkit features "$images" "${options[@]}" --shard "$((SLURM_ARRAY_TASK_ID + 1))/$shards"
fi
exec tlkit features "$images" "${options[@]}"
