"""
How long payer data is kept.

Next: `types`.
"""

from typing import Annotated

from pydantic import Field

from orchestrator.settings.types import Frozen


class PrivacySettings(Frozen):
    """
    How long payer data is kept.

    Attributes:
        retain_days: So many days after a payment's last entry, once it has ended and is neither held nor
            watched, a worker erases its payer data; without it, it is kept until somebody erases it.
    """

    retain_days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] | None = None
