//! A process of ours: started with its logs in a file, killed when the test lets go of it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait::until;

/// The last lines of a log that a failed test shows.
const SHOWN_LINES: usize = 40;

/// Names another program to run than the one that cargo built beside the suites.
pub const PROGRAM: &str = "FAIRLEAD_UNDER_TEST";

/// The program under test, which cargo built beside the suites.
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os(PROGRAM) {
        return named.into();
    }
    let suite = std::env::current_exe().expect("the path of this suite");
    let folder = suite.parent().and_then(Path::parent).expect("a suite lies in target/PROFILE/deps");
    let program = folder.join("fairlead-under-test");
    assert!(program.exists(), "{} is missing: run the suites with `cargo test`", program.display());
    program
}

/// A command of the program, free of settings that the test's own environment may have.
pub fn command() -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FAIRLEAD_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A running server.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the program; standard error goes to the new file `log`, standard output is dropped.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        log: PathBuf,
        arguments: &[A],
        variables: &[(&str, &str)],
    ) -> Self {
        let file = File::create_new(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let child = command()
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        // Fails where the process ended by itself, which is as good.
        drop(self.child.kill());
        self.child.wait().unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        until(&format!("{name} ended"), || self.ended())
    }

    /// The lines of the log so far, as JSON.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.to_owned())))
            .collect()
    }

    /// Waits for a line with this message.
    #[track_caller]
    pub fn logged(&mut self, message: &str) -> Value {
        let what = format!("{} logs `{message}`", self.name);
        until(&what, || {
            let found = self.log().into_iter().find(|line| line["message"] == message);
            if found.is_none()
                && let Some(status) = self.ended()
            {
                panic!("{} ended with {status} before it logged `{message}`:\n{}", self.name, self.tail());
            }
            found
        })
    }

    /// The largest memory that the process ever had, in MiB.
    pub fn peak_memory_mib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process runs");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells VmHWM");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") / 1024
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("---- {}: the end of {}\n{}", self.name, self.log.display(), self.tail());
        }
    }
}
