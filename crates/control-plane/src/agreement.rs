//! The agreement and its two signatures as values: what both sides signed, and proof that both did.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use policy::refusal::Refusal;
use policy::time::UnixMillis;
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::ids::{AgreementId, ConsumerPid, DatasetId, ParticipantId, ProviderPid, printable};
use crate::pids::Role;
use crate::terms::{self, Offer};

policy::refusal_codes! {
    SIGNATURE_MALFORMED = "agreement/signature-malformed", Input,
        "the signature is not a compact JWS over this agreement by this party",
        "簽章不是該方對此協議所作的緊湊 JWS", "签名不是该方对此协议所作的紧凑 JWS",
        clause "RFC 7515", next "sign the canonical agreement text with typ `fairlead-agreement+jws`, the signer as kid, and the annex digest";
    SIGNATURE_WRONG_PARTY = "agreement/signature-wrong-party", Input,
        "the agreement is signed by somebody who is not the party that must sign here",
        "簽署協議者並非此處應簽署的一方", "签署协议者并非此处应签署的一方",
        clause "RFC 7515", next "let the assigner and the assignee sign, each with its own key";
    ANNEX_DIFFERS = "agreement/annex-differs", Input,
        "the signatures do not carry the annex digest of this negotiation",
        "簽章所載附件摘要與此次協商不符", "签名所载附件摘要与此次协商不符",
        clause "proto/fairlead/dsp: annex of an agreement", next "sign with the digest of the annex that both sides derive from the last accepted offer";
}

/// The JWS `typ` of an agreement's signature.
pub const SIGNATURE_TYPE: &str = "fairlead-agreement+jws";
/// The largest compact JWS taken: the largest agreement in base64 with its header and signature.
pub const MAX_JWS_BYTES: usize = terms::MAX_POLICY_BYTES / 3 * 4 + 16 * 1024;

/// An agreement: its canonical text, and typed copies read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    text: String,
    id: AgreementId,
    target: DatasetId,
    assigner: ParticipantId,
    assignee: ParticipantId,
    timestamp: UnixMillis,
    timestamp_text: String,
    hash: Digest,
}

impl Agreement {
    /// Reads a canonical (RFC 8785) agreement text. Whether its rules are understood is the policy engine's question.
    ///
    /// # Errors
    /// The codes of [`Offer::parse`]; parties must be participants of this data space, the timestamp RFC 3339.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let object = terms::canonical_object(text)?;
        object.expect("@type", "Agreement")?;
        let timestamp_text = object.text("timestamp")?;
        let timestamp = UnixMillis::parse_rfc3339(timestamp_text)
            .ok_or_else(|| Refusal::new(&terms::MEMBER_MISSING, "`timestamp` is not an RFC 3339 instant"))?;
        Ok(Self {
            text: text.to_owned(),
            id: AgreementId::parse(object.text("@id")?)?,
            target: DatasetId::parse(object.text("target")?)?,
            assigner: ParticipantId::parse(object.text("assigner")?)?,
            assignee: ParticipantId::parse(object.text("assignee")?)?,
            timestamp,
            timestamp_text: timestamp_text.to_owned(),
            hash: Digest::of(text.as_bytes()),
        })
    }

    /// Demands that copies which travelled beside the text say the same.
    ///
    /// # Errors
    /// [`terms::COPY_DIFFERS`] naming the member.
    pub fn require_copies(
        &self,
        id: &str,
        target: &str,
        assigner: &str,
        assignee: &str,
        timestamp: &str,
    ) -> Result<(), Refusal> {
        terms::same_copy("@id", self.id.as_str(), id)?;
        terms::same_copy("target", self.target.as_str(), target)?;
        terms::same_copy("assigner", self.assigner.as_str(), assigner)?;
        terms::same_copy("assignee", self.assignee.as_str(), assignee)?;
        terms::same_copy("timestamp", &self.timestamp_text, timestamp)
    }

    /// The canonical text, byte for byte as it is signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The agreement's uid.
    pub fn id(&self) -> &AgreementId {
        &self.id
    }

    /// The dataset it is about.
    pub fn target(&self) -> &DatasetId {
        &self.target
    }

    /// Who grants: the provider.
    pub fn assigner(&self) -> &ParticipantId {
        &self.assigner
    }

    /// Who is bound: the consumer.
    pub fn assignee(&self) -> &ParticipantId {
        &self.assignee
    }

    /// When the provider made it.
    pub fn timestamp(&self) -> UnixMillis {
        self.timestamp
    }

    /// `timestamp` as it stands in the text.
    pub fn timestamp_text(&self) -> &str {
        &self.timestamp_text
    }

    /// SHA-256 of the canonical text.
    pub fn hash(&self) -> &Digest {
        &self.hash
    }

    /// The participant in `role`.
    pub fn party(&self, role: Role) -> &ParticipantId {
        match role {
            Role::Consumer => &self.assignee,
            Role::Provider => &self.assigner,
        }
    }
}

