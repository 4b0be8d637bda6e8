#!/bin/bash
# Meta-training on two machines by SLURM, without a shared disk: sbatch slurm.sh
# A requeued job has the number of the first one, and continues where that was.
#SBATCH --job-name=fewshot
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 2 --max-restarts 3 \
  --rdzv-backend c10d --rdzv-endpoint "$first:29400" --rdzv-id "$SLURM_JOB_ID" \
  --no-python fewshot meta-train --preset omniglot --output "${SLURM_SUBMIT_DIR:-.}/init"
