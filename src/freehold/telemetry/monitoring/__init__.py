"""The rules and the SLO for those who run Prometheus: `promql` says them, the others write them down."""
