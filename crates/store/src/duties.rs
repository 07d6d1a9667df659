//! Duties with a deadline: due, being done, done with evidence, failed for now, overdue.

use std::fmt;

use control_plane::UnixMillis;
use rusqlite::{OptionalExtension, Row as SqlRow, params};

use crate::tx::{check_key, check_value, page};
use crate::{Signal, Snapshot, StoreError, Tx};

/// The note of a failure: one line for the operator.
pub const MAX_NOTE_BYTES: usize = 4096;

/// A duty to be added.
#[derive(Clone, Copy, Debug)]
pub struct NewDuty<'a> {
    /// Its own id, stable when the same duty is derived again.
    pub id: &'a str,
    /// What it belongs to, e.g. an agreement.
    pub subject: &'a str,
    /// What it is, for the one who performs it.
    pub kind: &'a str,
    /// Its content.
    pub body: &'a [u8],
    /// When to begin.
    pub start: UnixMillis,
    /// When it must be done.
    pub deadline: UnixMillis,
}

/// Where a duty stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DutyState {
    /// Not begun.
    Due,
    /// Somebody is at it.
    Running,
    /// Done; the evidence is kept.
    Done,
    /// The last try failed; to be tried again from `start`.
    Failed,
    /// The deadline passed before it was done; still to be done.
    Overdue,
}

impl DutyState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Due, Self::Running, Self::Done, Self::Failed, Self::Overdue];

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Overdue => "overdue",
        }
    }
}

impl fmt::Display for DutyState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A duty as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// See [`NewDuty::id`].
    pub id: String,
    /// See [`NewDuty::subject`].
    pub subject: String,
    /// See [`NewDuty::kind`].
    pub kind: String,
    /// See [`NewDuty::body`].
    pub body: Vec<u8>,
    /// When to begin, or to try again.
    pub start: UnixMillis,
    /// When it must be done.
    pub deadline: UnixMillis,
    /// Where it stands.
    pub state: DutyState,
    /// How often it was begun.
    pub attempts: u32,
    /// When its being overdue was noticed; stays when it is done late.
    pub overdue_since: Option<UnixMillis>,
    /// When it was done.
    pub done_at: Option<UnixMillis>,
    /// What shows that it was done.
    pub evidence: Option<Vec<u8>>,
    /// Why the last try failed.
    pub note: Option<String>,
}

const COLUMNS: &str =
    "id, subject, kind, body, start, deadline, state, attempts, overdue_since, done_at, evidence, note";

impl Snapshot<'_> {
    /// The duty with this id.
    pub fn duty(&self, id: &str) -> Result<Option<Duty>, StoreError> {
        let mut statement = self.conn.prepare_cached(&format!("SELECT {COLUMNS} FROM duty WHERE id = ?1"))?;
        statement.query_row([id], read).optional()?.transpose()
    }

    /// Duties of one subject in the order of their ids, after the id `after`; at most `limit`.
    pub fn duties_of(
        &self,
        subject: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Duty>, StoreError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM duty WHERE subject = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
        ))?;
        let rows = statement.query_map((subject, after.unwrap_or(""), page(limit)?), read)?;
        rows.map(|row| row?).collect()
    }

    /// Duties of every subject in the order of their ids, after the id `after`, if `state` is given only those that
    /// stand there; at most `limit`.
    pub fn duties_page(
        &self,
        state: Option<DutyState>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Duty>, StoreError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM duty WHERE id > ?1 AND (?2 IS NULL OR state = ?2) ORDER BY id LIMIT ?3"
        ))?;
        let state = state.map(DutyState::as_str);
        let rows = statement.query_map((after.unwrap_or(""), state, page(limit)?), read)?;
        rows.map(|row| row?).collect()
    }

    /// Duties to be begun at `now`: due, failed or overdue, with `start` reached; the earliest first, at most `limit`.
    pub fn duties_ready(&self, now: UnixMillis, limit: usize) -> Result<Vec<Duty>, StoreError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM duty WHERE state IN ('due', 'failed', 'overdue') AND start <= ?1
             ORDER BY start, id LIMIT ?2"
        ))?;
        let rows = statement.query_map((now.0, page(limit)?), read)?;
        rows.map(|row| row?).collect()
    }

    /// The next time at which a duty is to be begun or becomes overdue; `None` if neither will happen.
    pub fn duties_next(&self) -> Result<Option<UnixMillis>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT min(at) FROM (
                 SELECT min(start) AS at FROM duty WHERE state IN ('due', 'failed', 'overdue')
                 UNION ALL SELECT min(deadline) FROM duty WHERE state <> 'done' AND overdue_since IS NULL)",
        )?;
        let at: Option<i64> = statement.query_row([], |row| row.get(0))?;
        Ok(at.map(UnixMillis))
    }
}

