//! One participant of a data space under test: its settings, its process, and its command line.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::command::{Outcome, Running, fairlead};
use crate::data::Dataset;
use crate::process::Process;
use crate::wait::until;

/// What a connector's settings say beyond who it is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[[negotiation.rules]]` and their keys.
    pub rules: String,
    /// Further sections, e.g. `[limits]` keys; see [`Settings::default`] for what must stay.
    pub more: String,
    /// `[limits]` keys.
    pub limits: String,
    /// `listeners.flight`.
    pub flight: String,
    /// Participants and where they are dialled.
    pub peers: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: "[[negotiation.rules]]\naccept = \"automatic\"\naltered = \"manual\"\n".to_owned(),
            more: String::new(),
            limits: "longest_retry_seconds = 1\n".to_owned(),
            flight: "[::1]:0".to_owned(),
            peers: Vec::new(),
        }
    }
}

/// A participant: running or not.
pub struct Connector {
    /// Short name, e.g. `hong-kong`.
    pub name: String,
    /// Its URI.
    pub participant: String,
    /// What its settings file says at the next [`Connector::write_settings`].
    pub settings: Settings,
    folder: PathBuf,
    authority: String,
    /// Where peers connect; kept over restarts once it is known.
    peers_address: Option<String>,
    health_address: Option<String>,
    process: Option<Process>,
    runs: u32,
}

impl Connector {
    /// A participant with an empty folder and default settings.
    pub(crate) fn new(name: &str, folder: PathBuf, authority: &str) -> Self {
        let connector = Self {
            name: name.to_owned(),
            participant: format!("https://{name}.example/id"),
            settings: Settings::default(),
            folder,
            authority: authority.to_owned(),
            peers_address: None,
            health_address: None,
            process: None,
            runs: 0,
        };
        std::fs::create_dir_all(connector.sources()).expect("a folder for sources");
        connector.write_settings();
        connector
    }

    /// The participant's data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The folder behind the source root `shared`.
    pub fn sources(&self) -> PathBuf {
        self.folder.join("shared")
    }

    /// The settings file.
    pub fn settings_file(&self) -> PathBuf {
        self.folder.join("fairlead.toml")
    }

    /// A path in this participant's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file of this participant's folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder is made");
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Writes the settings file.
    pub fn write_settings(&self) {
        let Settings { rules, more, limits, flight, peers } = &self.settings;
        let listening = |known: &Option<String>| known.clone().unwrap_or_else(|| "[::1]:0".to_owned());
        let mut text = format!(
            "participant = \"{}\"\ndata = \"data\"\n\n[listeners]\npeers = \"{}\"\nhealth = \"{}\"\nuse = \"[::1]:0\"\nflight = \"{flight}\"\n\n\
             [authority]\naddress = \"{}\"\nrefresh_seconds = 1\n\n[catalogue]\npull_interval_seconds = 1\n\n\
             [sources.roots]\nshared = \"shared\"\n\n[limits]\n{limits}\n[logging]\nformat = \"json\"\n\n{rules}\n{more}\n",
            self.participant,
            listening(&self.peers_address),
            listening(&self.health_address),
            self.authority,
        );
        for (participant, address) in peers {
            writeln!(text, "[[peers]]\nparticipant = \"{participant}\"\naddresses = [\"{address}\"]\n")
                .expect("text grows");
        }
        self.write("fairlead.toml", text);
    }

    /// Starts the process and waits until it serves; the port for peers is chosen by the system once, then kept.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the process with further environment variables.
    pub fn start_with(&mut self, variables: &[(&str, &str)]) {
        // While it did not run, somebody else may have got the port.
        self.health_address = None;
        self.write_settings();
        let ready = self.spawn(variables).logged("ready");
        self.peers_address = Some(ready["peers"].as_str().expect("where peers connect").to_owned());
        self.health_address = Some(ready["health"].as_str().expect("where health is told").to_owned());
        self.write_settings();
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self, variables: &[(&str, &str)]) -> &mut Process {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.runs += 1;
        let log = self.folder.join(format!("log-{}.jsonl", self.runs));
        let settings = self.settings_file();
        let arguments = [OsStr::new("run"), OsStr::new("--config"), settings.as_os_str()];
        self.process.insert(Process::start(&self.name, log, &arguments, variables))
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// How the process ended, if it did since it was started; it then counts as stopped.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.process().ended();
        if ended.is_some() {
            self.process = None;
        }
        ended
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// SIGTERM; gives how the process ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.process().signal(Signal::TERM);
        let ended = self.process().wait();
        self.process = None;
        ended
    }

    /// Stops the process, if it runs; true once it does not.
    pub fn ended_or_stopped(&mut self) -> bool {
        self.process.is_none() || self.stop().success()
    }

    /// Stops and starts.
    pub fn restart(&mut self) {
        assert!(self.stop().success(), "{} ends well at SIGTERM", self.name);
        self.start();
    }

    /// Writes the settings and has the process read them by SIGHUP; waits until it did.
    pub fn reload(&mut self) {
        self.write_settings();
        let reloads = |connector: &mut Self| {
            connector.process().log().iter().filter(|line| line["message"] == "reloaded").count()
        };
        let before = reloads(self);
        self.process().signal(Signal::HUP);
        let what = format!("{} has read its settings again", self.name);
        until(&what, || (reloads(self) > before).then_some(()));
    }

    /// Where peers connect.
    pub fn address(&self) -> &str {
        self.peers_address.as_deref().unwrap_or_else(|| panic!("{} was never started", self.name))
    }

