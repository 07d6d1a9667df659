//! Offers as they stand on the table, and the questions about terms that only a policy engine can answer.

use policy::refusal::Refusal;
use serde_json::Value;

use crate::agreement::Agreement;
use crate::digest::Digest;
use crate::ids::{DatasetId, OfferId};
use crate::pids::Role;

policy::refusal_codes! {
    NOT_CANONICAL = "message/not-canonical", Input,
        "an offer or agreement must be one JSON object in its RFC 8785 form",
        "要約或協議須為一個符合 RFC 8785 形式的 JSON 物件", "要约或协议须为一个符合 RFC 8785 形式的 JSON 对象",
        clause "RFC 8785; ODRL Information Model 2.2: offer", next "send the canonical text exactly as it was published";
    POLICY_TOO_LARGE = "limit/policy-too-large", Limit,
        "an offer or agreement text is larger than 256 KiB",
        "要約或協議文字超過 256 KiB", "要约或协议文本超过 256 KiB",
        clause "bound: policy text", next "publish fewer or shorter rules";
    MEMBER_MISSING = "message/policy-member", Input,
        "a member of the offer or agreement is missing or has the wrong value",
        "要約或協議缺少某成員或其值不正確", "要约或协议缺少某成员或其值不正确",
        clause "DSP 2025-1, 1.4", next "send `@id`, `@type`, `target` and, in an agreement, both parties and the timestamp";
    COPY_DIFFERS = "message/copy-differs", Input,
        "a typed copy beside the canonical text says something else than the text",
        "規範文字旁的欄位副本與文字不一致", "规范文本旁的字段副本与文本不一致",
        clause "protocol: one canonical text", next "derive the copies from the canonical text";
}

/// The largest offer or agreement text: hundreds of rules, and still a small message.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

/// An offer: its canonical text, and what the machine needs of it, read from that text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    text: String,
    id: OfferId,
    target: DatasetId,
    hash: Digest,
}

impl Offer {
    /// Reads a canonical (RFC 8785) offer text. Whether its rules are understood is the policy engine's question.
    ///
    /// # Errors
    /// [`POLICY_TOO_LARGE`], [`NOT_CANONICAL`], [`MEMBER_MISSING`], or an identifier's refusal.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let object = canonical_object(text)?;
        object.expect("@type", "Offer")?;
        Ok(Self {
            text: text.to_owned(),
            id: OfferId::parse(object.text("@id")?)?,
            target: DatasetId::parse(object.text("target")?)?,
            hash: Digest::of(text.as_bytes()),
        })
    }

    /// Demands that copies which travelled beside the text say the same.
    ///
    /// # Errors
    /// [`COPY_DIFFERS`] naming the member.
    pub fn require_copies(&self, id: &str, target: &str) -> Result<(), Refusal> {
        same_copy("@id", self.id.as_str(), id)?;
        same_copy("target", self.target.as_str(), target)
    }

    /// The canonical text, byte for byte as it was signed or sent.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The offer's uid.
    pub fn id(&self) -> &OfferId {
        &self.id
    }

    /// The dataset it is about.
    pub fn target(&self) -> &DatasetId {
        &self.target
    }

    /// SHA-256 of the canonical text.
    pub fn hash(&self) -> &Digest {
        &self.hash
    }
}

/// Where an offer stands against what the provider published for the dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The provider published an offer of this uid with the same rules.
    Published,
    /// The uid is published, the rules differ: a counter-offer.
    Altered,
    /// The provider published no offer of this uid for this dataset.
    Unknown,
}

/// What the machine asks about terms; the connector answers with the policy engine and the catalogue.
pub trait Terms {
    /// Where `offer` stands against the offers that `offer.target()` was published with.
    fn standing(&self, offer: &Offer) -> Standing;

    /// Whether the agreement has the offer's rules, ignoring uid, type, parties and timestamp.
    fn terms_equal(&self, offer: &Offer, agreement: &Agreement) -> bool;
}

