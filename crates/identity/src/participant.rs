//! Makes a peer a participant: live certificate and current statement, each checked, each about the same member.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use rustls::pki_types::CertificateDer;

use crate::certificate::ParticipantCertificate;
use crate::digest::Digest;
use crate::jws::{MAX_CLOCK_AHEAD_MILLIS, Typ};
use crate::statement::Statement;
use crate::tls_error::refusal_of;
use crate::trust::TrustState;

policy::refusal_codes! {
    STATEMENT_MISSING = "identity/statement-missing", Identity,
        "the peer showed no membership statement", "對方未出示成員聲明", "对方未出示成员声明",
        clause "proto/fairlead/identity: Exchange", next "fetch the statement from the authority and connect again";
    STATEMENT_FORGED = "identity/statement-forged", Identity,
        "the membership statement was not signed by the authority", "成員聲明並非由管理機構簽署",
        "成员声明并非由管理机构签署",
        clause "security model: who is who", next "fetch the statement from the authority; tell the authority if this recurs";
    STATEMENT_OF_SOMEBODY_ELSE = "identity/statement-of-somebody-else", Identity,
        "the membership statement is about another participant", "成員聲明屬於另一參與者", "成员声明属于另一参与者",
        clause "security model: who is who", next "show the statement of the participant in the certificate";
    STATEMENT_EXPIRED = "identity/statement-expired", Identity,
        "the membership statement has expired", "成員聲明已過期", "成员声明已过期",
        clause "security model: who is who", next "fetch a new statement from the authority";
    STATEMENT_NOT_YET_VALID = "identity/statement-not-yet-valid", Identity,
        "the membership statement was issued in the future", "成員聲明的簽發時間在未來", "成员声明的签发时间在未来",
        clause "security model: who is who", next "compare the clocks of both sides and the authority";
    STATEMENT_SUPERSEDED = "identity/statement-superseded", Identity,
        "a newer membership statement replaces this one", "此成員聲明已被較新者取代", "此成员声明已被较新者取代",
        clause "security model: who is who", next "fetch the newest statement from the authority";
    STATEMENT_THUMBPRINT_MISMATCH = "identity/statement-thumbprint-mismatch", Identity,
        "the membership statement does not name the certificate in use", "成員聲明未列出所用的證書",
        "成员声明未列出所用的证书",
        clause "security model: who is who", next "fetch the statement that was issued with this certificate";
}

/// A peer whose certificate and membership were verified. [`verify_participant`] is the only way to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedParticipant {
    certificate: ParticipantCertificate,
    chain: Vec<CertificateDer<'static>>,
    statement: Statement,
    statement_jws: String,
    valid_until: UnixMillis,
}

impl VerifiedParticipant {
    /// Who.
    pub fn id(&self) -> &ParticipantId {
        self.certificate.participant()
    }

    /// Thumbprint of the live certificate.
    pub fn thumbprint(&self) -> Digest {
        self.certificate.thumbprint()
    }

    /// The live certificate, to be remembered for its signatures.
    pub fn certificate(&self) -> &ParticipantCertificate {
        &self.certificate
    }

    /// What the authority attests about it.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The statement as it was signed.
    pub fn statement_jws(&self) -> &str {
        &self.statement_jws
    }

    /// The end of the verdict: the shortest of certificates, statement and revocation lists.
    pub fn valid_until(&self) -> UnixMillis {
        self.valid_until
    }

    /// The verdict anew, under newer lists and sequences; a refusal closes the connection.
    pub fn recheck(&self, trust: &TrustState, now: UnixMillis) -> Result<Self, Refusal> {
        verify_participant(&self.chain, &self.statement_jws, trust, now)
    }
}

/// Decides who the peer is from the chain of the live connection (leaf first) and its statement (empty: none shown).
/// An accepted statement's sequence becomes the lowest that counts.
pub fn verify_participant(
    chain: &[CertificateDer<'_>],
    statement_jws: &str,
    trust: &TrustState,
    now: UnixMillis,
) -> Result<VerifiedParticipant, Refusal> {
    let checked = trust.check_chain(chain, now).map_err(|error| refusal_of(&error))?;
    let certificate = checked.certificate;
    if statement_jws.is_empty() {
        return Err(Refusal::new(&STATEMENT_MISSING, format!("`{}`", certificate.participant())));
    }
    let statement = trust.verify_authority(statement_jws, Typ::Statement, now).map_err(|cause| {
        Refusal::new(&STATEMENT_FORGED, format!("`{}`: {cause}", certificate.participant()))
    })?;
    let statement = Statement::read(statement.payload())?;
    let refuse =
        |code, detail: String| Err(Refusal::new(code, format!("`{}`: {detail}", certificate.participant())));
    if &statement.participant != certificate.participant() {
        return refuse(&STATEMENT_OF_SOMEBODY_ELSE, format!("about `{}`", statement.participant));
    }
    if now >= statement.expires {
        return refuse(&STATEMENT_EXPIRED, format!("at {}", statement.expires));
    }
    if statement.issued.millis_since(now) > MAX_CLOCK_AHEAD_MILLIS {
        return refuse(&STATEMENT_NOT_YET_VALID, format!("issued {}, here it is {now}", statement.issued));
    }
    let lowest = trust.minimum_sequence(&statement.participant);
    if statement.sequence < lowest {
        return refuse(&STATEMENT_SUPERSEDED, format!("sequence {}, at least {lowest}", statement.sequence));
    }
    if !statement.certificates.contains(&certificate.thumbprint()) {
        return refuse(&STATEMENT_THUMBPRINT_MISMATCH, certificate.thumbprint().to_string());
    }
    trust.known_sequences().observe(&statement.participant, statement.sequence);
    Ok(VerifiedParticipant {
        valid_until: checked.valid_until.min(statement.expires),
        chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
        statement_jws: statement_jws.to_owned(),
        certificate,
        statement,
    })
}

/// The highest statement sequence accepted from each participant.
#[derive(Debug, Default)]
pub struct KnownSequences(Mutex<BTreeMap<ParticipantId, u64>>);

impl KnownSequences {
    /// Sequences kept from an earlier run.
    pub fn load(kept: impl IntoIterator<Item = (ParticipantId, u64)>) -> Self {
        Self(Mutex::new(kept.into_iter().collect()))
    }

    /// The highest sequence seen from `participant`, zero without any.
    pub fn highest(&self, participant: &ParticipantId) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(participant).copied().unwrap_or(0)
    }

    /// Notes a sequence; a lower one than before changes nothing.
    pub fn observe(&self, participant: &ParticipantId, sequence: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = known.entry(participant.clone()).or_default();
        *highest = sequence.max(*highest);
    }

    /// All of them, to be kept.
    pub fn snapshot(&self) -> Vec<(ParticipantId, u64)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(participant, sequence)| (participant.clone(), *sequence)).collect()
    }
}