/// What both signatures stand for beside the agreement: which offer was accepted last, in which negotiation.
///
/// Both sides derive it; it never travels. Its digest is the `annex` of both protected headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annex {
    text: String,
    digest: Digest,
}

impl Annex {
    /// The annex of one negotiation with `offer` on the table.
    pub fn of(offer: &Offer, provider: &ProviderPid, consumer: &ConsumerPid) -> Self {
        // Written by hand because it is its own RFC 8785 form: members sorted, and digests and identifiers are
        // visible ASCII, where only `"` and `\` need an escape; serde_json's escapes of those are RFC 8785's.
        let quoted = |text: &str| Value::from(text).to_string();
        let text = format!(
            r#"{{"consumerPid":{},"offer":{},"providerPid":{},"version":1}}"#,
            quoted(consumer.as_str()),
            quoted(offer.hash().as_str()),
            quoted(provider.as_str()),
        );
        Self { digest: Digest::of(text.as_bytes()), text }
    }

    /// The annex's RFC 8785 text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text: the value of `annex` in a signature's protected header.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// One party's signature over one agreement, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartySignature {
    party: ParticipantId,
    jws: String,
    annex: Digest,
    agreement: Digest,
}

impl PartySignature {
    /// Holds a signature that was just verified, or just made by us.
    ///
    /// Call it **only after** the JWS was verified against a certificate of its `kid` that was valid then (the
    /// cryptography is not this crate's). What can be read without a key is checked here: that the payload is
    /// this agreement's text, the type is [`SIGNATURE_TYPE`], an annex digest is there, and `kid` is one of the
    /// agreement's parties.
    ///
    /// # Errors
    /// [`SIGNATURE_MALFORMED`] or [`SIGNATURE_WRONG_PARTY`].
    pub fn verified(jws: &str, agreement: &Agreement) -> Result<Self, Refusal> {
        let refuse = |why: &str| Refusal::new(&SIGNATURE_MALFORMED, why);
        if jws.len() > MAX_JWS_BYTES {
            return Err(refuse("longer than any agreement's signature"));
        }
        let parts = CompactJws::split(jws).ok_or_else(|| refuse("not three parts in base64url"))?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| refuse("not base64url"));
        if decode(parts.payload)? != agreement.text.as_bytes() {
            return Err(refuse("the payload is not this agreement"));
        }
        decode(parts.signature)?;
        let header: Value = serde_json::from_slice(&decode(parts.protected)?)
            .map_err(|_| refuse("the header is not JSON"))?;
        let text = |member: &str| header.get(member).and_then(Value::as_str);
        if text("typ") != Some(SIGNATURE_TYPE) {
            return Err(refuse("`typ` is not that of an agreement"));
        }
        let party = ParticipantId::parse(text("kid").ok_or_else(|| refuse("`kid` is missing"))?)?;
        if party != agreement.assigner && party != agreement.assignee {
            return Err(Refusal::new(&SIGNATURE_WRONG_PARTY, format!("`{}`", printable(party.as_str()))));
        }
        let annex = text("annex").and_then(Digest::parse).ok_or_else(|| refuse("`annex` is not a digest"))?;
        Ok(Self { party, jws: jws.to_owned(), annex, agreement: agreement.hash.clone() })
    }

    /// Who signed.
    pub fn party(&self) -> &ParticipantId {
        &self.party
    }

    /// The compact JWS.
    pub fn jws(&self) -> &str {
        &self.jws
    }

    /// The annex digest that was signed.
    pub fn annex(&self) -> &Digest {
        &self.annex
    }

    /// Demands that this is `party`'s signature over `agreement`.
    pub(crate) fn require(&self, party: &ParticipantId, agreement: &Agreement) -> Result<(), Refusal> {
        if self.agreement != agreement.hash {
            return Err(Refusal::new(&SIGNATURE_MALFORMED, "made over another agreement"));
        }
        if self.party != *party {
            return Err(Refusal::new(
                &SIGNATURE_WRONG_PARTY,
                format!("`{}` instead of `{party}`", self.party),
            ));
        }
        Ok(())
    }
}

/// Whether a counterparty must sign an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// It must: a member of our data space.
    Required,
    /// It need not: a peer that speaks only the Dataspace Protocol, which knows no signatures. Set for such a peer
    /// by configuration, never by what a message says.
    IfOffered,
}

/// What the provider holds when it concludes: the agreement, with the assigner's signature if it signs at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPart {
    agreement: Agreement,
    assigner: Option<PartySignature>,
}

impl SignedPart {
    /// Joins the agreement and its assigner's signature.
    ///
    /// # Errors
    /// [`SIGNATURE_WRONG_PARTY`] or [`SIGNATURE_MALFORMED`].
    pub fn new(agreement: Agreement, assigner: PartySignature) -> Result<Self, Refusal> {
        assigner.require(&agreement.assigner, &agreement)?;
        Ok(Self { agreement, assigner: Some(assigner) })
    }

