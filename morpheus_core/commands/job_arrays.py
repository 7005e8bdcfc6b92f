"""``morpheus-core run-strip`` and ``morpheus-core stitch``, for arrays of jobs."""

from __future__ import annotations

import argparse

from morpheus_core.commands.arguments import add_no_progress, add_verbose
from morpheus_core.commands.models import look_here
from morpheus_core.commands.predict import print_results
from morpheus_core.job_arrays import run_strip, stitch

EXAMPLE = """example:
  strips=$(morpheus-core predict h.fits j.fits --model net.onnx --n-classes 2 --window 40 \\
      --out-dir results --strips 64 --begin-only)
  array=$(sbatch --parsable --array=0-$((strips - 1)) \\
      --wrap 'morpheus-core run-strip results --strip $SLURM_ARRAY_TASK_ID')
  sbatch --dependency=afterok:$array --wrap 'morpheus-core stitch results'
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands."""
    strip = commands.add_parser(
        "run-strip",
        help="run one strip of a run that predict --begin-only has begun",
        description="Run one strip, or what is left of it. A job that was ended is run again.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    strip.add_argument("out_dir", metavar="DIR", help="where the run was begun")
    strip.add_argument("--strip", type=int, required=True, metavar="N", help="which one, from 0")
    strip.add_argument(
        "--prefetch", type=int, metavar="N", help="batches that are read ahead of the model"
    )
    add_no_progress(strip)
    add_verbose(strip)
    strip.set_defaults(run=run_one)

    whole = commands.add_parser(
        "stitch",
        help="make the outputs of a run whose strips are all finished",
        description="Make the outputs of a run whose strips are finished, and remove its folders.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("out_dir", metavar="DIR", help="where the run was begun")
    add_verbose(whole)
    whole.set_defaults(run=stitch_all)


def run_one(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.run_strip`."""
    look_here()
    run_strip(
        arguments.out_dir,
        arguments.strip,
        prefetch=arguments.prefetch,
        progress=not arguments.no_progress,
    )


def stitch_all(arguments: argparse.Namespace) -> None:
    """Delegate to :func:`morpheus_core.stitch`."""
    hduls, arrays = stitch(arguments.out_dir)
    print_results(hduls, arrays)
