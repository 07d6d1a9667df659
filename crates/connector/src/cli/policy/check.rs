//! `fairlead policy check`: every problem with its place and a suggestion, doubts, and whether we can hold it.

use std::path::PathBuf;

use clap::Args;
use policy::{Enforcement, Kind, Policy, Problem};
use serde::Serialize;

use super::{Shelf, not_understood};
use crate::cli::output::{Failure, exit};
use crate::clock::Clock;
use crate::enforceable;

/// What is checked.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The policy
    file: PathBuf,
    /// Fail on warnings too, as version control wants it
    #[arg(long)]
    strict: bool,
}

/// A problem or warning.
#[derive(Serialize)]
struct Finding {
    code: &'static str,
    text: &'static str,
    path: String,
    line: u32,
    column: u32,
    term: String,
    expected: String,
    /// To be written instead of the term, as it stands.
    suggestion: Option<String>,
    next: &'static str,
}

impl Finding {
    fn of(problem: &Problem, lang: policy::Lang) -> Self {
        Self {
            code: problem.code.code,
            text: match lang {
                policy::Lang::En => problem.code.en,
                policy::Lang::ZhHant => problem.code.zh_hant,
                policy::Lang::ZhHans => problem.code.zh_hans,
            },
            path: problem.at.path.clone(),
            line: problem.at.line,
            column: problem.at.column,
            term: problem.term.clone(),
            expected: problem.expected.clone(),
            suggestion: problem.suggestion.clone(),
            next: problem.code.next,
        }
    }

    fn line(&self, kind: &str) -> String {
        let place = match self.line {
            0 => self.path.clone(),
            line => format!("{line}:{} {}", self.column, self.path),
        };
        // A parser's own words quote what they mean; a term of the text is quoted here.
        let term = if self.term.contains('`') { self.term.clone() } else { format!("`{}`", self.term) };
        let mut text = format!("{kind}: {} [{}]\n  at    {}: {term}", self.text, self.code, place.trim_end());
        if !self.expected.is_empty() {
            text.push_str(&format!("\n  wants {}", self.expected));
        }
        let fix =
            self.suggestion.as_ref().map_or_else(|| self.next.to_owned(), |with| format!("write `{with}`"));
        text.push_str(&format!("\n  fix   {fix}"));
        text
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    understood: bool,
    uid: String,
    hash: String,
    problems: Vec<Finding>,
    warnings: Vec<Finding>,
    /// What is held by procedure or law alone.
    not_technical: Vec<String>,
    ready_to_publish: bool,
    /// What stands in the way of publication.
    obstacles: Vec<String>,
    canonical: String,
}

pub(super) fn run(shelf: &Shelf, args: &CheckArgs) -> Result<(), Failure> {
    let policy = match shelf.read(&args.file)? {
        Ok(policy) => policy,
        Err(problems) => {
            let findings = problems.list().iter().map(|problem| Finding::of(problem, shelf.lang())).collect();
            let checked = Checked {
                understood: false,
                uid: String::new(),
                hash: String::new(),
                problems: findings,
                warnings: Vec::new(),
                not_technical: Vec::new(),
                ready_to_publish: false,
                obstacles: Vec::new(),
                canonical: String::new(),
            };
            shelf.output.show(&checked, lines)?;
            let mut failure = not_understood(&args.file.display().to_string(), &problems);
            failure.detail = listed(problems.list().len(), "problem");
            return Err(failure);
        }
    };
    let now = Clock::start(None).now();
    let held = if policy.kind() == Kind::Offer {
        enforceable::require_published(&policy, now)
    } else {
        // What is no offer is not published, and may be of another day.
        enforceable::require(&policy)
    };
    let warnings: Vec<Finding> =
        policy.lint_at(now).iter().map(|problem| Finding::of(problem, shelf.lang())).collect();
    let mut obstacles = Vec::new();
    if policy.kind() != Kind::Offer {
        obstacles.push("it is no Offer".to_owned());
    }
    if policy.assigner().is_none() {
        obstacles.push("it names no assigner".to_owned());
    }
    if let Err(refusal) = &held {
        obstacles.push(format!("{}: {}", refusal.code.code, refusal.detail));
    }
    let checked = Checked {
        understood: true,
        uid: policy.uid().to_owned(),
        hash: policy.hash(),
        problems: Vec::new(),
        not_technical: not_technical(&policy),
        ready_to_publish: obstacles.is_empty(),
        obstacles,
        canonical: policy.canonical_text().to_owned(),
        warnings,
    };
    shelf.output.show(&checked, lines)?;
    held?;
    match checked.warnings.first() {
        Some(first) if args.strict => Err(Failure {
            code: first.code.into(),
            text: first.text.into(),
            detail: listed(checked.warnings.len(), "warning"),
            next: first.next.into(),
            exit: exit::REFUSED_BY_POLICY,
        }),
        _ => Ok(()),
    }
}

fn listed(count: usize, what: &str) -> String {
    let several = if count == 1 { "" } else { "s" };
    format!("{count} {what}{several}, listed above")
}

fn not_technical(policy: &Policy) -> Vec<String> {
    let one = |clause: policy::Unenforceable| {
        let how = match clause.enforcement {
            Enforcement::Legal => "legal",
            Enforcement::Procedural => "procedural",
            Enforcement::Technical => "technical",
        };
        format!("clause {}: {} ({how})", clause.rule, policy::vocab::short(&clause.term))
    };
    policy.unenforceable().into_iter().map(one).collect()
}

fn lines(checked: &Checked) -> String {
    let mut text: Vec<String> = checked.problems.iter().map(|problem| problem.line("error")).collect();
    text.extend(checked.warnings.iter().map(|warning| warning.line("warning")));
    if checked.understood {
        text.push(format!("{}: understood\nhash  {}", checked.uid, checked.hash));
        text.extend(checked.not_technical.iter().map(|clause| format!("not held technically: {clause}")));
        let why = checked.obstacles.join("; ");
        text.push(if why.is_empty() {
            "ready to publish: yes".to_owned()
        } else {
            format!("ready to publish: no, {why}")
        });
    }
    text.join("\n")
}