/// The offer that both sides look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The offer.
    pub offer: Offer,
    /// Who made it last: the consumer's request or the provider's offer.
    pub by: Role,
    /// Its terms differ from every published one: never to be agreed without an explicit decision.
    pub terms_altered: bool,
}

pub(crate) struct Object(serde_json::Map<String, Value>);

impl Object {
    pub(crate) fn text(&self, member: &str) -> Result<&str, Refusal> {
        match self.0.get(member) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(Refusal::new(&MEMBER_MISSING, format!("`{member}` is not a string"))),
            None => Err(Refusal::new(&MEMBER_MISSING, format!("`{member}` is missing"))),
        }
    }

    pub(crate) fn expect(&self, member: &str, value: &str) -> Result<(), Refusal> {
        if self.text(member)? == value {
            return Ok(());
        }
        Err(Refusal::new(&MEMBER_MISSING, format!("`{member}` is not `{value}`")))
    }
}

/// Reads one JSON object whose text is already its RFC 8785 form. Doubled members fail, as they do not survive
/// writing.
pub(crate) fn canonical_object(text: &str) -> Result<Object, Refusal> {
    if text.len() > MAX_POLICY_BYTES {
        return Err(Refusal::new(&POLICY_TOO_LARGE, format!("{} bytes", text.len())));
    }
    let refuse = |why: String| Refusal::new(&NOT_CANONICAL, why);
    let value: Value = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
    let canonical = serde_jcs::to_string(&value).map_err(|error| refuse(error.to_string()))?;
    if canonical != text {
        return Err(refuse("the text differs from its RFC 8785 form".to_owned()));
    }
    match value {
        Value::Object(members) => Ok(Object(members)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(refuse("not an object".to_owned()))
        }
    }
}

pub(crate) fn same_copy(member: &str, text: &str, copy: &str) -> Result<(), Refusal> {
    if text == copy {
        return Ok(());
    }
    Err(Refusal::new(
        &COPY_DIFFERS,
        format!("`{member}`: text `{text}`, copy `{}`", crate::ids::printable(copy)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &'static policy::refusal::Code>) {
        let got = Offer::parse(text);
        assert_eq!(
            got.as_ref().map(|offer| offer.id().as_str()).map_err(|refusal| refusal.code),
            expected,
            "{text}"
        );
    }

    #[test]
    fn offers() {
        check(r#"{"@id":"o","@type":"Offer","target":"d"}"#, Ok("o"));
        check(r#"{"@type":"Offer","@id":"o","target":"d"}"#, Err(&NOT_CANONICAL));
        check(r#"{"@id":"o","@id":"o","@type":"Offer","target":"d"}"#, Err(&NOT_CANONICAL));
        check(r#"{"@id":"o", "@type":"Offer","target":"d"}"#, Err(&NOT_CANONICAL));
        check("[]", Err(&NOT_CANONICAL));
        check("", Err(&NOT_CANONICAL));
        check(&format!("{}{}", "[".repeat(1000), "]".repeat(1000)), Err(&NOT_CANONICAL));
        check(&" ".repeat(MAX_POLICY_BYTES + 1), Err(&POLICY_TOO_LARGE));
        check(r#"{"@id":"o","@type":"Agreement","target":"d"}"#, Err(&MEMBER_MISSING));
        check(r#"{"@id":"o","@type":"Offer"}"#, Err(&MEMBER_MISSING));
        check(r#"{"@id":1,"@type":"Offer","target":"d"}"#, Err(&MEMBER_MISSING));
        check(r#"{"@id":"","@type":"Offer","target":"d"}"#, Err(&crate::ids::MALFORMED_ID));
    }

    #[test]
    fn copies() {
        let offer = Offer::parse(r#"{"@id":"o","@type":"Offer","target":"d"}"#).unwrap();
        assert_eq!(offer.require_copies("o", "d"), Ok(()));
        assert_eq!(offer.require_copies("x", "d").unwrap_err().code, &COPY_DIFFERS);
        assert_eq!(offer.require_copies("o", "x").unwrap_err().code, &COPY_DIFFERS);
    }
}
