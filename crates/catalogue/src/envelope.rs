//! Envelopes: a signed header over a content's hash. Signing and certificates stay behind two traits.
//!
//! The header is RFC 8785 JSON in a compact JWS of type [`JWS_TYPE`]; the content is canonical N-Quads. An
//! envelope's hash is the hash of its header bytes, so that signing twice does not make two envelopes.

use control_plane::ids::{DatasetId, ParticipantId, printable};
use control_plane::{Refusal, UnixMillis};
use serde_json::{Map, Value, json};

use crate::description::MAX_BYTES;
use crate::hash::Digest;
use crate::scope::SubjectBase;

policy::refusal_codes! {
    MALFORMED_ENVELOPE = "catalogue/malformed-envelope", Input,
        "the envelope's header is not a canonical header of a known kind and version",
        "信封標頭不是已知種類與版本的規範標頭", "信封标头不是已知种类与版本的规范标头",
        clause "catalogue: envelope", next "publish again with a connector of this version";
    ENVELOPE_TOO_LARGE = "catalogue/envelope-too-large", Limit,
        "an envelope has at most 8 KiB of header, 8 certificates of 8 KiB and 1 MiB of content",
        "信封標頭最多 8 KiB，證書最多 8 份、每份 8 KiB，內容最多 1 MiB", "信封标头最多 8 KiB，证书最多 8 份、每份 8 KiB，内容最多 1 MiB",
        clause "catalogue: bounds", next "make the description smaller";
    CONTENT_DIFFERS = "catalogue/content-differs", Input,
        "the content is not the one whose hash was signed", "內容與已簽署的雜湊值不符", "内容与已签署的哈希值不符",
        clause "catalogue: envelope", next "fetch the envelope again from another replica";
    WRONG_SIGNER = "catalogue/wrong-signer", Identity,
        "the envelope is not signed by its publisher with a certificate valid when it was issued",
        "信封並非由發布者以簽發時有效的證書簽署", "信封并非由发布者以签发时有效的证书签署",
        clause "catalogue: envelope", next "only the publisher itself can sign its log";
    LIFETIME = "catalogue/lifetime", Input,
        "an envelope expires after it was issued and at most 30 days later",
        "信封的到期時間須晚於簽發時間，且不超過 30 天", "信封的到期时间须晚于签发时间，且不超过 30 天",
        clause "catalogue: envelope", next "choose a shorter lifetime and renew";
    ISSUED_IN_FUTURE = "catalogue/issued-in-future", Input,
        "the envelope claims to be issued later than now", "信封的簽發時間晚於現在", "信封的签发时间晚于现在",
        clause "catalogue: envelope", next "set the publisher's clock right";
}

/// `typ` of the protected header.
pub const JWS_TYPE: &str = "fairlead-envelope+jws";
/// Version of the header format.
pub const HEADER_VERSION: u64 = 1;
/// The longest time between `issued` and `expires`.
pub const MAX_LIFETIME_MILLIS: i64 = 30 * 24 * 60 * 60 * 1000;
/// How far ahead of ours a publisher's clock may be.
pub const MAX_CLOCK_AHEAD_MILLIS: i64 = 5 * 60 * 1000;
/// The longest compact JWS of a header; a real one has about 1 KiB.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Leaf, issuing and cross-signed intermediates, with room to spare.
pub const MAX_CERTIFICATES: usize = 8;
/// The largest certificate taken.
pub const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;

/// A signed header with what is needed to check it, as it travels and is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Compact JWS of the header.
    pub header: String,
    /// Canonical N-Quads; empty where the kind has none.
    pub content: Vec<u8>,
    /// DER certificates of the signer, leaf first.
    pub certificates: Vec<Vec<u8>>,
}

/// The signed part of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose log it belongs to.
    pub publisher: ParticipantId,
    /// Generation of the log: grows when a publisher has lost its log.
    pub epoch: u32,
    /// Position in the log, from 1, without gaps.
    pub seq: u64,
    /// Hash of the previous envelope of the epoch; none for the first.
    pub prev: Option<Digest>,
    /// What it does.
    pub kind: Kind,
    /// When it was signed.
    pub issued: UnixMillis,
    /// Until when what it says may be shown.
    pub expires: UnixMillis,
}

/// What an envelope does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Publishes a dataset or replaces its description.
    Publish {
        /// The dataset, which is also the graph.
        dataset: DatasetId,
        /// Hash of the content bytes.
        content: Digest,
    },
    /// Withdraws a dataset.
    Withdraw {
        /// The dataset.
        dataset: DatasetId,
    },
    /// Gives every live dataset of the publisher this envelope's `expires`.
    Renew {
        /// Hash of the live set, see [`crate::log::live_set_hash`].
        live: Digest,
    },
}

