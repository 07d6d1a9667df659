//! A consumer that keeps to none of its own rules: it has a member's identity and data directory, and a program of its
//! own.

use std::path::Path;

use bytes::Bytes;
use connector::data::{holdings, keys};
use connector::error::Error;
use control_plane::ids::AgreementId;
use data_plane::{FileKek, LeaseShare};
use proto::lease::acquire_request::Reason;
use proto::lease::{AcquireRequest, LeaseResponse, LeasedObject, SessionUse};
use proto::status::from_status;
use rand::RngCore as _;
use store::{Options, Store};

use crate::data::RESEARCH;
use crate::space::Space;
use crate::stranger::{Caller, Credentials};

/// The path of [`Cheat::acquire`].
pub const ACQUIRE: &str = "/fairlead.use.v1.LeaseService/Acquire";

/// A member's identity in other hands, connected to a provider.
pub struct Cheat {
    /// The connection, on which identities were exchanged.
    pub caller: Caller,
}

impl Cheat {
    /// Connects as the member `name` to the provider at `address`.
    pub async fn of(space: &Space, name: &str, address: &str) -> Self {
        let stored = space.identity_of(name);
        let statement = stored.statement.clone();
        let mut caller =
            Caller::connect(address, Some(&Credentials::from(stored))).await.expect("it connects");
        caller.exchange(&statement).await.expect("it is a member");
        Self { caller }
    }

    /// Asks for shares; a refusal gives its code.
    pub async fn acquire(&mut self, request: &AcquireRequest) -> Result<LeaseResponse, String> {
        self.caller.call(ACQUIRE, request).await.map_err(|status| from_status(&status).code)
    }
}

/// A request for the share of one object, for a session of this name.
pub fn request(agreement: &str, session: &str, object: u32, epoch: u64) -> AcquireRequest {
    let session = SessionUse {
        session: session.to_owned(),
        action: "http://www.w3.org/ns/odrl/2/read".to_owned(),
        purpose: RESEARCH.replace("dpv:", "https://w3id.org/dpv#"),
    };
    AcquireRequest {
        agreement: agreement.to_owned(),
        nonce: nonce(),
        objects: vec![LeasedObject { object, epoch }],
        reason: Some(Reason::Session(session)),
    }
}

/// A fresh nonce.
pub fn nonce() -> Bytes {
    let mut nonce = vec![0; 32];
    rand::rng().fill_bytes(&mut nonce);
    nonce.into()
}

/// Whether the first copy under an agreement in this data directory, of which no process runs, can be opened: with what
/// is in the directory and, if given, with a provider's share.
pub fn opens(data: &Path, agreement: &str, share: Option<&LeaseShare>) -> bool {
    let id = AgreementId::parse(agreement).expect("an agreement's name");
    let kek = FileKek::load(&data.join("keys/kek.json")).expect("the key-encryption key reads");
    let store = Store::open(data, Options::default()).expect("the state opens");
    let (record, key) = store
        .read_blocking(move |store| {
            let record = holdings::objects(store, &id)?.into_iter().next();
            Ok::<_, Error>((record, keys::agreement_key(store, &kek, &id)?))
        })
        .expect("the rows read");
    store.close().expect("the state closes");
    let (record, key) = (record.expect("something is held"), key.expect("its key is there"));
    let under =
        share.map_or_else(|| key.clone(), |share| key.leased(record.object(), share).expect("derived"));
    // Moving the data key to another key needs the data key.
    record.rewrap(&under, &key).is_ok()
}

/// Copies a data directory of which no process runs.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the folder reads") {
        let entry = entry.expect("an entry");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else if path.is_file() {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}
