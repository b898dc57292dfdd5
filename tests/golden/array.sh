#!/bin/bash
#SBATCH --array=0-5%2
#SBATCH --cpus-per-task=1
#SBATCH --job-name=lag-wk
#SBATCH --mem=4G
#SBATCH --nodes=1
#SBATCH --ntasks=4
#SBATCH --open-mode=append
#SBATCH --output=/data/out.slurm/job-%A_%a.out
#SBATCH --no-requeue
#SBATCH --exclusive
#SBATCH --nice=100

# Slurm warns this script before the time is over: the run is told, writes a checkpoint, and leaves.
warned= job=
trap 'warned=1; [ -z "$job" ] || kill -USR1 "$job" 2>/dev/null' USR1
trap '[ -z "$job" ] || kill -TERM "$job" 2>/dev/null' TERM

cd /home/me || exit 2
export OMP_NUM_THREADS=1
# MPICH's UCX has addresses so long that one start in six failed when they went through Slurm's PMI-2.
export MPIR_CVAR_CH4_NETMOD="${MPIR_CVAR_CH4_NETMOD:-ofi}"
# Compiled kernels on a disk of each node's own, where all jobs of one user share them.
export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-${TMPDIR:-/tmp}/psopt-kernels-$(id -u)}"
export PSOPT_STARTED="$(date +%s.%N)"

srun --mpi=pmi2 --kill-on-bad-exit=1 '/home/me/my venv/bin/python' -m psopt sweep /data/c.yaml --grid 'algorithm.plan=every,{kind: fixed, rounds: M}' --out /data/out --point "$SLURM_ARRAY_TASK_ID" &
job=$!
[ -z "$warned" ] || { sleep 5; kill -USR1 "$job"; } # once it can hear
# A signal ends `wait`, not the job; the last one gives the job's own exit code.
wait "$job"
while kill -0 "$job" 2>/dev/null; do wait "$job"; done
wait "$job"
code=$?
exit $code