/// Signs headers with the participant's key.
pub trait EnvelopeSigner {
    /// A compact JWS (ES256) of `payload` with `typ`, and the signer's chain in DER, leaf first.
    fn sign(&self, typ: &str, payload: &[u8], issued: UnixMillis) -> Result<(String, Vec<Vec<u8>>), Refusal>;
}

/// Checks signatures, certificate chains, revocation and membership.
pub trait EnvelopeVerifier {
    /// Verifies a compact JWS of type [`JWS_TYPE`] against the chain that came with it.
    ///
    /// Chain to the data space's authority, not revoked, `kid` = the certificate's participant. A certificate that
    /// has expired since is accepted: its validity at the time of issue is checked by [`verify`].
    fn verify(&self, jws: &str, certificates: &[Vec<u8>]) -> Result<VerifiedSignature, Refusal>;
}

/// What a verified signature proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// The participant of the certificate that signed.
    pub signer: ParticipantId,
    /// The subject base of the signer's current statement.
    pub subject_base: SubjectBase,
    /// The certificate's validity.
    pub certificate_not_before: UnixMillis,
    /// End of the certificate's validity.
    pub certificate_not_after: UnixMillis,
}

/// An envelope whose signature, sizes, times and content hash hold; only [`verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedEnvelope {
    header: Header,
    hash: Digest,
    subject_base: SubjectBase,
    certificate_not_before: UnixMillis,
}

impl VerifiedEnvelope {
    /// The header that was signed.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The envelope's hash: of its header bytes.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// Where the publisher's subjects lie.
    pub fn subject_base(&self) -> &SubjectBase {
        &self.subject_base
    }

    /// Since when the signing certificate is valid: a new epoch needs a newer one.
    pub fn certificate_not_before(&self) -> UnixMillis {
        self.certificate_not_before
    }
}

/// Signs `header` over `content`.
pub fn seal(header: &Header, content: Vec<u8>, signer: &dyn EnvelopeSigner) -> Result<Envelope, Refusal> {
    let (jws, certificates) = signer.sign(JWS_TYPE, header.to_json().as_bytes(), header.issued)?;
    let envelope = Envelope { header: jws, content, certificates };
    check_sizes(&envelope)?;
    check_content(header, &envelope.content)?;
    Ok(envelope)
}

/// Checks sizes, signature, signer, times and content hash, in this order.
pub fn verify(
    envelope: &Envelope,
    verifier: &dyn EnvelopeVerifier,
    now: UnixMillis,
) -> Result<VerifiedEnvelope, Refusal> {
    check_sizes(envelope)?;
    let signature = verifier.verify(&envelope.header, &envelope.certificates)?;
    let header = Header::from_json(&signature.payload)?;
    if header.publisher != signature.signer {
        return Err(Refusal::new(
            &WRONG_SIGNER,
            format!("log of {}, signed by {}", header.publisher, signature.signer),
        ));
    }
    if header.issued < signature.certificate_not_before || header.issued > signature.certificate_not_after {
        return Err(Refusal::new(&WRONG_SIGNER, format!("certificate not valid at {}", header.issued)));
    }
    if header.issued.millis_since(now) > MAX_CLOCK_AHEAD_MILLIS {
        return Err(Refusal::new(&ISSUED_IN_FUTURE, format!("issued {}, now {now}", header.issued)));
    }
    check_content(&header, &envelope.content)?;
    Ok(VerifiedEnvelope {
        hash: Digest::of(&signature.payload),
        header,
        subject_base: signature.subject_base,
        certificate_not_before: signature.certificate_not_before,
    })
}

impl Header {
    /// The bytes that are signed: RFC 8785 JSON; numbers that may pass 2^53 are strings.
    pub fn to_json(&self) -> String {
        let mut object = json!({
            "version": HEADER_VERSION,
            "publisher": self.publisher.as_str(),
            "epoch": self.epoch,
            "seq": self.seq.to_string(),
            "issued": self.issued.to_string(),
            "expires": self.expires.to_string(),
            "kind": self.kind.name(),
        });
        if let Value::Object(members) = &mut object {
            let mut put = |name: &str, value: String| {
                members.insert(name.to_owned(), Value::String(value));
            };
            if let Some(prev) = self.prev {
                put("prev", prev.to_string());
            }
            match &self.kind {
                Kind::Publish { dataset, content } => {
                    put("graph", dataset.to_string());
                    put("content", content.to_string());
                }
                Kind::Withdraw { dataset } => put("graph", dataset.to_string()),
                Kind::Renew { live } => put("live", live.to_string()),
            }
        }
        // Members are ASCII names in sorted order and values are strings or small integers: `Value`'s own writing,
        // with its sorted map, is RFC 8785 already; serde_jcs guards that against feature unions.
        serde_jcs::to_string(&object).unwrap_or_else(|_| object.to_string())
    }

