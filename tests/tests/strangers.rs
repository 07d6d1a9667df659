//! Who is not who they say: each is refused for a reason of its own that stands in our log, learns nothing but that,
//! and changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use federation_tests::command::{exit, fairlead};
use federation_tests::connector::{Connector, shared_file};
use federation_tests::data::{Dataset, bytes};
use federation_tests::space::Space;
use federation_tests::stranger::{Caller, Credentials};
use federation_tests::wait::until;
use identity::jws::{Signer, Typ};
use identity::minting::{Mint, MintingAuthority, mint_under_authority, signer_of_authority};
use identity::{Statement, StoredIdentity};
use policy::time::UnixMillis;
use proto::{authority, data, dsp, notice};
use serde_json::{Value, json};
use tonic::{Code, Status};

const HOUR: i64 = 60 * 60 * 1000;
const MALLORY: &str = "https://mallory.example/id";

/// What a stranger shows.
struct Shown<'a> {
    certificate: Option<&'a Credentials>,
    statement: &'a str,
}

/// Calls as a stranger, and demands that it is refused, that the reason is logged, and that nothing changed.
async fn check(target: &mut Connector, before: &Value, code: &str, shown: Shown<'_>) {
    let address = target.address().to_owned();
    let status = match Caller::connect(&address, shown.certificate).await {
        Err(error) => Status::unavailable(error.to_string()),
        Ok(mut caller) => {
            let refused = caller.exchange(shown.statement).await.expect_err(code);
            // Nor does anything else work afterwards.
            let request = dsp::CatalogRequest::default();
            let listed = caller
                .call::<dsp::CatalogPage>("/fairlead.dsp.v1.CatalogService/RequestCatalog", &request)
                .await;
            assert!(listed.is_err(), "{code}: {listed:?}");
            refused
        }
    };
    bare(&status, code);
    target.logged_code(code);
    assert_eq!(target.state(), *before, "{code}: nothing changed");
}

