"""The pydantic payload converter, built once a process.

The SDK makes a payload converter for every workflow run, and each would build the validators of our messages anew: a
tenth of a worker's CPU (docs/performance.md). The converters hold no state of a run, so all runs share one set.
"""

from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import CompositePayloadConverter, DataConverter

_SHARED = tuple(PydanticPayloadConverter().converters.values())


class SharedPydanticConverter(CompositePayloadConverter):
    """Same bytes as the SDK's pydantic converter; the validators live as long as the process."""

    def __init__(self) -> None:
        """Take the process's one set of converters."""
        super().__init__(*_SHARED)


PYDANTIC = DataConverter(payload_converter_class=SharedPydanticConverter)
"""The data converter of clients, workers and replayers, before encryption."""
