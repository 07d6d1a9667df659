//! One call of the command line with `--json`: what it printed, how it ended, why it failed.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::process::command;
use crate::wait::until;

/// Exit codes as the help tells them.
pub mod exit {
    /// Done.
    pub const DONE: i32 = 0;
    /// The command line or a file is wrong.
    pub const USAGE: i32 = 2;
    /// Refused by a policy or rule of this side.
    pub const REFUSED_BY_POLICY: i32 = 3;
    /// Refused by the peer.
    pub const REFUSED_BY_PEER: i32 = 4;
    /// No such thing.
    pub const NOT_FOUND: i32 = 5;
    /// Something needed is down.
    pub const UNAVAILABLE: i32 = 6;
}

/// How a command ended.
pub struct Outcome {
    /// What was called, for messages.
    pub called: String,
    /// The exit code; -1 where a signal ended it.
    pub exit: i32,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error.
    pub errors: String,
}

impl Outcome {
    /// The objects that it printed, one a line.
    pub fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8_lossy(&self.output);
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{self}: {error}: {line}"));
        text.lines().map(parse).collect()
    }

    /// The one object that it printed, after it succeeded.
    #[track_caller]
    pub fn object(&self) -> Value {
        self.done();
        let lines = self.lines();
        assert_eq!(lines.len(), 1, "{self}: one object");
        lines[0].clone()
    }

    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn done(&self) -> &Self {
        assert_eq!(self.exit, exit::DONE, "{self}");
        self
    }

    /// Fails the test unless the command failed with this exit code and refusal code; gives the failure.
    #[track_caller]
    pub fn refused(&self, exit: i32, code: &str) -> Value {
        let failure = self.failure();
        assert_eq!((self.exit, failure["code"].as_str()), (exit, Some(code)), "{self}");
        assert!(
            failure["text"].as_str().is_some_and(|text| !text.is_empty())
                && failure["next"].as_str().is_some_and(|next| !next.is_empty()),
            "{self}: a refusal says what happened and what to do next"
        );
        failure
    }

    /// The failure that a command with `--json` prints last on standard error.
    #[track_caller]
    pub fn failure(&self) -> Value {
        let last = self.errors.lines().last().unwrap_or_default();
        let failure: Value =
            serde_json::from_str(last).unwrap_or_else(|_| panic!("{self}: no failure as JSON"));
        assert_eq!(failure["exit"], self.exit, "{self}");
        failure
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let output: String = String::from_utf8_lossy(&self.output).chars().take(2_000).collect();
        write!(out, "`fairlead {}` ended with {}\n{output}{}", self.called, self.exit, self.errors)
    }
}

/// Calls `fairlead --json` with these arguments.
#[track_caller]
pub fn fairlead<A: AsRef<OsStr>>(arguments: &[A]) -> Outcome {
    Running::start(arguments).outcome()
}

/// A command that has not ended yet; killed when the test lets go of it.
pub struct Running {
    called: String,
    child: Child,
    errors: Option<JoinHandle<String>>,
    /// Standard output; whoever takes it decides how fast the command may go on.
    pub output: Option<std::process::ChildStdout>,
}

impl Running {
    /// Starts `fairlead --json` with these arguments.
    pub fn start<A: AsRef<OsStr>>(arguments: &[A]) -> Self {
        let mut command: Command = command();
        command.arg("--json").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut errors = child.stderr.take().expect("standard error is piped");
        let output = child.stdout.take();
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            drop(errors.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        let shown: Vec<_> =
            arguments.iter().map(|argument| argument.as_ref().to_string_lossy().into_owned()).collect();
        Self { called: shown.join(" "), child, errors: Some(errors), output }
    }

    /// Waits for the end; what was not read of standard output before is in the outcome.
    #[track_caller]
    pub fn outcome(mut self) -> Outcome {
        let output = self.output.take().map(|mut output| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                drop(output.read_to_end(&mut bytes));
                bytes
            })
        });
        let what = format!("`fairlead {}` ended", self.called);
        let status = until(&what, || self.child.try_wait().expect("the command can be waited for"));
        Outcome {
            called: self.called.clone(),
            exit: status.code().unwrap_or(-1),
            output: output.map(|reader| reader.join().expect("standard output was read")).unwrap_or_default(),
            errors: self
                .errors
                .take()
                .map(|reader| reader.join().expect("standard error was read"))
                .unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
