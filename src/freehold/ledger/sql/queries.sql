-- Every statement the SQLite ledger runs, by name, with the reason it is written the way it is.
-- States: 0 queued, 1 running, 2 done. cancel_asked: 1 by somebody, 2 by the deadline.

-- name: known_key
SELECT keys.fingerprint, requests.id FROM keys JOIN requests ON requests.seq = keys.seq
WHERE keys.tenant = :tenant AND keys.key = :key AND keys.until_unix_s > :now;

-- name: set_key
-- An expired key is taken over.
INSERT OR REPLACE INTO keys (tenant, key, fingerprint, seq, until_unix_s)
VALUES (:tenant, :key, :fingerprint, :seq, :until);

-- name: lane
SELECT virtual_tokens FROM lanes WHERE model = :model AND priority = :priority;

-- name: share
SELECT finish_tokens FROM shares WHERE model = :model AND priority = :priority AND tenant = :tenant;

-- name: set_lane
INSERT OR REPLACE INTO lanes (model, priority, virtual_tokens) VALUES (:model, :priority, :virtual);

-- name: set_share
INSERT OR REPLACE INTO shares (model, priority, tenant, finish_tokens) VALUES (:model, :priority, :tenant, :finish);

-- name: accept
-- The UNIQUE index on id is the check for a double.
INSERT INTO requests (
    id, model, tenant, lot, priority, due_unix_s, tag_tokens, cost_tokens, body_bytes, answers, keep, accepted_unix_s, head
) VALUES (
    :id, :model, :tenant, :lot, :priority, :due_unix_s, :tag_tokens, :cost_tokens, :body_bytes, :answers, :keep, :now, :head
) RETURNING seq;

-- name: accept_body
INSERT INTO bodies (seq, request) VALUES (:seq, :request);

-- name: any_queued
-- Asked by polling workers before they take the write lock: an idle ledger is never locked.
SELECT 1 FROM requests INDEXED BY queue WHERE state = 0 AND model = :model LIMIT 1;

-- name: next_queued
-- Walks the queue index in the order of order.py and stops after :limit rows.
SELECT requests.seq, requests.answers, requests.attempt, requests.accepted_unix_s, bodies.request,
    requests.priority, requests.tag_tokens, requests.due_unix_s < 1e999
FROM requests INDEXED BY queue JOIN bodies ON bodies.seq = requests.seq
WHERE requests.state = 0 AND requests.model = :model AND requests.due_unix_s > :now
    AND requests.lot >= :lot_from AND requests.lot < :lot_to
ORDER BY requests.priority, requests.due_unix_s, requests.tag_tokens, requests.seq
LIMIT :limit;

-- name: next_tag
-- The first that waits for its share: one seek.
SELECT tag_tokens FROM requests INDEXED BY queue
WHERE state = 0 AND model = :model AND priority = :priority AND due_unix_s = 1e999
ORDER BY tag_tokens LIMIT 1;

-- name: claim
UPDATE requests SET state = 1, attempt = attempt + 1, worker = :owner WHERE seq = :seq;

-- name: renew
INSERT OR REPLACE INTO owners (owner, renewed_mono_s, lease_s) VALUES (:owner, :now, :lease_s);

-- name: touch
-- A claim needs a lease; a longer one that `renew` has set stays.
INSERT INTO owners (owner, renewed_mono_s, lease_s) VALUES (:owner, :now, :lease_s)
ON CONFLICT (owner) DO UPDATE SET renewed_mono_s = excluded.renewed_mono_s, lease_s = excluded.lease_s
WHERE renewed_mono_s + lease_s < excluded.renewed_mono_s + excluded.lease_s;

-- name: late_owners
-- Whoever holds something and has no lease, or one that is over. A heartbeat from the future is one from before the
-- machine's last start: the monotonic clock began anew.
SELECT DISTINCT requests.worker FROM requests INDEXED BY running LEFT JOIN owners ON owners.owner = requests.worker
WHERE requests.state = 1
    AND (owners.owner IS NULL OR owners.renewed_mono_s + owners.lease_s <= :now OR owners.renewed_mono_s > :now)
