"""HTTP in, token stream out.

The files in the order a request meets them: `process` (owns everything) → `protocol` (the socket) → `door` (ids,
hosts, keys, limits) → `app` and its routes → `wire*` (what strangers may send) → `desk` (accepts, follows) →
`pipe_server` (tokens come back) → `inbox` → `stream` or `collect` → `events`, `answers` (what strangers get).
"""
