//! What can go wrong here: a refusal, or a failure of our own with its source kept.

use policy::refusal::Refusal;

policy::refusal_codes! {
    OWN_FAILURE = "transfer/own-failure", Ours,
        "the connector could not read or write what the transfer or use needs",
        "連接器無法讀寫傳輸或使用所需的資料", "连接器无法读写传输或使用所需的数据",
        clause "usage control: fail closed", next "ask the operator to look at the log, then repeat the request";
}

/// The error of a port, whatever it is made of.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A refusal, or a failure of our own.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A check said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The operating system said no.
    #[error("could not {what} `{path}`")]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file or address.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A port could not keep or load what it was asked to.
    #[error("the store failed")]
    Store(#[source] BoxError),
    /// The cryptographic library failed; there is no more to know.
    #[error("could not {0}")]
    Crypto(&'static str),
    /// A worker thread ended before its work.
    #[error("a worker of the data plane ended early")]
    Worker,
}

impl DataError {
    /// The refusal to tell others: the one inside, or [`OWN_FAILURE`] with the chain of causes as detail.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            own @ (Self::Io { .. } | Self::Store(_) | Self::Crypto(_) | Self::Worker) => {
                let mut detail = own.to_string();
                let mut cause = std::error::Error::source(&own);
                while let Some(source) = cause {
                    detail.push_str(": ");
                    detail.push_str(&source.to_string());
                    cause = source.source();
                }
                Refusal::new(&OWN_FAILURE, detail)
            }
        }
    }

    pub(crate) fn io(what: &'static str, path: &std::path::Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { what, path: path.display().to_string(), source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_failures_keep_their_causes() {
        let error = DataError::io("open", std::path::Path::new("/x"), std::io::Error::other("disk gone"));
        let refusal = error.into_refusal();
        assert_eq!(refusal.code, &OWN_FAILURE);
        assert_eq!(refusal.detail, "could not open `/x`: disk gone");
    }
}
