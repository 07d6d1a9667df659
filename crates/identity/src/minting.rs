//! Certificates that a real authority would never issue, for tests of this and other crates: two URIs, expired,
//! of a foreign authority. Behind the feature `minting`, which is off by default.

use control_plane::UnixMillis;
use control_plane::ids::ParticipantId;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::CertificateDer;

use crate::authority::Authority;
use crate::authority::ca::{Ca, Leaf};
use crate::error::IdentityError;
use crate::jws::Signer;
use crate::keys::ConnectorKey;
use crate::trust::TrustBundle;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// What to mint. Begins as a good certificate; every departure is named.
#[derive(Clone, Debug)]
pub struct Mint {
    /// The URIs among the subject alternative names.
    pub uris: Vec<String>,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// First instant of validity.
    pub not_before: UnixMillis,
    /// Last instant of validity.
    pub not_after: UnixMillis,
    /// May authenticate a server.
    pub server: bool,
    /// May authenticate a client.
    pub client: bool,
}

impl Mint {
    /// A good certificate for `uri`, valid from the day before `now` to 30 days after.
    pub fn good(uri: &str, now: UnixMillis) -> Self {
        Self {
            uris: vec![uri.to_owned()],
            names: vec!["localhost".to_owned()],
            not_before: now.plus_millis(-DAY_MILLIS),
            not_after: now.plus_millis(30 * DAY_MILLIS),
            server: true,
            client: true,
        }
    }
}

/// A minted key and its chain, leaf first, without root.
#[derive(Debug)]
pub struct Minted {
    /// The leaf's key.
    pub key: ConnectorKey,
    /// Leaf and intermediate.
    pub chain: Vec<CertificateDer<'static>>,
}

/// An authority in memory: for a foreign data space, or for one whose lists and statements a test writes itself.
pub struct MintingAuthority {
    root: Ca,
    issuing: Ca,
    signer: Signer,
}

impl MintingAuthority {
    /// A fresh data space named `id`.
    pub fn new(id: &str, now: UnixMillis) -> Result<Self, IdentityError> {
        let id = ParticipantId::parse(id)?;
        let (from, until) = (now.plus_millis(-DAY_MILLIS), now.plus_millis(3650 * DAY_MILLIS));
        let root = Ca::root(&id, from, until)?;
        let issuing = root.intermediate(from, until)?;
        let mut own = Mint::good(id.as_str(), now);
        own.not_after = until;
        let own = mint_under(&issuing, &own)?;
        let signer = Signer::new(std::sync::Arc::new(own.key), own.chain)?;
        Ok(Self { root, issuing, signer })
    }

    /// Mints under this authority's intermediate.
    pub fn mint(&self, mint: &Mint) -> Result<Minted, IdentityError> {
        mint_under(&self.issuing, mint)
    }

    /// The root.
    pub fn bundle(&self) -> Result<TrustBundle, IdentityError> {
        Ok(TrustBundle::from_der(std::slice::from_ref(&self.root.der))?)
    }

    /// The intermediate.
    pub fn issuing(&self) -> &CertificateDer<'static> {
        &self.issuing.der
    }

    /// Signs statements and sequences as this authority.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The root's list and the intermediate's list, the latter with `revoked` leaves.
    pub fn lists(
        &self,
        number: u64,
        from: UnixMillis,
        next_update: UnixMillis,
        revoked: &[&CertificateDer<'_>],
    ) -> Result<Vec<Vec<u8>>, IdentityError> {
        let mut serials = Vec::new();
        for der in revoked {
            serials.push((crate::certificate::parse(der)?.raw_serial().to_vec(), from));
        }
        Ok(vec![
            self.root.list(number, from, next_update, [])?,
            self.issuing.list(number, from, next_update, serials)?,
        ])
    }

    /// The root's list, revoking the intermediate.
    pub fn root_list_revoking_issuing(
        &self,
        number: u64,
        from: UnixMillis,
        next_update: UnixMillis,
    ) -> Result<Vec<u8>, IdentityError> {
        let serial = crate::certificate::parse(&self.issuing.der)?.raw_serial().to_vec();
        self.root.list(number, from, next_update, [(serial, from)])
    }
}

impl std::fmt::Debug for MintingAuthority {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "MintingAuthority({})", self.signer.participant())
    }
}

/// Mints an odd certificate under a real authority's intermediate, behind its back: the book does not know it.
pub fn mint_under_authority(authority: &Authority, mint: &Mint) -> Result<Minted, IdentityError> {
    mint_under(authority.issuing(), mint)
}

/// The signer of a real authority's statements, to write odd ones.
pub fn signer_of_authority(authority: &Authority, now: UnixMillis) -> Result<Signer, IdentityError> {
    authority.own_signer(now)
}

fn mint_under(issuing: &Ca, mint: &Mint) -> Result<Minted, IdentityError> {
    let mut usages = Vec::new();
    if mint.server {
        usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if mint.client {
        usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    let leaf = Leaf {
        uris: mint.uris.clone(),
        names: mint.names.clone(),
        not_before: mint.not_before,
        not_after: mint.not_after,
        usages,
    };
    let key = ConnectorKey::generate()?;
    let der = issuing.leaf(&leaf, &key.issuing_pair()?)?;
    Ok(Minted { chain: vec![der, issuing.der.clone()], key })
}
