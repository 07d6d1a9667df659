//! What commands print: tables for people, JSON for programs, and errors that name thing, cause and next step.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use control_plane::Fault;
use control_plane::ids::printable;
use proto::status::RemoteRefusal;
use serde::Serialize;

use super::args::Language;

/// How this invocation prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON instead of tables.
    pub json: bool,
    /// Language of texts for people.
    pub language: Language,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// `area/kebab-case`; `usage` and `internal` where no refusal code applies.
    pub code: String,
    /// What happened.
    pub text: String,
    /// The thing and the cause.
    pub detail: String,
    /// What to do next.
    pub next: String,
    /// The documented exit code.
    pub exit: u8,
}

/// Exit codes, as the help tells them.
pub mod exit {
    /// Our fault.
    pub const OURS: u8 = 1;
    /// The command line or a file given to it is wrong.
    pub const USAGE: u8 = 2;
    /// A policy or rule of this side refused.
    pub const REFUSED_BY_POLICY: u8 = 3;
    /// The peer refused.
    pub const REFUSED_BY_PEER: u8 = 4;
    /// The thing does not exist.
    pub const NOT_FOUND: u8 = 5;
    /// Something needed is down.
    pub const UNAVAILABLE: u8 = 6;
}

/// The metadata key (gRPC) that marks a refusal which the peer, not this connector, made.
pub const ORIGIN_PEER: &str = "fairlead-origin-peer";

const fn exit_of(fault: Fault) -> u8 {
    match fault {
        Fault::Input | Fault::Limit => exit::USAGE,
        Fault::Policy | Fault::State => exit::REFUSED_BY_POLICY,
        Fault::Identity => exit::REFUSED_BY_PEER,
        Fault::NotFound => exit::NOT_FOUND,
        Fault::Unavailable => exit::UNAVAILABLE,
        Fault::Ours => exit::OURS,
    }
}

impl Failure {
    /// A mistake on the command line or in a file it names.
    pub fn usage(text: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            code: "usage".into(),
            text: text.into(),
            detail: String::new(),
            next: next.into(),
            exit: exit::USAGE,
        }
    }

    /// Something of ours failed.
    pub fn ours(error: impl std::fmt::Display) -> Self {
        Self {
            code: "internal".into(),
            text: error.to_string(),
            detail: String::new(),
            next: "look at the connector's log; if the disk and permissions are fine, report it".into(),
            exit: exit::OURS,
        }
    }
}

impl From<control_plane::Refusal> for Failure {
    fn from(refusal: control_plane::Refusal) -> Self {
        Self {
            code: refusal.code.code.into(),
            text: refusal.code.en.into(),
            detail: refusal.detail,
            next: refusal.code.next.into(),
            exit: exit_of(refusal.code.fault),
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let by_peer = status.metadata().contains_key(ORIGIN_PEER);
        let RemoteRefusal { code, fault, text, detail, next } = proto::status::from_status(&status);
        Self {
            code: if code.is_empty() { "internal".into() } else { code },
            text,
            detail,
            next,
            exit: if by_peer { exit::REFUSED_BY_PEER } else { exit_of(fault) },
        }
    }
}

impl Output {
    /// Prints one value: JSON, or what `table` makes of it.
    pub fn show<T: Serialize>(&self, value: &T, people: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let text =
            if self.json { serde_json::to_string(value).map_err(Failure::ours)? } else { people(value) };
        self.line(&text)
    }

    /// Prints a list: a JSON object a line, or one table.
    pub fn list<T: Serialize, const N: usize>(
        &self,
        rows: &[T],
        header: [&str; N],
        row: impl Fn(&T) -> [String; N],
        next_page: &str,
    ) -> Result<(), Failure> {
        if self.json {
            for value in rows {
                self.line(&serde_json::to_string(value).map_err(Failure::ours)?)?;
            }
            if !next_page.is_empty() {
                self.line(&serde_json::json!({ "next_page_token": next_page }).to_string())?;
            }
            return Ok(());
        }
        if rows.is_empty() {
            return self.line("(none)");
        }
        self.line(&table(header, rows, row))?;
        if next_page.is_empty() { Ok(()) } else { self.line(&format!("more: --page {next_page}")) }
    }

    /// Prints one line to standard output.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            // A reader that went away (`| head`) is not a failure of ours.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(Failure::ours),
        }
    }

    /// Tells people something on standard error; programs that read JSON do not need it.
    pub fn note(&self, text: &str) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// What a refusal code says in the language asked for; JSON, and what has no code, stay English.
    fn in_language<'a>(&self, code: &str, text: &'a str) -> &'a str {
        let known =
            || crate::refusals::all().into_iter().find(|known| known.code == code && known.en == text);
        match self.language {
            _ if self.json => text,
            Language::En => text,
            Language::ZhHant => known().map_or(text, |known| known.zh_hant),
            Language::ZhHans => known().map_or(text, |known| known.zh_hans),
        }
    }

    /// Whether to show progress: a person is watching.
    pub fn shows_progress(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Reports a failure and gives its exit code.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        let mut err = io::stderr().lock();
        let Failure { code, text, detail, next, exit } = failure;
        let text = self.in_language(code, text);
        let written = if self.json {
            let object = serde_json::json!({ "code": code, "text": text, "detail": detail, "next": next, "exit": exit });
            writeln!(err, "{object}")
        } else {
            let mut message = format!("error: {text} [{code}]\n");
            if !detail.is_empty() {
                message.push_str(&format!("  cause: {}\n", clean(detail)));
            }
            if !next.is_empty() {
                message.push_str(&format!("  next:  {next}\n"));
            }
            write!(err, "{message}")
        };
        drop(written);
        ExitCode::from(*exit)
    }
}

/// A table with a header; nothing for no rows.
pub fn table<T, const N: usize>(header: [&str; N], rows: &[T], row: impl Fn(&T) -> [String; N]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    for value in rows {
        table.add_row(row(value).map(|cell| clean(&cell)));
    }
    table.to_string()
}

/// Two columns of names and values; empty values are left out.
pub fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(name, value)| format!("{name:width$}  {}", clean(value))).collect::<Vec<_>>().join("\n")
}

/// Text from elsewhere loses control and bidirectional characters before it reaches a person.
pub fn clean(text: &str) -> String {
    text.lines()
        .map(|line| {
            line.chars().filter(|c| printable(&c.to_string()) != "?" || *c == '?').collect::<String>()
        })
        .collect::<Vec<_>>()
        .join("\n")
}
