"""openvino-genai's continuous batching, driven a step at a time. The CPU default.

Importing this package silences OpenVINO's telemetry; import it before `openvino` wherever that is used alone.
"""

from freehold.engine.openvino.quiet import hush

__all__ = ["hush"]

hush()
