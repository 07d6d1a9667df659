//! Tests with certificates made on the spot: one good world, and every departure from it by name.

mod authority;
mod bearer;
mod chains;
mod fixtures;
mod handshakes;
mod participants;
mod signatures;

use std::sync::Arc;

use control_plane::UnixMillis;
use control_plane::ids::ParticipantId;

use crate::minting::{Mint, Minted, MintingAuthority};
use crate::tls::Clock;
use crate::{
    Digest, LegalName, Membership, MinimumSequences, SecurityProfile, Statement, TlsIdentity, TrustState,
    membership,
};

/// 2026-11-25T00:00:00Z.
const NOW: UnixMillis = UnixMillis(1_795_564_800_000);
const MINUTE: i64 = 60 * 1000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const AUTHORITY: &str = "https://dataspace.example/id/authority";
const HKU: &str = "https://campus.example/id/hku";
const SZU: &str = "https://campus.example/id/szu";

fn id(text: &str) -> ParticipantId {
    ParticipantId::parse(text).unwrap()
}

fn clock_at(now: UnixMillis) -> Clock {
    Arc::new(move || now)
}

/// An authority in memory and what a member trusts: lists of the last hour, no minimums.
struct World {
    authority: MintingAuthority,
    trust: TrustState,
}

impl World {
    fn new() -> Self {
        let authority = MintingAuthority::new(AUTHORITY, NOW).unwrap();
        let trust = trust(&authority, 1, &[]);
        Self { authority, trust }
    }

    fn member(&self, uri: &str) -> Minted {
        self.authority.mint(&Mint::good(uri, NOW)).unwrap()
    }

    fn identity(&self, uri: &str) -> TlsIdentity {
        let minted = self.member(uri);
        TlsIdentity::new(minted.key, minted.chain, self.trust.clone(), clock_at(NOW)).unwrap()
    }

    /// A good statement about the leaf's participant.
    fn statement(&self, uri: &str, minted: &Minted) -> Statement {
        Statement {
            participant: id(uri),
            membership: membership(uri),
            certificates: vec![Digest::of(&minted.chain[0])],
            sequence: 7,
            issued: NOW.plus_millis(-HOUR),
            expires: NOW.plus_millis(7 * DAY),
        }
    }
}

/// Trust in an authority, with its lists of `number`.
fn trust(authority: &MintingAuthority, number: u64, revoked: &[&crate::CertificateDer<'_>]) -> TrustState {
    let lists = authority.lists(number, NOW.plus_millis(-HOUR), NOW.plus_millis(DAY), revoked).unwrap();
    TrustState::new(authority.bundle().unwrap(), std::slice::from_ref(authority.issuing()))
        .updated(&lists, None, NOW)
        .unwrap()
}

fn minimums(authority: &MintingAuthority, number: u64, minimums: &[(&str, u64)]) -> String {
    let minimums = minimums.iter().map(|(uri, sequence)| (id(uri), *sequence)).collect();
    MinimumSequences { number, issued: NOW.plus_millis(-MINUTE), minimums }.sign(authority.signer()).unwrap()
}

fn membership(uri: &str) -> Membership {
    let short = uri.rsplit('/').next().unwrap_or_default();
    Membership {
        legal_name: LegalName {
            en: "The University of Hong Kong".to_owned(),
            zh_hant: Some("香港大學".to_owned()),
            zh_hans: Some("香港大学".to_owned()),
        },
        jurisdiction: membership::Jurisdiction::parse("HK").unwrap(),
        city: "Hong Kong".to_owned(),
        prefixes: vec![membership::AddressPrefix::parse("2001:db8:852::/48").unwrap()],
        addresses: vec![membership::PeerAddress::parse("[2001:db8:852::1]:7443").unwrap()],
        roles: vec![membership::Role::parse("provider").unwrap()],
        security_profile: SecurityProfile::Trust,
        subject_base: membership::SubjectBase::parse(&format!("https://data.example/{short}/")).unwrap(),
    }
}