    /// Where health and metrics are served.
    pub fn health(&self) -> &str {
        self.health_address.as_deref().unwrap_or_else(|| panic!("{} was never started", self.name))
    }

    /// The log of this run.
    pub fn log(&mut self) -> Vec<Value> {
        self.process().log()
    }

    /// Waits for a log line with this code in this run; gives it.
    #[track_caller]
    pub fn logged_code(&mut self, code: &str) -> Value {
        let what = format!("{} logs the code {code}", self.name);
        until(&what, || self.log().into_iter().find(|line| line["code"] == code))
    }

    /// Calls the command line against this connector.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Outcome {
        fairlead(&self.arguments(arguments))
    }

    /// Starts a command against this connector without waiting for its end.
    pub fn begin<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Running {
        Running::start(&self.arguments(arguments))
    }

    fn arguments<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Vec<std::ffi::OsString> {
        let mut all = vec![OsStr::new("--data").to_owned(), self.data().into_os_string()];
        all.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        all
    }

    /// Every row of a list command.
    #[track_caller]
    pub fn list(&self, what: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut page = String::new();
        loop {
            let listed = self.run(&[what, "list", "--page-size", "500", "--page", &page]);
            let mut lines = listed.done().lines();
            match lines.last().and_then(|line| line["next_page_token"].as_str()).map(str::to_owned) {
                Some(next) => {
                    lines.pop();
                    rows.extend(lines);
                    page = next;
                }
                None => {
                    rows.extend(lines);
                    return rows;
                }
            }
        }
    }

    /// `fairlead … show ID`.
    #[track_caller]
    pub fn show(&self, what: &str, id: &str) -> Value {
        self.run(&[what, "show", id]).object()
    }

    /// The whole ledger, each record as JSON.
    #[track_caller]
    pub fn ledger(&self) -> Vec<Value> {
        let mut records = Vec::new();
        loop {
            let from = records.len().to_string();
            let page = self.run(&["ledger", "--from", &from, "--limit", "500"]);
            let lines = page.done().lines();
            if lines.is_empty() {
                return records;
            }
            records.extend(lines.iter().map(|line| {
                let record = line["record"].as_str().expect("a record is text");
                serde_json::from_str::<Value>(record).unwrap_or_else(|error| panic!("{error}: {record}"))
            }));
        }
    }

    /// Everything durable that others could have changed, to be compared.
    #[track_caller]
    pub fn state(&self) -> Value {
        let status = self.run(&["status"]).object();
        json!({
            "ledger": status["ledger_root"],
            "size": status["ledger_size"],
            "catalogue": status["datasets_in_catalogue"],
            "negotiations": self.list("negotiation"),
            "agreements": self.list("agreement"),
            "transfers": self.list("transfer"),
            "holdings": self.list("holdings"),
            "datasets": self.list("dataset"),
            "peers": self.list("peer"),
        })
    }

    /// Waits until nothing is queued for anybody.
    #[track_caller]
    pub fn quiet(&self) {
        let what = format!("{} has delivered everything", self.name);
        until(&what, || (self.run(&["status"]).object()["outbox_waiting"] == 0).then_some(()));
    }

    /// Publishes a dataset with the bytes of `source`; gives its IRI.
    #[track_caller]
    pub fn publish(&self, dataset: &Dataset, source: &str) -> String {
        let file = self.write(&format!("{}.ttl", dataset.name), dataset.turtle(&self.participant));
        let published = self.run(&[
            OsStr::new("dataset"),
            "publish".as_ref(),
            file.as_os_str(),
            "--source".as_ref(),
            source.as_ref(),
        ]);
        let published = published.object();
        assert_eq!(published["state"], "published", "{published}");
        published["dataset"].as_str().expect("the dataset's IRI").to_owned()
    }

    /// Waits until the catalogue here has the dataset.
    #[track_caller]
    pub fn finds(&self, dataset: &str) -> Value {
        let what = format!("{} finds {dataset}", self.name);
        until(&what, || {
            let shown = self.run(&["catalogue", "show", dataset]);
            (shown.exit == 0).then(|| shown.object())
        })
    }

    /// Negotiates the published terms to the end; gives the agreement's id.
    #[track_caller]
    pub fn negotiate(&self, dataset: &str) -> String {
        let negotiation = self.run(&["negotiate", dataset, "--wait", "50"]).object();
        assert_eq!(negotiation["state"], "FINALIZED", "{negotiation}");
        negotiation["agreement"].as_str().expect("the agreement's id").to_owned()
    }

    /// Pulls the dataset of an agreement to the end; gives the transfer.
    #[track_caller]
    pub fn pull(&self, agreement: &str) -> Value {
        let transfer = self.run(&["transfer", "start", agreement]).object();
        assert_eq!(transfer["state"], "COMPLETED", "{transfer}");
        transfer
    }

    /// Reads under an agreement for this purpose.
    #[track_caller]
    pub fn read(&self, agreement: &str, purpose: &str) -> Outcome {
        self.run(&["use", agreement, "--action", "read", "--purpose", purpose])
    }

    /// Waits until a command shows an object of which `which` is true.
    #[track_caller]
    pub fn awaits(&self, arguments: &[&str], what: &str, which: impl Fn(&Value) -> bool) -> Value {
        let waited = format!("`{}` at {} shows {what}", arguments.join(" "), self.name);
        until(&waited, || Some(self.run(arguments).object()).filter(&which))
    }
}

/// The name of a file as a source below the root `shared`.
pub fn shared_file(name: &str) -> String {
    format!("file:shared/{name}")
}

/// Whether a path exists and holds nothing.
pub fn is_empty_folder(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
