#!/bin/bash
# Classify every pixel of a field, each strip of it in a job of its own:
#   bash job_array.sh [--local] H.fits J.fits V.fits Z.fits
# in a folder that all machines share. --local runs the strips here, one after the other.
set -euo pipefail
local=
if [ "$1" = --local ]; then
    local=yes
    shift
fi

strips=$(morpheus-core predict "$@" --model "${MODEL:-morpheus_core.demo.network:DemoNetwork}" --n-classes 5 \
    --window 40 --stride 20 --batch-size 16 --aggregate mean_var --out-dir results \
    --strips "${STRIPS:-64}" --begin-only)

if [ "$local" ]; then
    for ((strip = 0; strip < strips; strip++)); do
        morpheus-core run-strip results --strip "$strip" --no-progress
    done
    morpheus-core stitch results
    exit
fi

# A job that has used up its time asks for another turn, a minute before Slurm would end it.
cat > strip.job <<'end'
#!/bin/bash
#SBATCH --requeue --open-mode=append --output=strip-%a.log
timeout "${SECONDS_PER_TURN:-3540}" \
    morpheus-core run-strip results --strip "$SLURM_ARRAY_TASK_ID" --no-progress
code=$?
if [ $code = 124 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
end

array=$(sbatch --parsable --array="0-$((strips - 1))" --time=60 --cpus-per-task=2 --mem=4G strip.job)
sbatch --dependency="afterok:$array" --time=60 --mem=4G --output=stitch.log \
    --wrap "morpheus-core stitch results"