/// Either the end of the connection, or an answer that says no and nothing else.
fn bare(status: &Status, code: &str) {
    assert!(status.details().is_empty(), "{code}: {status:?}");
    match status.code() {
        Code::Unavailable => {}
        Code::Unauthenticated => assert_eq!(status.message(), "refused", "{code}"),
        other => panic!("{code}: {other:?}: {status:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_or_connects_too_often_keeps_no_place() {
    let mut space = Space::empty();
    space.enrol("macao");
    let hong_kong = space.enrol("hong-kong");
    hong_kong.settings.limits.push_str("handshake_seconds = 1\nconnections_per_peer = 2\n");
    hong_kong.start();
    let address = hong_kong.address().to_owned();
    let stored = space.identity_of("macao");
    let statement = stored.statement.clone();
    let macao = Credentials::from(stored);

    let silent = Caller::connect(&address, Some(&macao)).await.unwrap();
    let process = space.get("hong-kong").process();
    process.logged("closed a connection on which no identities were exchanged");
    drop(silent);

    let mut open = Vec::new();
    for _ in 0..2 {
        let mut caller = Caller::connect(&address, Some(&macao)).await.unwrap();
        caller.exchange(&statement).await.unwrap();
        open.push(caller);
    }
    let mut third = Caller::connect(&address, Some(&macao)).await.unwrap();
    let refused = third.exchange(&statement).await.unwrap_err();
    assert_eq!(proto::status::from_status(&refused).code, "limit/connections-per-peer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_for_their_own_reason() {
    let mut space = Space::empty();
    space.enrol("hong-kong").start();
    for name in ["mallory", "macao", "fallen"] {
        space.enrol(name);
    }
    let now = now();
    let authority = space.open_authority();
    let foreign = MintingAuthority::new("https://elsewhere.example/authority", now).unwrap();
    let mint = |change: fn(&mut Mint, UnixMillis)| {
        let mut mint = Mint::good(MALLORY, now);
        change(&mut mint, now);
        Credentials::from(mint_under_authority(&authority, &mint).unwrap())
    };
    let fallen = Credentials::from(space.identity_of("fallen"));
    space.revoke("https://fallen.example/id");

    let hong_kong = space.get("hong-kong");
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    hong_kong.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    until("the revocation list arrives", || {
        (hong_kong.run(&["status"]).object()["revocation_list_number"].as_u64() > Some(1)).then_some(())
    });
    hong_kong.quiet();
    let before = hong_kong.state();

    let certificate = |certificate| Shown { certificate, statement: "" };
    check(hong_kong, &before, "identity/no-certificate", certificate(None)).await;
    let minted: [(&str, Credentials); 8] = [
        ("identity/certificate-expired", mint(|mint, now| mint.not_after = now.plus_millis(-HOUR))),
        ("identity/certificate-not-yet-valid", mint(|mint, now| mint.not_before = now.plus_millis(HOUR))),
        ("identity/certificate-revoked", fallen),
        ("identity/other-authority", foreign.mint(&Mint::good(MALLORY, now)).unwrap().into()),
        (
            "identity/two-participant-uris",
            mint(|mint, _| mint.uris.push("https://hong-kong.example/id".to_owned())),
        ),
        ("identity/no-participant-uri", mint(|mint, _| mint.uris.clear())),
        (
            "identity/malformed-participant-uri",
            mint(|mint, _| mint.uris = vec!["ftp://mallory.example/id".to_owned()]),
        ),
        ("identity/wrong-key-usage", mint(|mint, _| mint.client = false)),
    ];
    for (code, credentials) in &minted {
        check(hong_kong, &before, code, certificate(Some(credentials))).await;
    }

    // A good certificate with a statement that is none of its own.
    let mallory = space.identity_of("mallory");
    let theirs = space.identity_of("macao").statement;
    let (genuine, own) = (mallory.statement.clone(), read(&mallory.statement));
    let own_signer = signer(&mallory);
    let real = signer_of_authority(&authority, now).unwrap();
    let second = Credentials::from(mint_under_authority(&authority, &Mint::good(MALLORY, now)).unwrap());
    let mallory = Credentials::from(mallory);
    let mut grander = own.clone();
    grander.membership.security_profile = identity::SecurityProfile::parse("trustplus").unwrap();
    let expired =
        Statement { issued: now.plus_millis(-2 * HOUR), expires: now.plus_millis(-HOUR), ..own.clone() };
    let early =
        Statement { issued: now.plus_millis(HOUR), expires: now.plus_millis(2 * HOUR), ..own.clone() };
    let tampered = tampered(&genuine);
    let statements: [(&str, String); 8] = [
        ("identity/statement-missing", String::new()),
        ("identity/statement-forged", grander.sign(foreign.signer()).unwrap()),
        (
            "identity/statement-forged",
            own_signer.sign(Typ::Statement, &grander.to_payload().unwrap(), now, None).unwrap(),
        ),
        ("identity/statement-forged", tampered),
        ("identity/statement-forged", "nonsense".to_owned()),
        ("identity/statement-of-somebody-else", theirs),
        ("identity/statement-expired", expired.sign(&real).unwrap()),
        ("identity/statement-not-yet-valid", early.sign(&real).unwrap_or_default()),
    ];
    let hong_kong = space.get("hong-kong");
    for (code, statement) in &statements[..7] {
        check(hong_kong, &before, code, Shown { certificate: Some(&mallory), statement }).await;
    }
    // A statement from the future is one whose signature is from the future, too.
    check(
        hong_kong,
        &before,
        "identity/statement-forged",
        Shown { certificate: Some(&mallory), statement: &statements[7].1 },
    )
    .await;
    let other_certificate = Shown { certificate: Some(&second), statement: &genuine };
    check(hong_kong, &before, "identity/statement-thumbprint-mismatch", other_certificate).await;

    // Whoever skips the exchange is nobody.
    let mut silent = Caller::connect(hong_kong.address(), Some(&mallory)).await.unwrap();
    let request = dsp::CatalogRequest::default();
    let listed =
        silent.call::<dsp::CatalogPage>("/fairlead.dsp.v1.CatalogService/RequestCatalog", &request).await;
    bare(&listed.unwrap_err(), "identity/not-exchanged");
    hong_kong.logged_code("identity/not-exchanged");
    assert_eq!(hong_kong.state(), before);

    // The same certificate with its own statement is a member: what was refused above was refused for its reason.
    let mut member = Caller::connect(hong_kong.address(), Some(&mallory)).await.unwrap();
    member.exchange(&genuine).await.unwrap();
    let page: dsp::CatalogPage =
        member.call("/fairlead.dsp.v1.CatalogService/RequestCatalog", &request).await.unwrap();
    assert_eq!(page.datasets.len(), 1);

    // A newer statement replaces the older at once.
    let newer = Statement { sequence: own.sequence + 1, issued: now, ..own };
    let mut member = Caller::connect(hong_kong.address(), Some(&mallory)).await.unwrap();
    member.exchange(&newer.sign(&real).unwrap()).await.unwrap();
    let before = hong_kong.state();
    let superseded = Shown { certificate: Some(&mallory), statement: &genuine };
    check(hong_kong, &before, "identity/statement-superseded", superseded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_member_is_out_within_a_moment() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(100, 1)).unwrap();
    let dataset = hong_kong.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    space.revoke("https://guangzhou.example/id");
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    hong_kong.logged_code("identity/certificate-revoked");
    let transfers = hong_kong.list("transfer");
    let pulled = guangzhou.run(&["transfer", "start", &agreement, "--no-wait"]).object();
    until("the consumer learns that it is out", || {
        let shown = guangzhou.run(&["transfer", "show", pulled["id"].as_str().unwrap()]);
        (shown.exit == exit::REFUSED_BY_PEER).then_some(())
    });
    assert_eq!(hong_kong.list("transfer"), transfers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_open_only_what_they_were_made_for() {
    let mut space = Space::empty();
    space.enrol("hong-kong");
    space.newcomer("mallory");
    space.newcomer("thief");
    let book = |space: &Space| std::fs::read(space.authority_folder().join("authority.json")).unwrap();
    let enrol = |connector: &Connector, token: &std::path::Path| {
        let settings = connector.settings_file();
        fairlead(&["enrol", "--config", settings.to_str().unwrap(), "--token-file", token.to_str().unwrap()])
    };

    let token = {
        let participant = "https://guangzhou.example/id";
        let [mallory] = space.all(["mallory"]);
        let token = mallory.path("token.txt");
        let made = made_token(&space, "mallory", participant);
        std::fs::copy(made, &token).unwrap();
        token
    };
    let before = book(&space);
    let [mallory] = space.all(["mallory"]);
    enrol(mallory, &token).refused(exit::REFUSED_BY_PEER, "identity/token-of-somebody-else");
    assert!(!mallory.data().join("keys").join("identity.json").exists());
    assert_eq!(book(&space), before);

    // Read by a thief after it was used.
    let own = made_token(&space, "mallory", MALLORY);
    let [mallory] = space.all(["mallory"]);
    enrol(mallory, &own).done();
    let before = book(&space);
    let [thief] = space.all(["thief"]);
    thief.participant = MALLORY.to_owned();
    thief.write_settings();
    enrol(thief, &own).refused(exit::REFUSED_BY_PEER, "authority/refused");
    assert!(!thief.data().join("keys").join("identity.json").exists());
    logged(&mut space, "identity/token-spent");
    assert_eq!(book(&space), before);

    // Guessed, changed, or not a token.
    let text = std::fs::read_to_string(&own).unwrap();
    for (name, token) in [("empty", ""), ("nonsense", "nonsense"), ("cut", &text[..text.len() / 2])] {
        let [thief] = space.all(["thief"]);
        let file = thief.write(name, token);
        let refused = enrol(thief, &file);
        assert_eq!(refused.exit, exit::USAGE, "{name}: {refused}");
    }

    // Straight to the authority, without its client.
    let address = space.authority_address().to_owned();
    let csr_der = identity::ConnectorKey::generate().unwrap().csr().unwrap();
    let mut nobody = Caller::connect(&address, None).await.unwrap();
    let guess = authority::EnrolRequest { secret: "guess".to_owned(), csr_der: csr_der.clone().into() };
    let enrolled = nobody
        .call::<authority::EnrolResponse>("/fairlead.authority.v1.EnrolmentService/Enrol", &guess)
        .await;
    bare(&enrolled.unwrap_err(), "identity/token-unknown");
    logged(&mut space, "identity/token-unknown");
    let service = "/fairlead.authority.v1.MembershipService";
    let renew = authority::RenewRequest { csr_der: csr_der.into() };
    let refused = [
        nobody.call::<authority::EnrolResponse>(&format!("{service}/Renew"), &renew).await.unwrap_err(),
        nobody
            .call::<authority::GetStatementResponse>(&format!("{service}/GetStatement"), &())
            .await
            .unwrap_err(),
        nobody.call::<authority::GetListsResponse>(&format!("{service}/GetLists"), &()).await.unwrap_err(),
    ];
    for status in &refused {
        bare(status, "identity/no-certificate");
    }
    logged(&mut space, "identity/no-certificate");
    assert_eq!(book(&space), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_reach_nothing_of_others() {
    let mut space = Space::of(&["guangzhou", "hong-kong"]);
    space.enrol("macao");
    let [guangzhou, hong_kong] = space.all(["guangzhou", "hong-kong"]);
    std::fs::write(hong_kong.sources().join("x.csv"), bytes(3_000_000, 1)).unwrap();
    let dataset = hong_kong.publish(&Dataset::research("weather"), &shared_file("x.csv"));
    guangzhou.finds(&dataset);
    let agreement = guangzhou.negotiate(&dataset);
    guangzhou.pull(&agreement);
    guangzhou.quiet();
    hong_kong.quiet();
    let negotiation = hong_kong.list("negotiation")[0].clone();
    let transfer = hong_kong.list("transfer")[0].clone();
    let offer = hong_kong.run(&["catalogue", "show", &dataset]).object()["offers"][0].clone();
    let pid = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let (provider_pid, consumer_pid) = (pid(&negotiation, "id"), pid(&negotiation, "peer_pid"));
    let (provider_transfer, consumer_transfer) = (pid(&transfer, "id"), pid(&transfer, "peer_pid"));

    let (macao, victim) = (space.identity_of("macao"), space.identity_of("guangzhou"));
    let (own, stolen) = (signer(&macao), signer(&victim));
    let statement = macao.statement.clone();
    let hong_kong = space.get("hong-kong");
    let mut caller = Caller::connect(hong_kong.address(), Some(&macao.into())).await.unwrap();
    caller.exchange(&statement).await.unwrap();
    let before = hong_kong.state();

    let provider = "/fairlead.dsp.v1.NegotiationProviderService";
    let transfers = "/fairlead.dsp.v1.TransferProviderService";
    let message_id = || format!("urn:uuid:{}", uuid());
    let mut refused: Vec<(&str, Status)> = Vec::new();
    macro_rules! refuse {
        ($answer:ty, $path:expr, $message:expr) => {
            let path: String = $path;
            let status = caller.call::<$answer>(&path, &$message).await.expect_err(&path);
            refused.push((stringify!($message), status));
        };
    }
    let look = dsp::GetProcessRequest { pid: provider_pid.clone() };
    refuse!(dsp::ContractNegotiation, format!("{provider}/GetNegotiation"), look);
    let end = dsp::ContractNegotiationTerminationMessage {
        message_id: message_id(),
        provider_pid: provider_pid.clone(),
        consumer_pid: consumer_pid.clone(),
        ..Default::default()
    };
    refuse!(dsp::ContractNegotiation, format!("{provider}/Terminate"), end);
    let verify = dsp::ContractAgreementVerificationMessage {
        message_id: message_id(),
        provider_pid: provider_pid.clone(),
        consumer_pid: consumer_pid.clone(),
        assignee_signature: "e30.e30.e30".to_owned(),
    };
    refuse!(dsp::ContractNegotiation, format!("{provider}/VerifyAgreement"), verify);
    let look = dsp::GetProcessRequest { pid: provider_transfer.clone() };
    refuse!(dsp::TransferProcess, format!("{transfers}/GetTransfer"), look);
    let ask = dsp::TransferRequestMessage {
        message_id: message_id(),
        consumer_pid: message_id(),
        agreement_id: agreement.clone(),
        format: "fairlead-grpc-pull".to_owned(),
        callback_address: "grpcs:https://macao.example/id".to_owned(),
        data_address: None,
    };
    refuse!(dsp::TransferProcess, format!("{transfers}/RequestTransfer"), ask);
    let suspend = dsp::TransferSuspensionMessage {
        message_id: message_id(),
        provider_pid: provider_transfer.clone(),
        consumer_pid: consumer_transfer.clone(),
        ..Default::default()
    };
    refuse!(dsp::TransferProcess, format!("{transfers}/Suspend"), suspend);
    let manifest = data::ManifestRequest { provider_pid: provider_transfer.clone() };
    refuse!(data::ManifestResponse, "/fairlead.data.v1.DataService/GetManifest".to_owned(), manifest);
    let open = data::PullOpen {
        provider_pid: provider_transfer,
        manifest_digest: pid(&transfer, "manifest_digest"),
        ..Default::default()
    };
    let pull = data::PullRequest { step: Some(data::pull_request::Step::Open(open)) };
    refuse!(data::PullResponse, "/fairlead.data.v1.DataService/Pull".to_owned(), pull);

    // Notices about an agreement of others: one's own, and one that a party really signed but did not send.
    let deliver = "/fairlead.notice.v1.NoticeService/Deliver";
    for by in [&own, &stolen] {
        let payload = json!({
            "agreement": agreement, "at": now().to_string(), "fields": {}, "reason": "", "version": 1, "what": "revoked",
        });
        let signed = by.sign(Typ::Notice, payload.to_string().as_bytes(), now(), None).unwrap();
        let told = notice::DeliverRequest { message_id: message_id(), notice: signed };
        let status = caller.call::<notice::DeliverResponse>(deliver, &told).await.unwrap_err();
        assert_eq!(proto::status::from_status(&status).code, "notice/not-a-party");
    }
    for (what, status) in &refused {
        let told = proto::status::from_status(status);
        assert!(!told.code.is_empty() && told.code != "connector/internal", "{what}: {status:?}");
        assert!(told.detail.is_empty(), "{what}: facts of our side stay here: {status:?}");
    }
    assert_eq!(hong_kong.state(), before);

    // A negotiation of its own, ended with signatures that are not its own: no agreement comes of it.
    let opening = dsp::ContractRequestMessage {
        message_id: message_id(),
        consumer_pid: message_id(),
        offer: Some(dsp::Offer {
            text: offer["text"].as_str().unwrap().to_owned(),
            id: offer["id"].as_str().unwrap().to_owned(),
            target: dataset.clone(),
        }),
        opening: Some(dsp::contract_request_message::Opening::CallbackAddress(
            "grpcs:https://macao.example/id".to_owned(),
        )),
    };
    let opened: dsp::ContractNegotiation =
        caller.call(&format!("{provider}/RequestContract"), &opening).await.unwrap();
    assert_eq!(opened.state(), dsp::NegotiationState::Agreed);
    let again: dsp::ContractNegotiation =
        caller.call(&format!("{provider}/RequestContract"), &opening).await.unwrap();
    assert_eq!(again, opened, "a repeated request is answered, not opened twice");
    let before = hong_kong.state();
    let shown = hong_kong.show("negotiation", &opened.provider_pid);
    let unsigned = shown["agreement"].as_str().unwrap().to_owned();
    for (name, assignee_signature) in [
        ("nonsense", "e30.e30.e30".to_owned()),
        ("another text", own.sign(Typ::Agreement, b"{\"a\":1}", now(), None).unwrap()),
        ("another purpose", own.sign(Typ::Notice, b"{\"a\":1}", now(), None).unwrap()),
        ("another party", stolen.sign(Typ::Agreement, b"{\"a\":1}", now(), None).unwrap()),
    ] {
        let verify = dsp::ContractAgreementVerificationMessage {
            message_id: message_id(),
            provider_pid: opened.provider_pid.clone(),
            consumer_pid: opened.consumer_pid.clone(),
            assignee_signature,
        };
        let verified =
            caller.call::<dsp::ContractNegotiation>(&format!("{provider}/VerifyAgreement"), &verify).await;
        assert!(verified.is_err(), "{name}: {verified:?}");
    }
    let ask = dsp::TransferRequestMessage {
        message_id: message_id(),
        consumer_pid: message_id(),
        agreement_id: unsigned,
        format: "fairlead-grpc-pull".to_owned(),
        callback_address: "grpcs:https://macao.example/id".to_owned(),
        data_address: None,
    };
    let asked = caller.call::<dsp::TransferProcess>(&format!("{transfers}/RequestTransfer"), &ask).await;
    assert!(asked.is_err(), "an agreement that lacks a signature opens nothing: {asked:?}");
    assert_eq!(hong_kong.state(), before);
}

fn made_token(space: &Space, connector: &str, participant: &str) -> std::path::PathBuf {
    let found = space.connectors().iter().find(|known| known.name == connector);
    space.token(found.expect("a newcomer of the test"), participant)
}

fn logged(space: &mut Space, code: &str) {
    until(&format!("the authority logs {code}"), || {
        space.authority().log().iter().any(|line| line["code"] == code).then_some(())
    });
}

fn signer(stored: &StoredIdentity) -> Signer {
    let key = identity::ConnectorKey::from_pkcs8(pkcs8(stored)).unwrap();
    Signer::new(Arc::new(key), stored.chain.clone()).unwrap()
}

fn pkcs8(stored: &StoredIdentity) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    let pem = stored.key.to_pem();
    rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes())
        .unwrap()
        .secret_pkcs8_der()
        .to_vec()
}

/// What a statement says, without asking who signed it.
fn read(jws: &str) -> Statement {
    connector::trust::own_statement(jws.to_owned()).unwrap().statement
}

/// The statement with one byte of its payload changed.
fn tampered(jws: &str) -> String {
    let at = jws.find('.').unwrap() + 20;
    let other = if jws.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &jws[..at], &jws[at + 1..])
}

fn uuid() -> String {
    let bits = rand::random::<u128>();
    let hex = format!("{bits:032x}");
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

fn now() -> UnixMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    UnixMillis(i64::try_from(now).unwrap())
}
