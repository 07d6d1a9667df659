-- Schema 1. Times are milliseconds since 1970-01-01T00:00:00Z. A released schema file never changes: add the next.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('change', 0), ('outbox', 0);

CREATE TABLE entry (
    id         INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    key        TEXT NOT NULL,
    version    INTEGER NOT NULL,
    value      BLOB NOT NULL,
    UNIQUE (collection, key)
) STRICT;

CREATE TABLE tag (
    collection TEXT NOT NULL,
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    key        TEXT NOT NULL,
    PRIMARY KEY (collection, name, value, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_by_key ON tag (collection, key);

CREATE TABLE outbox (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    lane        TEXT NOT NULL,
    destination TEXT NOT NULL,
    kind        TEXT NOT NULL,
    body        BLOB NOT NULL,
    due         INTEGER NOT NULL,
    attempts    INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_by_lane ON outbox (lane, seq);
CREATE INDEX outbox_by_due ON outbox (due, seq);

CREATE TABLE seen (
    peer       TEXT NOT NULL,
    message_id TEXT NOT NULL,
    body_hash  TEXT NOT NULL,
    answer     BLOB NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (peer, message_id)
) STRICT;
CREATE INDEX seen_by_time ON seen (at);

CREATE TABLE counter (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE duty (
    id            TEXT PRIMARY KEY,
    subject       TEXT NOT NULL,
    kind          TEXT NOT NULL,
    body          BLOB NOT NULL,
    start         INTEGER NOT NULL,
    deadline      INTEGER NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('due', 'running', 'done', 'failed', 'overdue')),
    attempts      INTEGER NOT NULL DEFAULT 0,
    overdue_since INTEGER,
    done_at       INTEGER,
    evidence      BLOB,
    note          TEXT
) STRICT;
CREATE INDEX duty_by_start ON duty (start, id) WHERE state IN ('due', 'failed', 'overdue');
CREATE INDEX duty_by_deadline ON duty (deadline, id) WHERE state <> 'done' AND overdue_since IS NULL;
CREATE INDEX duty_by_subject ON duty (subject, id);
CREATE INDEX duty_running ON duty (id) WHERE state = 'running';

CREATE TABLE ledger (
    seq    INTEGER PRIMARY KEY,
    leaf   BLOB NOT NULL,
    root   BLOB NOT NULL,
    salt   BLOB,
    record BLOB,
    CHECK ((salt IS NULL) = (record IS NULL))
) STRICT;
CREATE TABLE ledger_node (
    level INTEGER NOT NULL,
    place INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger_tree (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    state TEXT NOT NULL
) STRICT;
CREATE TABLE ledger_subject (
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    seq   INTEGER NOT NULL,
    PRIMARY KEY (name, value, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_subject_by_seq ON ledger_subject (seq);
