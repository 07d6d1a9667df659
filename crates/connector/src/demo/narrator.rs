//! Prints each step as a person would read it, or as one JSON object a line, and keeps count of what went wrong.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use proto::admin::Clause;

use super::processes::{Refused, Server, Told, Trouble};
use crate::cli::output::{clean, exit};
use crate::cli::{Failure, Output};

/// What should happen in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It should be permitted and succeed.
    Permit,
    /// It should be refused.
    Refuse,
}

impl Expect {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Refuse => "refuse",
        }
    }
}

/// The name and the heading of a step, and the processes whose logs matter if it goes wrong.
pub struct Step<'a> {
    /// For programs.
    pub id: &'static str,
    /// For people.
    pub title: &'a str,
    /// Whose logs are shown if it goes wrong.
    pub concerned: &'a [&'a Server],
}

/// The story cannot go on: a step that later ones need went wrong.
#[derive(Debug)]
pub struct Stopped;

/// Tells the story.
pub struct Narrator {
    output: Output,
    pause: bool,
    colours: bool,
    started: Instant,
    told: Cell<u32>,
    refused: Cell<u32>,
    wrong: Cell<u32>,
    busy: Cell<Duration>,
}

impl Narrator {
    /// Waits for Enter before each step if `pause`.
    pub fn new(output: Output, pause: bool) -> Self {
        let colours =
            !output.json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let count = || Cell::new(0);
        let (started, busy) = (Instant::now(), Cell::default());
        Self { output, pause, colours, started, told: count(), refused: count(), wrong: count(), busy }
    }

    /// A step that must succeed; `body` gives its value and what came out.
    pub async fn permit<T>(
        &self,
        step: Step<'_>,
        body: impl Future<Output = Told<(T, String)>>,
    ) -> Result<T, Stopped> {
        let began = self.begin(&step).await;
        let outcome = body.await;
        self.busy.set(self.busy.get() + began.elapsed());
        match outcome {
            Ok((value, reason)) => {
                self.end(&step, Expect::Permit, began, None, &reason);
                Ok(value)
            }
            Err(trouble) => {
                self.wrong(&step, Expect::Permit, began, trouble);
                Err(Stopped)
            }
        }
    }

    /// A step that must be refused with one of `codes`; `body` gives the refusal.
    pub async fn refuse(&self, step: Step<'_>, codes: &[&str], body: impl Future<Output = Told<Refused>>) {
        let began = self.begin(&step).await;
        let outcome = body.await;
        self.busy.set(self.busy.get() + began.elapsed());
        match outcome {
            Ok(refused) if codes.contains(&refused.code.as_str()) => {
                self.refused.set(self.refused.get() + 1);
                self.end(&step, Expect::Refuse, began, Some(&refused), &refused.line());
            }
            Ok(refused) => {
                let told =
                    format!("refused for another reason than {}: {}", codes.join(" or "), refused.line());
                self.wrong(&step, Expect::Refuse, began, Trouble::Failed(told));
            }
            Err(trouble) => self.wrong(&step, Expect::Refuse, began, trouble),
        }
    }

    /// A command as it is typed at `place`.
    pub fn command(&self, place: &str, command: &str) {
        self.say(&format!("  {} {command}", self.dim(&format!("{place}$"))));
    }

    /// Something that people should see, indented.
    pub fn shows(&self, text: &str) {
        for line in clean(text).lines() {
            self.say(&format!("    {line}"));
        }
    }

    /// A policy as numbered clauses.
    pub fn clauses(&self, clauses: &[Clause]) {
        for clause in clauses {
            // General clauses have no number.
            let mark = if clause.number.is_empty() { "·".to_owned() } else { format!("{}.", clause.number) };
            self.shows(&format!("{mark} {}", clause.text));
            for warning in &clause.warnings {
                self.shows(&format!("   ! {warning}"));
            }
        }
    }

    /// Something for people only.
    pub fn note(&self, text: &str) {
        self.say(text);
    }

    /// How long the steps took so far, without the pauses between them.
    pub fn busy(&self) -> Duration {
        self.busy.get()
    }

    /// The last word; a failure if any step did not come out as told, or the story `stopped`.
    pub fn conclude(&self, stopped: bool) -> Result<(), Failure> {
        let (told, refused, wrong) = (self.told.get(), self.refused.get(), self.wrong.get());
        if wrong == 0 && !stopped {
            let seconds = self.started.elapsed().as_secs_f64();
            self.say(&format!("\n{told} steps, {refused} of them refusals, all as told, in {seconds:.1} s."));
            return Ok(());
        }
        Err(Failure {
            code: "demo/not-as-told".into(),
            text: format!("{wrong} of {told} steps did not come out as told"),
            detail: if stopped { "the story could not go on".into() } else { String::new() },
            next: "the ends of the logs concerned stand above; `fairlead demo --keep DIR` keeps everything"
                .into(),
            exit: exit::OURS,
        })
    }

    async fn begin(&self, step: &Step<'_>) -> Instant {
        self.told.set(self.told.get() + 1);
        let heading = format!("{:>2}. {}", self.told.get(), step.title);
        self.say(&format!("\n{}", self.bold(&heading)));
        if self.pause {
            self.wait_for_enter().await;
        }
        Instant::now()
    }

    async fn wait_for_enter(&self) {
        let _ = write!(std::io::stderr().lock(), "    [Enter] ");
        let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        // Where nobody can press Enter, the story goes on.
        drop(read.await);
    }

    fn end(&self, step: &Step<'_>, expect: Expect, began: Instant, refused: Option<&Refused>, reason: &str) {
        let took = began.elapsed();
        if self.output.json {
            self.object(step, expect, true, took, refused, reason);
            return;
        }
        let mark = match expect {
            Expect::Permit => self.colour("32", "✔"),
            Expect::Refuse => self.colour("33", "✘ refused, as it must be:"),
        };
        self.say(&format!("  {mark} {}", clean(reason)));
    }

    fn wrong(&self, step: &Step<'_>, expect: Expect, began: Instant, trouble: Trouble) {
        self.wrong.set(self.wrong.get() + 1);
        let (refused, reason) = match trouble {
            Trouble::Refused(refused) => (Some(refused.clone()), refused.line()),
            Trouble::Failed(what) => (None, what),
        };
        if self.output.json {
            self.object(step, expect, false, began.elapsed(), refused.as_ref(), &reason);
        } else {
            let mark = self.colour("31", &format!("NOT AS TOLD ({} was expected):", expect.as_str()));
            self.say(&format!("  {mark} {}", clean(&reason)));
        }
        let mut err = std::io::stderr().lock();
        for server in step.concerned {
            let _ = writeln!(err, "{}", clean(&server.tail()));
        }
    }

    fn object(
        &self,
        step: &Step<'_>,
        expect: Expect,
        ok: bool,
        took: Duration,
        refused: Option<&Refused>,
        reason: &str,
    ) {
        let mut object = serde_json::json!({
            "step": step.id,
            "expect": expect.as_str(),
            "ok": ok,
            "reason": reason,
            "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        if let (Some(refused), Some(object)) = (refused, object.as_object_mut()) {
            object.insert("code".to_owned(), refused.code.clone().into());
        }
        drop(self.output.line(&object.to_string()));
    }

    fn say(&self, line: &str) {
        if !self.output.json {
            drop(self.output.line(line));
        }
    }

    fn bold(&self, text: &str) -> String {
        self.colour("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.colour("2", text)
    }

    fn colour(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
