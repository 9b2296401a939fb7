"""Starts one process of a server for the tests: `python launch.py gateway|worker ORDER`, ORDER in JSON.

The same entry points that the supervisor uses, without a supervisor, so that a test can kill or stop one of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def gateway(order: dict[str, Any]) -> int:
    from freehold import config, log
    from freehold.gateway import process

    log.setup("info", "json", process="gateway")
    settings, _ = config.load(order["flags"], environ={"FREEHOLD_HOME": order["home"]})
    return process.run(settings, order["store"], order["pipe"], order["listen_fd"], order["status_fd"])


def worker(order: dict[str, Any]) -> int:
    from freehold import log
    from freehold.engine.base import EngineSpec
    from freehold.model import source
    from freehold.worker import process

    log.setup("info", "json", process=order["name"])
    engine, home = order["engine"], Path(order["home"])
    found = source.locate(order["model"], home=home, engine=engine)
    spec = EngineSpec(
        engine=engine, source=found, name=order["served"], cache_dir=str(home / "cache"), threads=1, **order["spec"]
    )
    return process.run(spec, order["name"], order["store"], order["pipe"], order["status_fd"])


if __name__ == "__main__":
    order = json.loads(sys.argv[2])
    sys.exit({"gateway": gateway, "worker": worker}[sys.argv[1]](order))