ORDER BY requests.worker;

-- name: forget_owner
DELETE FROM owners WHERE owner = :owner;

-- name: overdue
-- The partial index holds only requests with a deadline: without any, this reads one empty page.
SELECT seq, id, state, attempt, accepted_unix_s, model, priority, tenant, cost_tokens FROM requests INDEXED BY due
WHERE state < 2 AND due_unix_s < 1e999 AND due_unix_s <= :now AND cancel_asked = 0;

-- name: mark_overdue
UPDATE requests SET cancel_asked = 2 WHERE seq = :seq;

-- name: top
-- Whom a checkpoint or an end is for, and how far it is.
SELECT requests.seq, requests.id, requests.attempt, requests.state, requests.worker, pieces.number, pieces.tops
FROM requests LEFT JOIN pieces ON pieces.seq = requests.seq
WHERE requests.id = :id
ORDER BY pieces.number DESC LIMIT 1;

-- name: add_piece
INSERT INTO pieces (seq, number, tops, chunks) VALUES (:seq, :number, :tops, :chunks);

-- name: pieces
SELECT chunks FROM pieces WHERE seq = :seq ORDER BY number;

-- name: finish
-- attempt fences: an older claim of the same request can't end it.
UPDATE requests SET state = 2, result = :result, ended_unix_s = :now
WHERE id = :id AND attempt = :attempt AND state = 1
RETURNING seq, keep, delivered, model, priority, tenant, cost_tokens;

-- name: end
-- The end of a request that no worker reports: cancelled in the queue, overdue, poison, or only its report was lost.
UPDATE requests SET state = 2, result = :result, ended_unix_s = :now, cancel_asked = :cancel_asked WHERE seq = :seq
RETURNING keep, delivered;

-- name: poison
-- Kept, so that somebody can see what it was.
UPDATE requests SET poisoned = 1, keep = 1, deaths = :deaths WHERE seq = :seq;

-- name: forget_body
DELETE FROM bodies WHERE seq = :seq;

-- name: forget_pieces
DELETE FROM pieces WHERE seq = :seq;

-- name: forget_key
DELETE FROM keys WHERE seq = :seq;

-- name: deliver
UPDATE requests SET delivered = 1 WHERE id = :id AND state > 0 AND delivered = 0 RETURNING seq, state, keep;

-- name: set_delivered
UPDATE requests SET delivered = 1 WHERE seq = :seq;

-- name: look
SELECT seq, state, keep, accepted_unix_s, model, priority, tenant, cost_tokens FROM requests WHERE id = :id;

-- name: ask_cancel
UPDATE requests SET cancel_asked = 1 WHERE seq = :seq;

-- name: standing
-- The ids come as one JSON array: one prepared statement whatever their number.
SELECT id, cancel_asked FROM requests
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 1 AND worker = :owner;

-- name: held_by
SELECT seq, id, attempt, cancel_asked, accepted_unix_s, answers, deaths, delivered
FROM requests INDEXED BY running
WHERE state = 1 AND worker = :owner
ORDER BY seq;

-- name: holders
SELECT worker, id, keep FROM requests INDEXED BY running WHERE state = 1;

-- name: requeue
-- attempt stays: the next claim makes it one more, which fences the lost one.
UPDATE requests SET state = 0, worker = '', deaths = :deaths WHERE seq = :seq;

-- name: fetch
SELECT coalesce(bodies.request, requests.head), state, attempt, worker, result, accepted_unix_s, cancel_asked, deaths
FROM requests LEFT JOIN bodies ON bodies.seq = requests.seq
WHERE id = :id;

-- name: how_far
SELECT seq, state, attempt, result FROM requests WHERE id = :id;

-- name: newest
-- Backwards along seq: a page costs what it shows, or what it passes over.
SELECT head, state, attempt, worker, result, accepted_unix_s, cancel_asked, deaths FROM requests
WHERE seq < coalesce((SELECT seq FROM requests WHERE id = :after), 9223372036854775807)
    AND (:state IS NULL OR state = :state)
