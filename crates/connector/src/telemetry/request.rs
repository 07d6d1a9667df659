//! The one id by which a request is followed through the logs of both connectors.

use std::fmt;

use tracing::Span;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan as _;

use super::logs::SpanFields;

/// The field of a log line and of a span that holds the id.
pub(super) const REQUEST_ID_FIELD: &str = "request_id";

/// The longest id taken from a peer: a UUID has 36.
const MAX_BYTES: usize = 64;

/// Names one request; between connectors it is the message's own id, which both sides know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// A new id.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The id that a peer sent, or a new one where it sent none or one that does not fit into a log: 1 to 64 letters,
    /// digits, `-`, `_`, `.` or `:`.
    pub fn carried_or_fresh(carried: Option<&str>) -> Self {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        match carried {
            Some(text) if (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(plain) => {
                Self(text.to_owned())
            }
            Some(_) | None => Self::fresh(),
        }
    }

    /// The id of the span that the caller runs in, to carry it to the next connector.
    pub fn current() -> Option<Self> {
        let found = Span::current().with_subscriber(|(id, dispatch)| {
            let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
            span.scope()
                .find_map(|span| span.extensions().get::<SpanFields>()?.text(REQUEST_ID_FIELD).map(Self))
        });
        found.flatten()
    }

    /// The span of the work that the request causes; its log lines carry the id, at any level.
    pub fn span(&self, what: &'static str) -> Span {
        tracing::error_span!("request", request_id = %self, what)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_are_carried() {
        let long = "a".repeat(MAX_BYTES);
        for good in ["a", "0197-x_1.2:3", &long] {
            assert_eq!(RequestId::carried_or_fresh(Some(good)).as_str(), good);
        }
        for bad in [None, Some(""), Some("a b"), Some("a\nb"), Some("é"), Some(&*format!("{long}a"))] {
            let fresh = RequestId::carried_or_fresh(bad);
            assert_eq!(fresh.as_str().len(), 36, "{bad:?}");
            assert_ne!(fresh, RequestId::fresh());
        }
    }
}
