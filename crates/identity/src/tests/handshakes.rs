//! Real handshakes in memory: who gets through, what is negotiated, and that a swap needs no restart.

use std::io;

use control_plane::Code;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::certificate::TWO_PARTICIPANT_URIS;
use crate::tls::{self, enrolment_client_config};
use crate::tls_error::{OTHER_PARTICIPANT, PEER_REFUSED_US, TLS_INCOMPATIBLE};
use crate::trust::{
    CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED, NO_CERTIFICATE, OTHER_AUTHORITY, REVOCATION_LIST_MISSING,
};
use crate::{CertificateDer, EnrolmentToken, classify_io_error};

/// What an end knows after a handshake and one byte each way.
#[derive(Debug)]
struct End {
    peer: Vec<CertificateDer<'static>>,
    version: ProtocolVersion,
    group: NamedGroup,
    alpn: Option<Vec<u8>>,
}

macro_rules! end {
    ($stream:expr) => {{
        let (_, tls) = $stream.get_ref();
        End {
            peer: tls.peer_certificates().unwrap_or_default().to_vec(),
            version: tls.protocol_version().unwrap(),
            group: tls.negotiated_key_exchange_group().unwrap().name(),
            alpn: tls.alpn_protocol().map(<[u8]>::to_vec),
        }
    }};
}

/// The server's and the client's view. In TLS 1.3 the client learns only by reading that its certificate was refused.
async fn handshake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> (io::Result<End>, io::Result<End>) {
    let (server_io, client_io) = tokio::io::duplex(64 * 1024);
    let server = async {
        let mut stream = TlsAcceptor::from(server).accept(server_io).await?;
        stream.write_all(b"s").await?;
        stream.flush().await?;
        stream.read_u8().await?;
        Ok(end!(stream))
    };
    let client = async {
        let mut stream = TlsConnector::from(client).connect(name, client_io).await?;
        stream.read_u8().await?;
        stream.write_all(b"c").await?;
        stream.flush().await?;
        Ok(end!(stream))
    };
    tokio::join!(server, client)
}

/// Dials `server` as `client`, expecting `expected`.
async fn check(
    server: &TlsIdentity,
    client: &TlsIdentity,
    expected: &str,
    server_sees: Option<&'static Code>,
    client_sees: Option<&'static Code>,
) {
    let config = client.client_config(&id(expected)).unwrap();
    let (at_server, at_client) = handshake(server.server_config(), config, tls::server_name()).await;
    assert_eq!(code(&at_server), server_sees, "server: {at_server:?}");
    assert_eq!(code(&at_client), client_sees, "client: {at_client:?}");
}

fn code(end: &io::Result<End>) -> Option<&'static Code> {
    end.as_ref().err().map(|error| classify_io_error(error).expect("a TLS error"))
}

fn minted(world: &World, minted: Minted) -> TlsIdentity {
    TlsIdentity::new(minted.key, minted.chain, world.trust.clone(), clock_at(NOW)).unwrap()
}

#[tokio::test]
async fn two_members_meet_with_tls_13_and_a_post_quantum_group() {
    let world = World::new();
    let (server, client) = (world.identity(HKU), world.identity(SZU));
    let config = client.client_config(&id(HKU)).unwrap();
    let (at_server, at_client) = handshake(server.server_config(), config, tls::server_name()).await;
    let (at_server, at_client) = (at_server.unwrap(), at_client.unwrap());
    for end in [&at_server, &at_client] {
        assert_eq!(end.version, ProtocolVersion::TLSv1_3);
        assert_eq!(end.group, NamedGroup::X25519MLKEM768);
        assert_eq!(end.alpn.as_deref(), Some(&b"h2"[..]));
    }
    assert_eq!(at_server.peer, client.chain());
    assert_eq!(at_client.peer, server.chain());

    let statement = Statement {
        participant: id(SZU),
        membership: membership(SZU),
        certificates: vec![client.certificate().thumbprint()],
        sequence: 1,
        issued: NOW,
        expires: NOW.plus_millis(DAY),
    };
    let jws = statement.sign(world.authority.signer()).unwrap();
    let peer = server.verify_participant(&at_server.peer, &jws, NOW).unwrap();
    assert_eq!(peer.id().as_str(), SZU);
}

