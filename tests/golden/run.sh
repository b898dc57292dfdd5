#!/bin/bash
#SBATCH --cpus-per-task=1
#SBATCH --job-name=lag-wk
#SBATCH --nodes=2
#SBATCH --ntasks=10
#SBATCH --ntasks-per-node=5
#SBATCH --open-mode=append
#SBATCH --output="/home/me/runs/it's mine.slurm/job-%j.out"
#SBATCH --partition=short
#SBATCH --signal=B:USR1@120
#SBATCH --time=0:30:00
#SBATCH --requeue

# Slurm warns this script before the time is over: the run is told, writes a checkpoint, and leaves.
warned= job=
trap 'warned=1; [ -z "$job" ] || kill -USR1 "$job" 2>/dev/null' USR1
trap '[ -z "$job" ] || kill -TERM "$job" 2>/dev/null' TERM

cd /home/me || exit 2
export OMP_NUM_THREADS=1
module load python/3.11
# Compiled kernels on a disk of each node's own, where all jobs of one user share them.
export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-${TMPDIR:-/tmp}/psopt-kernels-$(id -u)}"
export PSOPT_STARTED="$(date +%s.%N)"

'/home/me/my venv/bin/python' -m psopt run '/home/me/runs/it'"'"'s mine.slurm/lag_wk.yaml' --out '/home/me/runs/it'"'"'s mine' --resume --ranks "$SLURM_NTASKS" &
job=$!
[ -z "$warned" ] || { sleep 5; kill -USR1 "$job"; } # once it can hear
# A signal ends `wait`, not the job; the last one gives the job's own exit code.
wait "$job"
while kill -0 "$job" 2>/dev/null; do wait "$job"; done
wait "$job"
code=$?
# Warned, or pre-empted: the job is to go on later. One that was cancelled runs no longer.
told="$(scontrol show job "$SLURM_JOB_ID")"
if { [ "$code" -eq 75 ] || { [ "$code" -ne 0 ] && [[ "$told" == *PreemptTime=[0-9]* ]]; }; } && [[ "$told" == *JobState=RUNNING* ]]; then
    echo "psopt: job $SLURM_JOB_ID goes back into the queue, to go on later"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
