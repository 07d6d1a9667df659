//! Use sessions that stay open: granted once, read at any offset, renewed, and closed with a receipt.
//!
//! Whatever stops a use stops an idle session too: each has a watch that hears revocations, looks at the decision again
//! before it ends by itself, and closes what nobody reads. Sessions live in memory; one that a dead process left open is
//! recorded as ended at the next start.

mod granted;
mod open;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control_plane::{Refusal, UnixMillis};
use data_plane::UseReceipt;
use store::{Collection, Expect, Tx};

use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

pub use granted::{CODES as GRANTED_CODES, Granted, Wanted, grant};
pub use open::{Opened, Session, Token};

control_plane::refusal_codes! {
    TOO_MANY_SESSIONS = "limit/use-sessions", Limit,
        "too many use sessions are open", "開啟的使用會話過多", "打开的使用会话过多",
        clause "limits.use_sessions", next "close one, or raise limits.use_sessions";
    TOO_MANY_OBJECTS = "limit/objects-of-session", Limit,
        "a session holds only so many objects open", "一個會話可同時開啟的物件有限", "一个会话可同时打开的对象有限",
        clause "use sessions", next "open another session for the other objects";
    NO_SUCH_SESSION = "use/no-such-session", NotFound,
        "no session has this name", "沒有此名稱的會話", "没有此名称的会话",
        clause "use sessions", next "`fairlead session list` shows those that are open; open a new one";
    IDLE = "use/session-idle", Policy,
        "nobody used the session for too long", "會話閒置過久", "会话闲置过久",
        clause "limits.use_session_idle_seconds", next "open a new session; it counts as another use";
    OVER = "use/session-over", Policy,
        "the session was not renewed in time", "會話未及時續期", "会话未及时续期",
        clause "limits.use_session_seconds", next "open a new session, and renew it with `fairlead session renew`";
    CLOSED = "use/session-closed", State,
        "the session was closed", "會話已關閉", "会话已关闭",
        clause "use sessions", next "open a new session; it counts as another use";
    STOPPED = "use/connector-stopped", Unavailable,
        "the connector stopped", "連接器已停止", "连接器已停止",
        clause "use sessions", next "open a new session once it runs again; it counts as another use";
}

/// Ended sessions whose reason is still told: some hours of busy use.
const MAX_ENDED: usize = 1_000;

/// A session that is over, as long as it is remembered.
#[derive(Clone)]
pub struct Ended {
    /// Its name.
    pub id: String,
    /// Who used it.
    pub actor: String,
    /// Why it ended.
    pub reason: Refusal,
    token: Token,
}

impl Ended {
    /// Whether this is its token.
    pub fn is_of(&self, shown: &str) -> bool {
        self.token.is(shown)
    }
}

/// Every session of this process.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    ended: Mutex<VecDeque<Ended>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// The open session of this name; of one that ended, why.
    pub fn get(&self, id: &str) -> Result<Arc<Session>, Refusal> {
        if let Some(session) = held(&self.open).get(id) {
            return Ok(session.clone());
        }
        match self.ended(id) {
            Some(ended) => Err(ended.reason),
            None => Err(Refusal::new(&NO_SUCH_SESSION, format!("`{}`", control_plane::ids::printable(id)))),
        }
    }

    /// A session that ended, while it is remembered.
    pub fn ended(&self, id: &str) -> Option<Ended> {
        held(&self.ended).iter().find(|ended| ended.id == id).cloned()
    }

    /// The session that this token opens, or opened while that is remembered: for calls that name no session.
    pub fn opened_by(&self, shown: &str) -> Option<Result<Arc<Session>, Ended>> {
        if let Some(session) = held(&self.open).values().find(|session| session.is_opened_by(shown)) {
            return Some(Ok(session.clone()));
        }
        held(&self.ended).iter().find(|ended| ended.is_of(shown)).cloned().map(Err)
    }

    /// Every open session, oldest first.
    pub fn list(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = held(&self.open).values().cloned().collect();
        all.sort_by(|left, right| left.id().cmp(right.id()));
        all
    }

    fn insert(&self, session: Arc<Session>) {
        held(&self.open).insert(session.id().to_owned(), session);
    }

    fn remove(&self, ended: Ended) {
        held(&self.open).remove(&ended.id);
        let mut all = held(&self.ended);
        if all.len() >= MAX_ENDED {
            all.pop_front();
        }
        all.push_back(ended);
    }
}

/// In the transaction that grants a session: it is open from now on.
pub fn mark_open(tx: &Tx<'_>, session: &str, agreement: &str) -> Result<(), Error> {
    tx.put(Collection::UseSessions, session, agreement.as_bytes(), Expect::Any)?;
    Ok(())
}

/// In the transaction that records a receipt.
pub fn mark_closed(tx: &Tx<'_>, receipt: &UseReceipt) -> Result<(), Error> {
    tx.delete(Collection::UseSessions, receipt.session.as_str(), Expect::Any)?;
    Ok(())
}

/// At start: what a dead process left open has ended; how much it released nobody knows any more.
pub async fn end_orphans(node: &Arc<Node>) -> Result<(), Error> {
    let now = node.now();
    let ended = node.store.write(move |tx| orphans(tx, now)).await?;
    if ended > 0 {
        tracing::warn!(
            sessions = ended,
            "use sessions that the process before this one left open have ended"
        );
    }
    Ok(())
}

fn orphans(tx: &Tx<'_>, now: UnixMillis) -> Result<usize, Error> {
    let mut ended = 0_usize;
    loop {
        let rows = tx.scan(Collection::UseSessions, "", None, store::MAX_PAGE)?;
        if rows.is_empty() {
            return Ok(ended);
        }
        for row in rows {
            let agreement = String::from_utf8_lossy(&row.value).into_owned();
            let end = STOPPED.code.to_owned();
            let fields = [
                ("agreement", agreement),
                ("session", row.key.clone()),
                ("bytes", "unknown".to_owned()),
                ("end", end),
            ];
            records::append_fields(tx, "use-closed", now, fields)?;
            tx.delete(Collection::UseSessions, &row.key, Expect::Any)?;
            ended = ended.saturating_add(1);
        }
    }
}