#[tokio::test]
async fn who_does_not_get_through() {
    let world = World::new();
    let server = world.identity(HKU);
    let mint = |change: &dyn Fn(&mut Mint)| {
        let mut mint = Mint::good(SZU, NOW);
        change(&mut mint);
        world.authority.mint(&mint).unwrap()
    };
    let expired = minted(&world, mint(&|mint| mint.not_after = NOW.plus_millis(-MINUTE)));
    check(&server, &expired, HKU, Some(&CERTIFICATE_EXPIRED), Some(&PEER_REFUSED_US)).await;
    check(&expired, &server, SZU, Some(&PEER_REFUSED_US), Some(&CERTIFICATE_EXPIRED)).await;

    let foreign = MintingAuthority::new(AUTHORITY, NOW).unwrap();
    let foreigner = minted(&world, foreign.mint(&Mint::good(SZU, NOW)).unwrap());
    check(&server, &foreigner, HKU, Some(&OTHER_AUTHORITY), Some(&PEER_REFUSED_US)).await;
    check(&foreigner, &server, SZU, Some(&PEER_REFUSED_US), Some(&OTHER_AUTHORITY)).await;

    // The other end is a member in good standing, but not the one that was dialled.
    let third = world.identity("https://campus.example/id/um");
    check(&server, &third, SZU, Some(&PEER_REFUSED_US), Some(&OTHER_PARTICIPANT)).await;

    // Without any list nobody is accepted.
    let without = TrustState::new(world.authority.bundle().unwrap(), &[]);
    let member = world.member(SZU);
    let unlisted = TlsIdentity::new(member.key, member.chain, without, clock_at(NOW)).unwrap();
    check(&unlisted, &server, SZU, Some(&REVOCATION_LIST_MISSING), Some(&PEER_REFUSED_US)).await;
}

#[tokio::test]
async fn two_names_in_one_certificate_are_refused_in_the_handshake() {
    let world = World::new();
    let server = world.identity(HKU);
    let mut mint = Mint::good(SZU, NOW);
    mint.uris.push(HKU.to_owned());
    let two = world.authority.mint(&mint).unwrap();
    // Our own identity refuses such a certificate, so the cheat builds its settings by hand.
    let client = by_hand(&world, &TLS13, Some((two.chain, two.key)));
    let (at_server, at_client) = handshake(server.server_config(), client, localhost()).await;
    assert_eq!(code(&at_server), Some(&TWO_PARTICIPANT_URIS));
    assert_eq!(code(&at_client), Some(&PEER_REFUSED_US));
}

#[tokio::test]
async fn a_client_certificate_is_mandatory_and_tls_12_is_not_spoken() {
    let world = World::new();
    let server = world.identity(HKU);
    let (at_server, at_client) =
        handshake(server.server_config(), by_hand(&world, &TLS13, None), localhost()).await;
    assert_eq!(code(&at_server), Some(&NO_CERTIFICATE));
    assert_eq!(code(&at_client), Some(&PEER_REFUSED_US));

    let member = world.member(SZU);
    let old = by_hand(&world, &TLS12, Some((member.chain, member.key)));
    let (at_server, at_client) = handshake(server.server_config(), old, localhost()).await;
    assert_eq!(code(&at_server), Some(&TLS_INCOMPATIBLE));
    assert_eq!(code(&at_client), Some(&PEER_REFUSED_US));

    // And we as client refuse a server of TLS 1.2.
    let member = world.member(SZU);
    let old_server =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(member.chain, pkcs8(&member.key))
            .unwrap();
    let config = server.client_config(&id(SZU)).unwrap();
    let (at_server, _) = handshake(Arc::new(old_server), config, tls::server_name()).await;
    assert!(at_server.is_err());
}

#[tokio::test]
async fn reloading_needs_no_restart() {
    let world = World::new();
    let (server, client) = (world.identity(HKU), world.identity(SZU));
    check(&server, &client, HKU, None, None).await;
    assert_eq!(server.generation(), 0);

    // A revocation reaches the next handshake, and no session is resumed past it.
    let leaf = client.chain()[0].clone();
    let lists = world.authority.lists(2, NOW, NOW.plus_millis(DAY), &[&leaf]).unwrap();
    server.reload_lists(&lists, None, NOW).unwrap();
    assert_eq!(server.generation(), 1);
    check(&server, &client, HKU, Some(&CERTIFICATE_REVOKED), Some(&PEER_REFUSED_US)).await;

    // The client renews; its next handshake shows the new certificate.
    let renewed = world.member(SZU);
    client.reload_certificate(renewed.key, renewed.chain.clone()).unwrap();
    check(&server, &client, HKU, None, None).await;
    assert_eq!(client.chain(), renewed.chain);
    assert_eq!(client.signer().thumbprint(), Digest::of(&renewed.chain[0]));

    // A key that is not the certificate's, or forged lists, change nothing.
    let (one, other) = (world.member(SZU), world.member(SZU));
    assert!(client.reload_certificate(one.key, other.chain).is_err());
    let foreign = MintingAuthority::new(AUTHORITY, NOW).unwrap();
    assert!(
        server.reload_lists(&foreign.lists(9, NOW, NOW.plus_millis(DAY), &[]).unwrap(), None, NOW).is_err()
    );
    assert_eq!((client.generation(), server.generation()), (1, 1));
    check(&server, &client, HKU, None, None).await;
}

