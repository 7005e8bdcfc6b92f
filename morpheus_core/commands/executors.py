"""The executor that the command line names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from morpheus_core.errors import InputError
from morpheus_core.extras import require_package


def add_executor_argument(parser: argparse.ArgumentParser) -> None:
    """Add the options of a Dask cluster: its name, and how long to wait for its workers."""
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="run on the workers of this cluster, as tcp://host:8786"
    )
    parser.add_argument(
        "--patience",
        type=float,
        metavar="SECONDS",
        help="give up when the cluster has had no workers for so long",
    )


@contextmanager
def open_executor(arguments: argparse.Namespace) -> Iterator[Any]:
    """Connect to the cluster; nothing is yielded where none is asked for.

    Raises
    ------
    MissingPackageError
        If Dask's client is not installed.
    InputError
        If no scheduler answers.
    """
    if arguments.dask is None:
        yield None
        return
    require_package("distributed", "dask", "--dask")
    distributed: Any = import_module("distributed")  # typed only in part

    try:
        distributed.comm.resolve_address(arguments.dask)  # what cannot be one ends here, at once
        client = distributed.Client(arguments.dask, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:  # TypeError: TLS without keys
        raise InputError(
            f"--dask must be the address of a scheduler, as tcp://host:8786, got {arguments.dask}: "
            f"{error}"
        ) from error
    with client:
        yield client
