"""Build script; what README.rst alone cannot say in pyproject.toml.

PyPI shows the README, but not the files beside it: there its links and pictures lead to the
repository.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
SOURCE = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["urls"]["Source"]

readme = (HERE / "README.rst").read_text(encoding="utf-8")
readme = re.sub(r"<(?!\w+:)(\S+)>`_", rf"<{SOURCE}/blob/HEAD/\1>`_", readme)
readme = re.sub(r"(image:: )(?!\w+:)", rf"\1{SOURCE}/raw/HEAD/", readme)
readme = re.sub(r"(:target: )(?!\w+:)", rf"\1{SOURCE}/blob/HEAD/", readme)

setup(long_description=readme, long_description_content_type="text/x-rst")