#[tokio::test]
async fn the_clock_is_the_one_given() {
    let world = World::new();
    let member = world.member(HKU);
    let late = clock_at(NOW.plus_millis(31 * DAY));
    let lists = world.authority.lists(2, NOW, NOW.plus_millis(60 * DAY), &[]).unwrap();
    let trust = world.trust.updated(&lists, None, NOW).unwrap();
    let server = TlsIdentity::new(member.key, member.chain, trust, late).unwrap();
    let client = world.identity(SZU);
    check(&server, &client, HKU, Some(&CERTIFICATE_EXPIRED), Some(&PEER_REFUSED_US)).await;
}

#[tokio::test]
async fn a_newcomer_knows_only_the_digest_of_the_root() {
    let world = World::new();
    let authority = world.identity(AUTHORITY);
    let token = |root| {
        EnrolmentToken::new(
            membership::PeerAddress::parse("localhost:7400").unwrap(),
            root,
            crate::Secret::new("secret".to_owned()),
            NOW,
            id(HKU),
            Vec::new(),
        )
    };
    let root = Digest::of(world.authority.bundle().unwrap().roots().next().unwrap());
    let dial = async |server: &TlsIdentity, root| {
        let client = enrolment_client_config(&token(root), &clock_at(NOW)).unwrap();
        let (_, at_client) =
            handshake(server.enrolment_server_config().unwrap(), client, tls::server_name()).await;
        code(&at_client)
    };
    assert_eq!(dial(&authority, root).await, None);
    assert_eq!(dial(&authority, Digest::of(b"another")).await, Some(&OTHER_AUTHORITY));
    // A member cannot pose as the authority, though the root is the same.
    assert_eq!(dial(&world.identity(SZU), root).await, Some(&OTHER_PARTICIPANT));

    // A member comes with its certificate; at the authority's listener it is verified all the same.
    let member = world.identity(SZU);
    let (at_server, _) = handshake(
        authority.enrolment_server_config().unwrap(),
        member.authority_client_config().unwrap(),
        tls::server_name(),
    )
    .await;
    assert_eq!(at_server.unwrap().peer, member.chain());
    let revoked = world.authority.lists(2, NOW, NOW.plus_millis(DAY), &[&member.chain()[0]]).unwrap();
    authority.reload_lists(&revoked, None, NOW).unwrap();
    let (at_server, _) = handshake(
        authority.enrolment_server_config().unwrap(),
        member.authority_client_config().unwrap(),
        tls::server_name(),
    )
    .await;
    assert_eq!(code(&at_server), Some(&CERTIFICATE_REVOKED));
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn pkcs8(key: &crate::ConnectorKey) -> rustls::pki_types::PrivateKeyDer<'static> {
    rustls::pki_types::PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()).into()
}

/// Settings of a client that is not ours.
fn by_hand(
    world: &World,
    version: &'static rustls::SupportedProtocolVersion,
    ours: Option<(Vec<CertificateDer<'static>>, crate::ConnectorKey)>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in world.authority.bundle().unwrap().roots() {
        roots.add(root.clone()).unwrap();
    }
    let time: Arc<dyn rustls::time_provider::TimeProvider> = Arc::new(FixedTime);
    let builder =
        ClientConfig::builder_with_details(Arc::new(rustls::crypto::aws_lc_rs::default_provider()), time)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
    Arc::new(match ours {
        Some((chain, key)) => builder.with_client_auth_cert(chain, pkcs8(&key)).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

#[derive(Debug)]
struct FixedTime;

impl rustls::time_provider::TimeProvider for FixedTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(crate::trust::unix_time(NOW))
    }
}
