//! Why something did not happen: a refusal, or a failure of ours that becomes one at the edge.

use control_plane::Refusal;
use identity::IdentityError;
use store::StoreError;

control_plane::refusal_codes! {
    INTERNAL = "connector/internal", Ours,
        "something failed in this connector", "此連接器發生內部錯誤", "此连接器发生内部错误",
        clause "fail closed", next "look at the connector's log around this time; if it repeats, report it";
    STORE_UNAVAILABLE = "store/unavailable", Unavailable,
        "the state could not be read or written, so nothing was done",
        "無法讀寫狀態，因此未執行任何操作", "无法读写状态，因此未执行任何操作",
        clause "fail closed: a log that cannot be written", next "check disk space and permissions of the data directory";
    DAMAGED = "store/damaged", Ours,
        "a stored record cannot be read back", "已儲存的記錄無法讀回", "已存储的记录无法读回",
        clause "fail closed", next "stop the connector, keep a copy of the data directory, restore the newest backup";
}

/// A step that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A typed no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Key material or certificates failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Something else of ours failed.
    #[error("{0}")]
    Ours(String),
}

impl Error {
    /// A failure of ours with its cause.
    pub fn ours(cause: impl std::fmt::Display) -> Self {
        Self::Ours(cause.to_string())
    }

    /// A record of the store that does not read back.
    pub fn damaged(what: &str, cause: impl std::fmt::Display) -> Self {
        Self::Refused(Refusal::new(&DAMAGED, format!("{what}: {cause}")))
    }

    /// The refusal that callers see.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Store(error) => Refusal::new(&STORE_UNAVAILABLE, error.to_string()),
            Self::Identity(IdentityError::Refused(refusal)) => refusal,
            Self::Identity(error) => Refusal::new(&INTERNAL, error.to_string()),
            Self::Ours(cause) => Refusal::new(&INTERNAL, cause),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        error.into_refusal()
    }
}
