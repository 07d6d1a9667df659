//! Identifiers: parsed once at the edge, so that the inside never meets an empty or oversized one.

use std::fmt;

use policy::refusal::Refusal;

policy::refusal_codes! {
    MALFORMED_PARTICIPANT = "identity/malformed-participant", Input,
        "a participant is one absolute https or did URI of at most 255 bytes, without fragment",
        "參與者須為一個絕對的 https 或 did URI，最長 255 位元組，不含片段",
        "参与者须为一个绝对的 https 或 did URI，最长 255 字节，不含片段",
        clause "RFC 3986 section 4.3", next "use the URI that the authority enrolled, e.g. https://campus.example/id/hku";
    MALFORMED_ID = "message/malformed-id", Input,
        "an identifier is 1 to 255 visible ASCII characters",
        "識別碼須為 1 至 255 個可見 ASCII 字元", "标识符须为 1 至 255 个可见 ASCII 字符",
        clause "DSP 2025-1, 1.4", next "send the identifier as the peer issued it";
}

/// The longest identifier taken from anyone: fits a key in the store and a line in a log.
pub const MAX_ID_BYTES: usize = 255;

/// A member of our data space: one URI, compared byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(String);

impl ParticipantId {
    /// Accepts an absolute `https` or `did` URI of at most [`MAX_ID_BYTES`] without fragment, as it stands.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let refuse = || Refusal::new(&MALFORMED_PARTICIPANT, format!("`{}`", printable(text)));
        if text.len() > MAX_ID_BYTES || text.contains('#') {
            return Err(refuse());
        }
        let iri = oxiri::Iri::parse(text).map_err(|_| refuse())?;
        let named = match iri.scheme() {
            "https" => iri.authority().is_some_and(|authority| !authority.is_empty()),
            "did" => iri.path().len() > 1,
            _ => false,
        };
        if !named || !text.is_ascii() {
            return Err(refuse());
        }
        Ok(Self(text.to_owned()))
    }

    /// The URI as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for ParticipantId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

macro_rules! ids {
    ($( $(#[$doc:meta])* $name:ident; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Accepts 1 to [`MAX_ID_BYTES`] visible ASCII characters, as they stand.
            pub fn parse(text: &str) -> Result<Self, Refusal> {
                if text.is_empty() || text.len() > MAX_ID_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(Refusal::new(&MALFORMED_ID, format!("{} `{}`", stringify!($name), printable(text))));
                }
                Ok(Self(text.to_owned()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result { out.write_str(&self.0) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result { out.write_str(&self.0) }
        }
    )* };
}

ids! {
    /// The provider's name for a negotiation or transfer process (DSP `providerPid`).
    ProviderPid;
    /// The consumer's name for a negotiation or transfer process (DSP `consumerPid`).
    ConsumerPid;
    /// A message's own name (DSP `@id`), stable across retries.
    MessageId;
    /// An ODRL offer's uid.
    OfferId;
    /// An agreement's uid, new for each agreement.
    AgreementId;
    /// A dataset's IRI.
    DatasetId;
    /// Where a side of a process is called (DSP `callbackAddress`); kept, never dialled unchecked.
    CallbackAddress;
}

/// What derived message ids start with; no uuid or IRI does.
const DERIVED: &str = "body:";

impl MessageId {
    /// The id of a message that came without one, made of what it says.
    pub fn derived(body: &crate::digest::Digest) -> Self {
        Self(format!("{DERIVED}{body}"))
    }

    /// Whether it was made by [`MessageId::derived`].
    pub fn is_derived(&self) -> bool {
        self.0.starts_with(DERIVED)
    }
}

/// A text cut and cleaned for an error message: control and bidirectional characters become `?`.
pub fn printable(text: &str) -> String {
    const MAX_SHOWN_CHARS: usize = 80;
    let mut shown: String = text
        .chars()
        .take(MAX_SHOWN_CHARS)
        .map(|c| if c.is_control() || is_bidi_control(c) { '?' } else { c })
        .collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

const fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn participants() {
        for good in ["https://campus.example/id/hku", "did:web:campus.example"] {
            assert_eq!(ParticipantId::parse(good).unwrap().as_str(), good);
        }
        let long = format!("https://campus.example/{}", "x".repeat(255));
        for bad in [
            "",
            "hku",
            "http://campus.example/id",
            "https://",
            "https://a/#b",
            "did:",
            "https://é.example/",
            &long,
        ] {
            assert_eq!(ParticipantId::parse(bad).unwrap_err().code, &MALFORMED_PARTICIPANT, "{bad}");
        }
    }

    #[test]
    fn plain_ids() {
        assert!(ProviderPid::parse("urn:uuid:1").is_ok());
        for bad in ["", "a b", "a\u{202e}b", "\n"] {
            assert_eq!(ProviderPid::parse(bad).unwrap_err().code, &MALFORMED_ID);
        }
        assert_eq!(printable("a\u{202e}b\n"), "a?b?");
    }
}
