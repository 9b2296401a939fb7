"""The worker process (claim, step, publish) and the supervisor that starts, watches and replaces workers."""
