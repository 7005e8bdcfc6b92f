"""Model packages: a trained network and what must be known to run it, in one folder or zip file.

A package holds the weights, a test with its answer, and ``model.toml``, which says what sky the
network was made for, how windows are cut for it and what its classes are.
"""

from morpheus_core.packages.creation import new_package
from morpheus_core.packages.package import PackagedModel, load_package
from morpheus_core.packages.trial import check_package

__all__ = ["PackagedModel", "check_package", "load_package", "new_package"]
