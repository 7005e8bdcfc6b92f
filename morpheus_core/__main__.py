"""``python -m morpheus_core`` is ``morpheus-core``."""

import sys

from morpheus_core.cli import main

sys.exit(main())
