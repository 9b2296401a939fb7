"""The durable queue: `protocol` says what a ledger does, `sqlite` does it on one machine."""
