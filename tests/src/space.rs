//! A data space in a temporary folder: an authority and connectors, each a process of its own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use identity::StoredIdentity;
use tempfile::TempDir;

use crate::command::fairlead;
use crate::connector::Connector;
use crate::process::Process;

/// Campuses by name: jurisdiction and city of their statements. Others count as Guangzhou's.
const PLACES: &[(&str, &str, &str)] =
    &[("guangzhou", "CN", "Guangzhou"), ("hong-kong", "HK", "Hong Kong"), ("macao", "MO", "Macao")];

/// A data space whose processes end with it.
pub struct Space {
    connectors: Vec<Connector>,
    authority: Process,
    authority_address: String,
    // Last: the folder goes when nobody uses it any more.
    folder: TempDir,
}

impl Space {
    /// An authority alone.
    pub fn empty() -> Self {
        let folder = TempDir::with_prefix("fairlead-test-").expect("a temporary folder");
        let directory = folder.path().join("authority");
        let name = ["authority", "init", "--name", "Bay Area data space", "--host", "::1", "--dir"];
        fairlead(&[&name[..], &[text(&directory)]].concat()).done();
        let arguments = ["--json", "authority", "run", "--listen", "[::1]:0", "--dir", text(&directory)];
        let log = folder.path().join("authority.jsonl");
        let mut authority = Process::start("authority", log, &arguments, &[]);
        let listening = authority.logged("the authority is listening");
        let authority_address = listening["address"].as_str().expect("an address").to_owned();
        Self { connectors: Vec::new(), authority, authority_address, folder }
    }

    /// An authority and running connectors of these names that know each other.
    pub fn of(names: &[&str]) -> Self {
        let mut space = Self::empty();
        for name in names {
            space.enrol(name).start();
        }
        space.introduce();
        space
    }

    /// Enrols a connector; it does not run yet, and nobody knows it.
    pub fn enrol(&mut self, name: &str) -> &mut Connector {
        let folder = self.folder.path().join(name);
        let connector = Connector::new(name, folder, &self.authority_address);
        let token = self.token(&connector, &connector.participant);
        let settings = connector.settings_file();
        fairlead(&["enrol", "--config", text(&settings), "--token-file", text(&token)]).done();
        self.connectors.push(connector);
        self.connectors.last_mut().expect("one was pushed")
    }

    /// A connector that is not enrolled.
    pub fn newcomer(&mut self, name: &str) -> &mut Connector {
        let folder = self.folder.path().join(name);
        self.connectors.push(Connector::new(name, folder, &self.authority_address));
        self.connectors.last_mut().expect("one was pushed")
    }

    /// A file with a fresh enrolment token for `participant`, in the folder of `connector`.
    pub fn token(&self, connector: &Connector, participant: &str) -> PathBuf {
        static TOKENS: AtomicU32 = AtomicU32::new(0);
        let file = connector.path(&format!("token-{}.txt", TOKENS.fetch_add(1, Ordering::Relaxed)));
        let name = participant.trim_start_matches("https://").trim_end_matches(".example/id");
        let place = PLACES.iter().find(|(campus, _, _)| *campus == name).unwrap_or(&PLACES[0]);
        let base = format!("{participant}/");
        fairlead(&[
            "authority",
            "token",
            "--dir",
            text(&self.authority_folder()),
            "--address",
            &self.authority_address,
            "--participant",
            participant,
            "--legal-name",
            name,
            "--jurisdiction",
            place.1,
            "--city",
            place.2,
            "--name",
            "localhost",
            "--subject-base",
            &base,
            "--output",
            text(&file),
        ])
        .done();
        file
    }

    /// Tells every running connector of all others.
    pub fn introduce(&mut self) {
        let known: Vec<(String, String)> = self
            .connectors
            .iter_mut()
            .map(|connector| (connector.participant.clone(), connector.address().to_owned()))
            .collect();
        for connector in &mut self.connectors {
            let others = known.iter().filter(|(participant, _)| *participant != connector.participant);
            connector.settings.peers = others.cloned().collect();
            connector.reload();
        }
    }

    /// Every connector.
    pub fn connectors(&self) -> &[Connector] {
        &self.connectors
    }

    /// The connector of this name.
    pub fn get(&mut self, name: &str) -> &mut Connector {
        let found = self.connectors.iter_mut().find(|connector| connector.name == name);
        found.unwrap_or_else(|| panic!("no connector {name}"))
    }

    /// Connectors by name, in the order of `names`.
    pub fn all<const N: usize>(&mut self, names: [&str; N]) -> [&mut Connector; N] {
        let mut found: Vec<(usize, &mut Connector)> = self
            .connectors
            .iter_mut()
            .filter_map(|connector| {
                names.iter().position(|name| *name == connector.name).map(|at| (at, connector))
            })
            .collect();
        found.sort_by_key(|(at, _)| *at);
        let connectors: Vec<&mut Connector> = found.into_iter().map(|(_, connector)| connector).collect();
        connectors.try_into().unwrap_or_else(|_| panic!("not all of {names:?} are here"))
    }

    /// The authority's directory.
    pub fn authority_folder(&self) -> PathBuf {
        self.folder.path().join("authority")
    }

    /// Where the authority listens.
    pub fn authority_address(&self) -> &str {
        &self.authority_address
    }

    /// The authority's process.
    pub fn authority(&mut self) -> &mut Process {
        &mut self.authority
    }

    /// The authority itself, opened beside its process: to issue what it never would.
    pub fn open_authority(&self) -> identity::Authority {
        identity::Authority::open(&self.authority_folder()).expect("the authority opens")
    }

    /// Revokes a participant.
    pub fn revoke(&self, participant: &str) {
        fairlead(&["authority", "revoke", "--dir", text(&self.authority_folder()), participant]).done();
    }

    /// What an enrolled connector keeps of its identity.
    pub fn identity_of(&self, name: &str) -> StoredIdentity {
        let file = self.folder.path().join(name).join("data").join(connector::run::IDENTITY_FILE);
        StoredIdentity::load(&file).expect("the identity reads").expect("the connector is enrolled")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of tests are UTF-8")
}
