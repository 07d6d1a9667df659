//! The demo's processes, all of this same executable: asked as a person would ask, and never left behind.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::cli::Failure;

/// Far longer than any command of the story takes; a command that hangs must not hang the demo.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// A process that was asked to end has this long; its settings allow less for draining.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines of a log that are shown when a step fails.
const TAIL_LINES: usize = 15;
/// A log of the demo has some hundred lines; more than this is not searched.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// Why a step went otherwise than a plain success.
#[derive(Debug)]
pub enum Trouble {
    /// Somebody said no, with code and reason.
    Refused(Refused),
    /// Something is not as it must be.
    Failed(String),
}

/// The outcome of a part of a step.
pub type Told<T> = Result<T, Trouble>;

/// A refusal as the command line prints it with `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refused {
    /// `area/kebab-case`.
    pub code: String,
    /// What happened.
    pub text: String,
    /// The thing and the cause.
    pub detail: String,
}

impl Refused {
    /// Code, text and cause in one line.
    pub fn line(&self) -> String {
        let detail = self.detail.replace('\n', "; ");
        let cause = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        format!("{} [{}]{cause}", self.text, self.code)
    }
}

impl Trouble {
    /// Anything that went wrong.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let Failure { code, text, detail, .. } = failure;
        Self::Refused(Refused { code, text, detail })
    }
}

/// Fails unless `fact` holds.
pub fn ensure(fact: bool, otherwise: impl FnOnce() -> String) -> Told<()> {
    if fact { Ok(()) } else { Err(Trouble::Failed(otherwise())) }
}

/// The folder in which everything happens; removed in the end, unless it is to be kept.
pub struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// A new folder: the one named, which must be empty or not exist, or a temporary one.
    pub fn make(keep: Option<&Path>) -> Result<Self, Failure> {
        let cannot = |path: &Path, error: &dyn std::fmt::Display| {
            Failure::usage(
                format!("cannot use `{}`: {error}", path.display()),
                "name a folder that does not exist yet",
            )
        };
        let path = match keep {
            Some(path) => std::path::absolute(path).map_err(|error| cannot(path, &error))?,
            None => std::env::temp_dir().join(format!("fairlead-demo-{}", uuid::Uuid::new_v4().simple())),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| cannot(&path, &error))?;
        let mut entries = fs::read_dir(&path).map_err(|error| cannot(&path, &error))?;
        if entries.next().is_some() {
            return Err(cannot(&path, &"it is not empty"));
        }
        Ok(Self { path, kept: keep.is_some() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to type to look around in a folder that was kept.
    pub fn how_to_look_around(&self) -> String {
        format!(
            "\nEverything is kept in {0}: settings (*.toml), logs (*.log), descriptions (*.ttl), and each connector's\n\
             data folder. The processes are stopped; to ask a connector, start it again:\n\n\
             \x20 cd {0} && sh ./authority.sh &\n\
             \x20 cd {0} && fairlead run --config hong-kong.toml &\n\
             \x20 fairlead --data {0}/hong-kong status\n\
             \x20 fairlead --data {0}/hong-kong ledger --limit 20\n",
            self.path.display()
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        /// A process that was just killed may still be closing its files.
        const ATTEMPTS: u32 = 20;
        if self.kept {
            return;
        }
        for _ in 0..ATTEMPTS {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(25));
                }
                Ok(()) | Err(_) => return,
            }
        }
    }
}

/// This executable, run in the demo's folder.
pub struct Program {
    executable: PathBuf,
    folder: PathBuf,
}

impl Program {
    /// The running executable.
    pub fn this(folder: &Path) -> Result<Self, Failure> {
        let executable = std::env::current_exe().map_err(Failure::ours)?;
        Ok(Self { executable, folder: folder.to_owned() })
    }

    /// Where it runs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a command with `--json` to its end; gives what it printed, or its refusal.
    pub async fn run(&self, arguments: &[&str]) -> Told<Vec<u8>> {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::time::timeout(COMMAND_TIMEOUT, command.output()).await;
        let output = output.map_err(|_| Trouble::failed(format!("`{}` hangs", shell(arguments))))??;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let refused = said.lines().rev().find_map(|line| serde_json::from_str::<Refused>(line).ok());
        Err(refused.map_or_else(
            || {
                Trouble::Failed(format!(
                    "`{}` ended with {}: {}",
                    shell(arguments),
                    output.status,
                    said.trim()
                ))
            },
            Trouble::Refused,
        ))
    }

    /// Starts a process that serves; its log is `NAME.log`.
    pub fn serve(&self, name: &str, arguments: &[&str]) -> Told<Server> {
        let log = self.folder.join(format!("{name}.log"));
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(File::create(&log)?);
        Ok(Server { name: name.to_owned(), child: command.spawn()?, log })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .arg("--json")
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        // What the caller set for a connector of its own is not meant for these.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FAIRLEAD") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// A command as a person would type it.
pub fn shell(arguments: &[&str]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@".contains(&byte) || !byte.is_ascii();
    let quoted = arguments.iter().map(|argument| {
        if argument.bytes().all(plain) && !argument.is_empty() {
            (*argument).to_owned()
        } else {
            format!("'{argument}'")
        }
    });
    std::iter::once("fairlead".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// A process that serves until it is stopped; killed if it is merely dropped.
pub struct Server {
    /// What it is called; its log is `NAME.log`.
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// The next line that it prints on standard output.
    pub async fn first_line(&mut self) -> Told<String> {
        let out = self.child.stdout.take().ok_or_else(|| Trouble::failed("its output was read already"))?;
        let line = tokio::time::timeout(COMMAND_TIMEOUT, BufReader::new(out).lines().next_line()).await;
        match line {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) | Ok(Err(_)) | Err(_) => Err(self.trouble("told nothing")),
        }
    }

    /// Fails if the process has ended.
    pub fn require_running(&mut self) -> Told<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.trouble(&format!("ended with {status}"))),
        }
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Asks it to end, and fails unless it does so in time and without complaint.
    pub async fn stop(mut self) -> Told<()> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| self.trouble("had ended before"))?;
        kill_process(pid, Signal::TERM).map_err(io::Error::from)?;
        match tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(status) => {
                let status = status?;
                ensure(status.success(), || format!("`{}` ended with {status}", self.name))
            }
            Err(_) => Err(self.trouble("did not end when asked to")),
        }
    }

    /// The lines of its log, as JSON.
    pub fn log_lines(&self) -> Told<Vec<serde_json::Value>> {
        Ok(self.log_text()?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let text = self.log_text().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default();
        format!("the end of {}.log:\n{}", self.name, last.join("\n"))
    }

    fn log_text(&self) -> io::Result<String> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        File::open(&self.log)?.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn trouble(&self, what: &str) -> Trouble {
        Trouble::Failed(format!("`{}` {what}; {}", self.name, self.tail()))
    }
}
