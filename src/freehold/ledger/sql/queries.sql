-- Every statement the SQLite ledger runs, by name, with the reason it is written the way it is.
-- States: 0 queued, 1 running, 2 done.

-- name: accept
-- The UNIQUE index on id is the check for a double.
INSERT INTO requests (id, priority, due_unix_s, answers, keep, accepted_unix_s, head)
VALUES (:id, :priority, :due_unix_s, :answers, :keep, :now, :head)
RETURNING seq;

-- name: accept_body
INSERT INTO bodies (seq, request) VALUES (:seq, :request);

-- name: any_queued
-- Asked by polling workers before they take the write lock: an idle ledger is never locked.
SELECT 1 FROM requests WHERE state = 0 LIMIT 1;

-- name: next_queued
-- Walks the queue index in the order of order.py and stops after :limit rows.
SELECT requests.seq, requests.answers, requests.attempt, requests.accepted_unix_s, bodies.request
FROM requests INDEXED BY queue JOIN bodies ON bodies.seq = requests.seq
WHERE requests.state = 0 AND requests.due_unix_s > :now
ORDER BY requests.priority, requests.due_unix_s, requests.seq
LIMIT :limit;

-- name: claim
UPDATE requests SET state = 1, attempt = attempt + 1, worker = :worker WHERE seq = :seq;

-- name: overdue
-- The partial index holds only requests with a deadline: without any, this reads one empty page.
SELECT seq, id, keep, accepted_unix_s FROM requests INDEXED BY due
WHERE state = 0 AND due_unix_s < 1e999 AND due_unix_s <= :now;

-- name: finish
-- attempt fences: an older claim of the same request can't end it.
UPDATE requests SET state = 2, result = :result, ended_unix_s = :now
WHERE id = :id AND attempt = :attempt AND state = 1
RETURNING seq, keep;

-- name: end
-- The end of a request that no worker reports: cancelled in the queue, overdue, or its worker died.
UPDATE requests SET state = 2, result = :result, ended_unix_s = :now WHERE seq = :seq;

-- name: forget_body
DELETE FROM bodies WHERE seq = :seq;

-- name: look
SELECT seq, state, keep, accepted_unix_s FROM requests WHERE id = :id;

-- name: ask_cancel
UPDATE requests SET cancel_asked = 1 WHERE seq = :seq;

-- name: still_wanted
-- The ids come as one JSON array: one prepared statement whatever their number.
SELECT id FROM requests
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 1 AND worker = :worker AND cancel_asked = 0;

-- name: held_by
-- :worker is one life of a worker (name:pid), or its bare name for all of them. Few run: the index is short.
SELECT seq, id, attempt, keep, cancel_asked, accepted_unix_s FROM requests INDEXED BY running
WHERE state = 1 AND (worker = :worker OR substr(worker, 1, length(:worker) + 1) = :worker || ':')
ORDER BY seq;

-- name: held
SELECT seq, id, attempt, keep, cancel_asked, accepted_unix_s FROM requests WHERE state = 1 ORDER BY seq;

-- name: holders
SELECT worker, id, keep FROM requests INDEXED BY running WHERE state = 1;

-- name: requeue
-- attempt stays: the next claim makes it one more, which fences the lost one.
UPDATE requests SET state = 0, worker = '' WHERE seq = :seq;

-- name: fetch
SELECT coalesce(bodies.request, requests.head), state, attempt, worker, result, accepted_unix_s, cancel_asked
FROM requests LEFT JOIN bodies ON bodies.seq = requests.seq
WHERE id = :id;

-- name: contents
SELECT requests.seq, requests.keep, requests.head, bodies.request
FROM requests LEFT JOIN bodies ON bodies.seq = requests.seq
WHERE id = :id;

-- name: set_head
UPDATE requests SET head = :head WHERE seq = :seq;

-- name: set_body
UPDATE bodies SET request = :request WHERE seq = :seq;

-- name: delete
DELETE FROM requests WHERE id = :id AND state = 2 RETURNING seq;

-- name: depth_queued
-- Both answers in one walk over the queue index alone.
SELECT count(*), min(accepted_unix_s) FROM requests INDEXED BY queue WHERE state = 0;

-- name: depth_running
SELECT count(*) FROM requests INDEXED BY running WHERE state = 1;

-- name: old_results
-- A bounded bite, so that the write lock is never held long.
SELECT seq FROM requests INDEXED BY ended
WHERE state = 2 AND ((keep = 1 AND ended_unix_s < :kept_before) OR (keep = 0 AND ended_unix_s < :others_before))
LIMIT 500;

-- name: drop
DELETE FROM requests WHERE seq = :seq;

-- name: wrong_rows
-- Each broken promise in words; empty when all is well.
SELECT id || ' is ' || state || ', which is no state' FROM requests WHERE state NOT IN (0, 1, 2)
UNION ALL
SELECT id || ' runs without a worker' FROM requests WHERE state = 1 AND (worker = '' OR attempt < 1)
UNION ALL
SELECT id || ' is done without a result' FROM requests WHERE state = 2 AND (result IS NULL OR ended_unix_s IS NULL)
UNION ALL
SELECT id || ' has a result but is not done' FROM requests WHERE state <> 2 AND result IS NOT NULL
UNION ALL
SELECT id || ' waits or runs without its content' FROM requests
WHERE (state <> 2 OR keep = 1) AND seq NOT IN (SELECT seq FROM bodies)
UNION ALL
SELECT id || ' is done but its content was left behind' FROM requests
WHERE state = 2 AND keep = 0 AND seq IN (SELECT seq FROM bodies)
UNION ALL
SELECT 'content ' || seq || ' belongs to no request' FROM bodies WHERE seq NOT IN (SELECT seq FROM requests);
