"""How much longer than usual tests wait before they give up: more than 1 on machines that are slow by nature, such as a guest
of `make test-v2`, whose processors are emulated.
"""

from __future__ import annotations

import os
from typing import Final

#: Multiplies what tests wait at most. It is never a reason to wait longer for what comes.
PATIENCE: Final = float(os.environ.get("ONDOL_TEST_PATIENCE", "1"))