    /// Reads header bytes; anything but the exact bytes of [`Header::to_json`] is refused.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Refusal> {
        let refuse = |what: &str| Refusal::new(&MALFORMED_ENVELOPE, what.to_owned());
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| refuse(&printable(&error.to_string())))?;
        let object = value.as_object().ok_or_else(|| refuse("not an object"))?;
        let version = object.get("version").and_then(Value::as_u64);
        if version != Some(HEADER_VERSION) {
            return Err(refuse("version"));
        }
        let header = Self {
            publisher: ParticipantId::parse(text(object, "publisher")?)?,
            epoch: object
                .get("epoch")
                .and_then(Value::as_u64)
                .and_then(|epoch| u32::try_from(epoch).ok())
                .filter(|epoch| *epoch > 0)
                .ok_or_else(|| refuse("epoch"))?,
            seq: text(object, "seq")?.parse().ok().filter(|seq| *seq > 0).ok_or_else(|| refuse("seq"))?,
            prev: if object.contains_key("prev") {
                Some(Digest::parse(text(object, "prev")?)?)
            } else {
                None
            },
            kind: Kind::from_json(object)?,
            issued: instant(object, "issued")?,
            expires: instant(object, "expires")?,
        };
        if header.prev.is_some() != (header.seq > 1) {
            return Err(refuse("prev"));
        }
        let lifetime = header.expires.millis_since(header.issued);
        if lifetime <= 0 || lifetime > MAX_LIFETIME_MILLIS {
            return Err(Refusal::new(
                &LIFETIME,
                format!("issued {}, expires {}", header.issued, header.expires),
            ));
        }
        if header.to_json().as_bytes() != bytes {
            return Err(refuse("not in canonical form, or unknown members"));
        }
        Ok(header)
    }
}

impl Kind {
    /// The name in the header.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Publish { .. } => "PUBLISH",
            Self::Withdraw { .. } => "WITHDRAW",
            Self::Renew { .. } => "RENEW",
        }
    }

    /// The dataset that it is about, if it is about one.
    pub const fn dataset(&self) -> Option<&DatasetId> {
        match self {
            Self::Publish { dataset, .. } | Self::Withdraw { dataset } => Some(dataset),
            Self::Renew { .. } => None,
        }
    }

    fn from_json(object: &Map<String, Value>) -> Result<Self, Refusal> {
        let dataset = || DatasetId::parse(text(object, "graph")?);
        match text(object, "kind")? {
            "PUBLISH" => {
                Ok(Self::Publish { dataset: dataset()?, content: Digest::parse(text(object, "content")?)? })
            }
            "WITHDRAW" => Ok(Self::Withdraw { dataset: dataset()? }),
            "RENEW" => Ok(Self::Renew { live: Digest::parse(text(object, "live")?)? }),
            other => Err(Refusal::new(&MALFORMED_ENVELOPE, format!("kind `{}`", printable(other)))),
        }
    }
}

pub(crate) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refusal> {
    object
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| Refusal::new(&MALFORMED_ENVELOPE, format!("`{name}`")))
}

pub(crate) fn instant(object: &Map<String, Value>, name: &str) -> Result<UnixMillis, Refusal> {
    let refuse = || Refusal::new(&MALFORMED_ENVELOPE, format!("`{name}`"));
    UnixMillis::parse_rfc3339(text(object, name)?).ok_or_else(refuse)
}

fn check_sizes(envelope: &Envelope) -> Result<(), Refusal> {
    let large = envelope.header.len() > MAX_HEADER_BYTES
        || envelope.content.len() > MAX_BYTES
        || envelope.certificates.len() > MAX_CERTIFICATES
        || envelope.certificates.iter().any(|certificate| certificate.len() > MAX_CERTIFICATE_BYTES);
    if large { Err(Refusal::new(&ENVELOPE_TOO_LARGE, "")) } else { Ok(()) }
}

fn check_content(header: &Header, content: &[u8]) -> Result<(), Refusal> {
    let matches = match &header.kind {
        Kind::Publish { content: signed, .. } => Digest::of(content) == *signed,
        Kind::Withdraw { .. } | Kind::Renew { .. } => content.is_empty(),
    };
    if matches {
        Ok(())
    } else {
        Err(Refusal::new(&CONTENT_DIFFERS, format!("{} {}", header.publisher, header.seq)))
    }
}
