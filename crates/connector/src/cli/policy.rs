//! `fairlead policy …`: check, render and explain policies; needs no running connector.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use control_plane::UnixMillis;
use policy::{Facts, Lang, Policy, Profiles, Request, Source, Stage, Value};
use serde::Serialize;

use super::datasets::read_text;
use super::output::{Failure, Output, exit};
use crate::admin::holdings::expand;
use crate::clock::Clock;
use crate::enforceable;

/// Largest policy file read.
const MAX_POLICY_BYTES: u64 = 1024 * 1024;

/// `fairlead policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Report every problem of a policy by place, and what this connector cannot enforce
    #[command(after_help = "Example: fairlead policy check offer.json")]
    Check {
        /// ODRL in JSON or Turtle (by the file's ending: .ttl is Turtle)
        file: PathBuf,
    },
    /// Show a policy as numbered clauses in --language
    #[command(after_help = "Example: fairlead policy render offer.ttl --language zh-Hant")]
    Render {
        /// ODRL in JSON or Turtle
        file: PathBuf,
    },
    /// Decide a request against a policy and say why
    #[command(after_help = "Example: fairlead policy explain agreement.json --action read --purpose dpv:AcademicResearch \
        --jurisdiction HK --uses 2")]
    Explain(ExplainArgs),
}

/// The request and what is known.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// ODRL in JSON or Turtle
    pub file: PathBuf,
    /// What is to be done
    #[arg(long, default_value = "read")]
    pub action: String,
    /// Who asks; the policy's assignee if left out
    #[arg(long)]
    pub assignee: Option<String>,
    /// Why
    #[arg(long)]
    pub purpose: Option<String>,
    /// Who gets the result
    #[arg(long)]
    pub recipient: Option<String>,
    /// Where it is registered: CN, HK, MO, …
    #[arg(long)]
    pub jurisdiction: Option<String>,
    /// Uses already spent
    #[arg(long, default_value_t = 0)]
    pub uses: u64,
    /// When (RFC 3339); now if left out
    #[arg(long)]
    pub at: Option<String>,
    /// When the data was first used (RFC 3339); at the time of the request if left out
    #[arg(long)]
    pub first_use: Option<String>,
}

/// Runs a policy command.
pub fn run(output: Output, command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check { file } => check(output, &file),
        PolicyCommand::Render { file } => render(output, &file),
        PolicyCommand::Explain(args) => explain(output, &args),
    }
}

fn load(file: &Path) -> Result<Policy, Failure> {
    let text = read_text(file, MAX_POLICY_BYTES)?;
    let profiles = Profiles::shipped();
    let read = if file.extension().is_some_and(|ending| ending == "ttl") {
        Policy::from_turtle(&text, "", &profiles)
    } else {
        Policy::from_json(&text, &profiles)
    };
    read.map_err(|problems| Failure {
        code: problems.first().code.code.into(),
        text: "the policy is not understood".into(),
        detail: problems.to_string(),
        next: "correct every place named".into(),
        exit: exit::REFUSED_BY_POLICY,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    uid: String,
    hash: String,
    /// What is held by procedure or law alone.
    not_technical: Vec<String>,
    canonical: String,
}

fn check(output: Output, file: &Path) -> Result<(), Failure> {
    let policy = load(file)?;
    enforceable::require(&policy)?;
    let not_technical = policy.unenforceable().into_iter().map(|clause| {
        format!("clause {}: {} ({:?})", clause.rule, policy::vocab::short(&clause.term), clause.enforcement).to_lowercase()
    });
    let checked = Checked {
        uid: policy.uid().to_owned(),
        hash: policy.hash(),
        not_technical: not_technical.collect(),
        canonical: policy.canonical_text().to_owned(),
    };
    output.show(&checked, |checked| {
        let mut text = format!("{}: understood\nhash  {}", checked.uid, checked.hash);
        for clause in &checked.not_technical {
            text.push_str(&format!("\nnot held technically: {clause}"));
        }
        text
    })
}

fn render(output: Output, file: &Path) -> Result<(), Failure> {
    let policy = load(file)?;
    let clauses = crate::admin::agreements::clauses(&policy, lang(output));
    output.show(&clauses, |clauses| super::datasets::clause_lines(clauses))
}

fn explain(output: Output, args: &ExplainArgs) -> Result<(), Failure> {
    let policy = load(&args.file)?;
    let now = match &args.at {
        Some(text) => instant("--at", text)?,
        None => Clock::start(None).now(),
    };
    let first_use = args.first_use.as_deref().map(|text| instant("--first-use", text)).transpose()?;
    let mut facts = Facts::at(now).uses_spent(args.uses).first_use(first_use.unwrap_or(now));
    if let Some(code) = &args.jurisdiction {
        facts = facts.jurisdiction(code);
    }
    if let Some(purpose) = &args.purpose {
        facts = facts.purpose(&expand(purpose));
    }
    if let Some(recipient) = &args.recipient {
        let recipient = Value::symbol(&expand(recipient));
        facts = facts.with(policy::vocab::operand::RECIPIENT, recipient, Source::Asserted, now);
    }
    let action = crate::admin::holdings::expand_action(&args.action).map_err(|error| Failure::from(error.into_refusal()))?;
    let assignee = args.assignee.as_deref().or(policy.assignee()).unwrap_or_default();
    let target = policy.target().unwrap_or_default();
    let request = Request { action: &action, target, assignee, stage: Stage::Use };
    let explanation = policy.explain(&request, &facts, lang(output));
    output.show(&explanation, |explanation| explanation.lines().join("\n"))?;
    match explanation.code {
        None => Ok(()),
        Some(code) => Err(Failure {
            code: code.into(),
            text: explanation.headline,
            detail: String::new(),
            next: "the lines above tell what would satisfy it".into(),
            exit: exit::REFUSED_BY_POLICY,
        }),
    }
}

fn instant(flag: &str, text: &str) -> Result<UnixMillis, Failure> {
    UnixMillis::parse_rfc3339(text)
        .ok_or_else(|| Failure::usage(format!("{flag} `{text}` is no instant"), "write e.g. 2026-11-24T08:00:00Z"))
}

fn lang(output: Output) -> Lang {
    Lang::of_tag(output.language.tag())
}
