"""What `freehold work` and `freehold gateway` do as a supervisor's children, whose order comes over a socket."""

from __future__ import annotations

import sys
from typing import NoReturn


def work(internal: int) -> NoReturn:
    """A worker under a supervisor, whose socket has the file descriptor `internal`."""
    from freehold.worker.process import main

    sys.exit(main(internal))


def gateway(internal: int) -> NoReturn:
    """A gateway under a supervisor."""
    from freehold import log
    from freehold.gateway import process
    from freehold.worker import tether
    from freehold.worker.pulse import GATEWAY_S, Pulse

    order = tether.receive(internal, tether.GatewayOrder)
    tether.leave_with_supervisor(internal)
    config = tether.config_of(order)
    log.setup(config.log.level, config.log.format, process="gateway")
    pulse = Pulse(order.pulse_fd) if order.pulse_fd is not None else None

    def beat() -> None:
        if pulse is not None:
            pulse.beat(GATEWAY_S)

    sys.exit(process.run(config, order.store_path, order.pipe_path, order.listen_fd, internal, beat, order.place))
