"""Keeps OpenVINO from phoning home: importing it would send a usage event to Google Analytics and write `~/intel`.

Its packages look for `openvino_telemetry` and bring a stub for where it isn't installed; a None in `sys.modules`
makes it so. It must stand there before the first import of `openvino` or `openvino_genai`, so importing
`freehold.engine.openvino` does it.
"""

from __future__ import annotations

import sys


def hush() -> None:
    """From here on, nothing in this process can import OpenVINO's telemetry. Harmless to repeat."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # the import system's own way to say "absent"