impl Tx<'_> {
    /// Adds a duty. The same duty again changes nothing and gives `false`, whatever its state by now; the id
    /// with another content refuses with `IdReused`.
    pub fn duty_add(&self, duty: &NewDuty<'_>) -> Result<bool, StoreError> {
        for key in [duty.id, duty.subject, duty.kind] {
            check_key(key)?;
        }
        check_value(duty.body)?;
        if let Some(there) = self.duty(duty.id)? {
            let same = there.subject == duty.subject && there.kind == duty.kind && there.body == duty.body;
            if same {
                return Ok(false);
            }
            return Err(StoreError::IdReused { what: "duty", id: duty.id.to_owned() });
        }
        self.conn
            .prepare_cached(
                "INSERT INTO duty (id, subject, kind, body, start, deadline, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'due')",
            )?
            .execute(params![duty.id, duty.subject, duty.kind, duty.body, duty.start.0, duty.deadline.0])?;
        self.touch(Signal::Duties);
        Ok(true)
    }

    /// Due, failed or overdue becomes running.
    pub fn duty_start(&self, id: &str) -> Result<Duty, StoreError> {
        self.duty_move(id, DutyState::Running, |duty| duty.attempts = duty.attempts.saturating_add(1))
    }

    /// Running becomes done; the evidence is kept for good.
    pub fn duty_finish(&self, id: &str, evidence: &[u8], now: UnixMillis) -> Result<Duty, StoreError> {
        check_value(evidence)?;
        self.duty_move(id, DutyState::Done, |duty| {
            duty.done_at = Some(now);
            duty.evidence = Some(evidence.to_vec());
            duty.note = None;
        })
    }

    /// Running becomes failed, to be tried again at `retry_at`.
    pub fn duty_fail(&self, id: &str, note: &str, retry_at: UnixMillis) -> Result<Duty, StoreError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(StoreError::Limit { what: "a note's length", limit: MAX_NOTE_BYTES as u64 });
        }
        self.duty_move(id, DutyState::Failed, |duty| {
            duty.start = retry_at;
            duty.note = Some(note.to_owned());
        })
    }

    /// Gives a duty that is not done another start and deadline.
    ///
    /// Being overdue stays on record even if the new deadline lies ahead.
    pub fn duty_reschedule(
        &self,
        id: &str,
        start: UnixMillis,
        deadline: UnixMillis,
    ) -> Result<(), StoreError> {
        let duty = self.duty_or_missing(id)?;
        if duty.state == DutyState::Done {
            return Err(StoreError::DutyState { id: id.to_owned(), from: duty.state, to: DutyState::Due });
        }
        self.conn
            .prepare_cached("UPDATE duty SET start = ?2, deadline = ?3 WHERE id = ?1")?
            .execute((id, start.0, deadline.0))?;
        self.touch(Signal::Duties);
        Ok(())
    }

    /// Marks up to `limit` duties whose deadline has passed, and gives exactly those newly marked. A running
    /// duty goes on running and keeps the mark; the others become overdue.
    pub fn duties_mark_overdue(&self, now: UnixMillis, limit: usize) -> Result<Vec<Duty>, StoreError> {
        let mut passed = self.conn.prepare_cached(
            "SELECT id FROM duty WHERE state <> 'done' AND overdue_since IS NULL AND deadline < ?1
             ORDER BY deadline, id LIMIT ?2",
        )?;
        let ids: Vec<String> =
            passed.query_map((now.0, page(limit)?), |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut mark = self.conn.prepare_cached(
            "UPDATE duty SET overdue_since = ?2, state = iif(state = 'running', state, 'overdue') WHERE id = ?1",
        )?;
        let mut marked = Vec::with_capacity(ids.len());
        for id in ids {
            mark.execute((&id, now.0))?;
            marked.push(self.duty_or_missing(&id)?);
        }
        if !marked.is_empty() {
            self.touch(Signal::Duties);
        }
        Ok(marked)
    }

    /// After a restart nobody is at anything: running becomes failed, to be tried again at once. Gives how many.
    pub fn duties_interrupted(&self, now: UnixMillis) -> Result<usize, StoreError> {
        let changed = self
            .conn
            .prepare_cached(
                "UPDATE duty SET state = 'failed', start = ?1, note = 'interrupted' WHERE state = 'running'",
            )?
            .execute([now.0])?;
        if changed > 0 {
            self.touch(Signal::Duties);
        }
        Ok(changed)
    }

    fn duty_move(&self, id: &str, to: DutyState, change: impl FnOnce(&mut Duty)) -> Result<Duty, StoreError> {
        use DutyState::{Done, Due, Failed, Overdue, Running};
        let mut duty = self.duty_or_missing(id)?;
        let allowed = match (duty.state, to) {
            (Due | Failed | Overdue, Running) | (Running, Done | Failed) => true,
            (Due | Failed | Overdue, Due | Done | Failed | Overdue)
            | (Running, Due | Running | Overdue)
            | (Done, _) => false,
        };
        if !allowed {
            return Err(StoreError::DutyState { id: id.to_owned(), from: duty.state, to });
        }
        duty.state = to;
        change(&mut duty);
        self.conn
            .prepare_cached(
                "UPDATE duty SET state = ?2, start = ?3, attempts = ?4, done_at = ?5, evidence = ?6, note = ?7
                 WHERE id = ?1",
            )?
            .execute(params![
                id,
                duty.state.as_str(),
                duty.start.0,
                duty.attempts,
                duty.done_at.map(|at| at.0),
                duty.evidence,
                duty.note
            ])?;
        self.touch(Signal::Duties);
        Ok(duty)
    }

    fn duty_or_missing(&self, id: &str) -> Result<Duty, StoreError> {
        self.duty(id)?.ok_or_else(|| StoreError::Missing { what: "duty", id: id.to_owned() })
    }
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Result<Duty, StoreError>> {
    let state: String = row.get(6)?;
    let Some(state) = DutyState::ALL.into_iter().find(|known| known.as_str() == state) else {
        return Ok(Err(StoreError::Damaged(format!("duty state `{state}`"))));
    };
    Ok(Ok(Duty {
        id: row.get(0)?,
        subject: row.get(1)?,
        kind: row.get(2)?,
        body: row.get(3)?,
        start: UnixMillis(row.get(4)?),
        deadline: UnixMillis(row.get(5)?),
        state,
        attempts: row.get(7)?,
        overdue_since: row.get::<_, Option<i64>>(8)?.map(UnixMillis),
        done_at: row.get::<_, Option<i64>>(9)?.map(UnixMillis),
        evidence: row.get(10)?,
        note: row.get(11)?,
    }))
}
