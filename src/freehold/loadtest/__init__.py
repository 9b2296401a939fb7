"""The load client: a trace becomes a schedule, a schedule becomes requests, replies become samples. HTTP only."""