    /// The agreement of an assigner that does not sign; only under [`Signing::IfOffered`].
    pub fn unsigned(agreement: Agreement) -> Self {
        Self { agreement, assigner: None }
    }

    /// The agreement.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The assigner's signature.
    pub fn assigner_signature(&self) -> Option<&PartySignature> {
        self.assigner.as_ref()
    }

    /// Adds the assignee's signature.
    ///
    /// # Errors
    /// [`SIGNATURE_WRONG_PARTY`], [`SIGNATURE_MALFORMED`] or [`ANNEX_DIFFERS`].
    pub fn countersigned(self, assignee: PartySignature) -> Result<SignedAgreement, Refusal> {
        assignee.require(&self.agreement.assignee, &self.agreement)?;
        let signatures = match self.assigner {
            Some(assigner) if assigner.annex != assignee.annex => {
                return Err(Refusal::new(
                    &ANNEX_DIFFERS,
                    format!("assigner {}, assignee {}", assigner.annex, assignee.annex),
                ));
            }
            Some(assigner) => Signatures::Both { assigner, assignee },
            None => Signatures::Assignee(assignee),
        };
        Ok(SignedAgreement { agreement: self.agreement, signatures })
    }

    /// The agreement that its assignee verified without signing; only under [`Signing::IfOffered`].
    ///
    /// # Errors
    /// [`SIGNATURE_WRONG_PARTY`] if nobody signed: one of the parties is us, and we always sign.
    pub fn uncountersigned(self) -> Result<SignedAgreement, Refusal> {
        let assigner =
            self.assigner.ok_or_else(|| Refusal::new(&SIGNATURE_WRONG_PARTY, "neither party signed"))?;
        Ok(SignedAgreement { agreement: self.agreement, signatures: Signatures::Assigner(assigner) })
    }
}

/// An agreement that is enforced: both parties signed it over the same annex, or we did and the other party is one
/// whose configuration says [`Signing::IfOffered`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAgreement {
    agreement: Agreement,
    signatures: Signatures,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Signatures {
    Both { assigner: PartySignature, assignee: PartySignature },
    Assigner(PartySignature),
    Assignee(PartySignature),
}

impl SignedAgreement {
    /// The agreement.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The provider's signature.
    pub fn assigner_signature(&self) -> Option<&PartySignature> {
        match &self.signatures {
            Signatures::Both { assigner, .. } | Signatures::Assigner(assigner) => Some(assigner),
            Signatures::Assignee(_) => None,
        }
    }

    /// The consumer's signature.
    pub fn assignee_signature(&self) -> Option<&PartySignature> {
        match &self.signatures {
            Signatures::Both { assignee, .. } | Signatures::Assignee(assignee) => Some(assignee),
            Signatures::Assigner(_) => None,
        }
    }

    /// The party that did not sign, if one did not.
    pub fn unsigned_by(&self) -> Option<Role> {
        match &self.signatures {
            Signatures::Both { .. } => None,
            Signatures::Assigner(_) => Some(Role::Consumer),
            Signatures::Assignee(_) => Some(Role::Provider),
        }
    }

    /// The annex digest that was signed.
    pub fn annex(&self) -> &Digest {
        match &self.signatures {
            Signatures::Both { assigner, .. } | Signatures::Assigner(assigner) => &assigner.annex,
            Signatures::Assignee(assignee) => &assignee.annex,
        }
    }

    /// The signatures as one JWS JSON document (RFC 7515, 7.2.1), RFC 8785 form, assigner first.
    ///
    /// # Errors
    /// [`SIGNATURE_MALFORMED`] is unreachable for values made by this crate, and returned rather than assumed.
    pub fn document(&self) -> Result<String, Refusal> {
        let refuse = || Refusal::new(&SIGNATURE_MALFORMED, "cannot be written as a JWS JSON document");
        let mut payload = None;
        let mut signatures = Vec::new();
        for signature in [self.assigner_signature(), self.assignee_signature()].into_iter().flatten() {
            let parts = CompactJws::split(&signature.jws).ok_or_else(refuse)?;
            signatures.push(json!({"protected": parts.protected, "signature": parts.signature}));
            payload = Some(parts.payload);
        }
        let document = json!({"payload": payload.ok_or_else(refuse)?, "signatures": signatures});
        serde_jcs::to_string(&document).map_err(|_| refuse())
    }
}

struct CompactJws<'a> {
    protected: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> CompactJws<'a> {
    fn split(jws: &'a str) -> Option<Self> {
        let mut parts = jws.split('.');
        let (protected, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        (parts.next().is_none() && !signature.is_empty()).then_some(Self { protected, payload, signature })
    }
}
