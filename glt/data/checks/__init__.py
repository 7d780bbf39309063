"""Checks of a single recording (docs/checks.md): `faults` finds, `repairs` corrects, `checker` applies the policies.

Each check has a policy in the recipe: reject the recording, warn, or repair it.
"""

from glt.data.checks.checker import VERSION as VERSION
from glt.data.checks.checker import accept as accept
