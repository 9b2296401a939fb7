"""What is known about how it goes: `metrics` counts for Prometheus."""
