"""From samples to a decision: percentiles, the knee, the number of instances, the money. Pure: no clock, no network."""