ORDER BY seq DESC LIMIT :limit;

-- name: newest_poisoned
SELECT head, state, attempt, worker, result, accepted_unix_s, cancel_asked, deaths FROM requests INDEXED BY poison
WHERE seq < coalesce((SELECT seq FROM requests WHERE id = :after), 9223372036854775807) AND poisoned = 1
ORDER BY seq DESC LIMIT :limit;

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
-- All answers in one walk over the queue index alone.
SELECT count(*), min(accepted_unix_s), coalesce(sum(cost_tokens), 0), coalesce(sum(body_bytes), 0)
FROM requests INDEXED BY queue WHERE state = 0 AND model = :model;

-- name: depth_all_queued
SELECT count(*), min(accepted_unix_s), coalesce(sum(cost_tokens), 0), coalesce(sum(body_bytes), 0)
FROM requests INDEXED BY queue WHERE state = 0;

-- name: depth_running
SELECT count(*) FROM requests INDEXED BY running WHERE state = 1 AND (:model IS NULL OR model = :model);

-- name: next_due
-- Of the request that is claimed next.
SELECT due_unix_s FROM requests INDEXED BY queue WHERE state = 0 AND model = :model
ORDER BY priority, due_unix_s, tag_tokens, seq LIMIT 1;

-- name: old_keys
DELETE FROM keys WHERE until_unix_s <= :now;

-- name: old_shares
-- A tenant that has fallen behind the virtual time begins there: its row says nothing.
DELETE FROM shares WHERE finish_tokens <= coalesce(
    (SELECT virtual_tokens FROM lanes WHERE lanes.model = shares.model AND lanes.priority = shares.priority), 0);

-- name: old_owners
-- Lives that are over and left nothing.
DELETE FROM owners WHERE (renewed_mono_s + lease_s <= :now OR renewed_mono_s > :now)
    AND owner NOT IN (SELECT worker FROM requests INDEXED BY running WHERE state = 1);

-- name: old_results
-- A bounded bite, so that the write lock is never held long. A key keeps the trace of its request.
SELECT seq FROM requests INDEXED BY ended
WHERE state = 2 AND ((keep = 1 AND ended_unix_s < :kept_before) OR (keep = 0 AND ended_unix_s < :others_before))
    AND seq NOT IN (SELECT seq FROM keys)
LIMIT 500;

-- name: unread
-- Ended long ago, and nobody has come for the rest.
SELECT seq, keep FROM requests INDEXED BY unread
WHERE state = 2 AND delivered = 0 AND ended_unix_s < :others_before
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
SELECT id || ' is done and delivered but its content was left behind' FROM requests
WHERE state = 2 AND delivered = 1
    AND (seq IN (SELECT seq FROM pieces) OR (keep = 0 AND seq IN (SELECT seq FROM bodies)))
UNION ALL
SELECT 'content ' || seq || ' belongs to no request' FROM bodies WHERE seq NOT IN (SELECT seq FROM requests)
UNION ALL
SELECT 'piece ' || number || ' of ' || seq || ' belongs to no request' FROM pieces
WHERE seq NOT IN (SELECT seq FROM requests)
UNION ALL
SELECT 'the pieces of ' || seq || ' have a hole' FROM pieces GROUP BY seq HAVING max(number) <> count(*) - 1
UNION ALL
SELECT 'key ' || key || ' belongs to no request' FROM keys WHERE seq NOT IN (SELECT seq FROM requests)
UNION ALL
SELECT 'sheet ' || number || ' of ' || folder || ' belongs to no folder' FROM sheets
WHERE folder NOT IN (SELECT seq FROM folders)
UNION ALL
SELECT 'folder ' || id || ' counts ' || bytes || ' bytes, which is wrong' FROM folders
WHERE until_unix_s > 0 AND bytes <> coalesce((SELECT sum(length(content)) FROM sheets WHERE folder = folders.seq), 0);

-- name: keep_note
INSERT INTO notes (kind, id, due_unix_s, blob) VALUES (:kind, :id, :due, :blob)
ON CONFLICT (kind, id) DO UPDATE SET due_unix_s = excluded.due_unix_s, blob = excluded.blob;

-- name: any_due
SELECT 1 FROM notes INDEXED BY due_notes WHERE kind = :kind AND due_unix_s <= :now LIMIT 1;

-- name: take_due
UPDATE notes SET due_unix_s = :until WHERE kind = :kind AND id IN (
    SELECT id FROM notes INDEXED BY due_notes WHERE kind = :kind AND due_unix_s <= :now
    ORDER BY due_unix_s LIMIT :limit
) RETURNING id, blob;

-- name: drop_note
DELETE FROM notes WHERE kind = :kind AND id = :id;

-- name: new_folder
INSERT INTO folders (id, kind, tenant, label, until_unix_s, version)
VALUES (:id, :kind, :tenant, :label, :until, 1) ON CONFLICT (id) DO NOTHING RETURNING seq;

-- name: put_folder
UPDATE folders SET tenant = :tenant, label = :label, until_unix_s = :until, version = version + 1
WHERE id = :id AND kind = :kind AND version = :version RETURNING seq;

-- name: folder
SELECT id, kind, tenant, label, until_unix_s, version, bytes FROM folders WHERE id = :id;

-- name: newest_folders
SELECT id, kind, tenant, label, until_unix_s, version, bytes FROM folders INDEXED BY shelf
WHERE kind = :kind AND tenant = :tenant
    AND seq < coalesce((SELECT seq FROM folders WHERE id = :after), 9223372036854775807)
ORDER BY seq DESC LIMIT :limit;

-- name: oldest_folders
SELECT id, kind, tenant, label, until_unix_s, version, bytes FROM folders INDEXED BY shelf
WHERE kind = :kind AND tenant = :tenant AND seq > coalesce((SELECT seq FROM folders WHERE id = :after), 0)
ORDER BY seq LIMIT :limit;

-- name: drop_folder
-- Gone for everybody, at once; `clear_folders` takes its sheets away bite by bite, for they may be many.
UPDATE folders SET id = 'gone ' || seq, kind = '', tenant = '', label = '', until_unix_s = 0 WHERE id = :id RETURNING seq;

-- name: drop_ended_folders
UPDATE folders SET id = 'gone ' || seq, kind = '', tenant = '', label = '', until_unix_s = 0
WHERE until_unix_s <= :now AND until_unix_s > 0;

-- name: gone_folders
SELECT seq FROM folders INDEXED BY folder_ends WHERE until_unix_s = 0 LIMIT 100;

-- name: clear_sheets
-- A bounded bite, so that the write lock is never held long.
DELETE FROM sheets WHERE folder = :seq AND number IN (
    SELECT number FROM sheets WHERE folder = :seq ORDER BY number LIMIT 64
) RETURNING 1;

-- name: clear_folder
DELETE FROM folders WHERE seq = :seq;

-- name: stands
SELECT 1 FROM folders WHERE id = :id AND version = :version;

-- name: add_sheet
INSERT INTO sheets (folder, number, content) VALUES (:seq, :number, :content)
ON CONFLICT (folder, number) DO NOTHING RETURNING length(content);

-- name: count_bytes
UPDATE folders SET bytes = bytes + :bytes WHERE seq = :seq;

-- name: folder_seq
SELECT seq FROM folders WHERE id = :id;

-- name: sheets
SELECT number, content FROM sheets WHERE folder = (SELECT seq FROM folders WHERE id = :id) AND number > :after
ORDER BY number LIMIT :limit;

-- name: sheet_numbers
SELECT number FROM sheets WHERE folder = (SELECT seq FROM folders WHERE id = :id) ORDER BY number;

-- name: folder_bytes
SELECT coalesce(sum(bytes), 0) FROM folders WHERE until_unix_s > 0;
