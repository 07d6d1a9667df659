//! `fairlead policy compare` and `diff`: strictness, conflict, and what changed from one version to the next.

use std::path::Path;

use policy::compare::{self, Answer, Meeting, Witness};
use serde::Serialize;

use super::{Shelf, not_understood};
use crate::cli::output::Failure;

#[derive(Serialize)]
struct Compared {
    /// `conflict`, `compatible` or `unknown`.
    conflict: &'static str,
    /// Whether A is at least as strict as B: `yes`, `no` or `unknown`.
    refines: &'static str,
    /// Whether B is at least as strict as A.
    refined_by: &'static str,
    equivalent: &'static str,
    /// A request that shows the difference, else one that shows the conflict or the meeting.
    witness: Option<String>,
    /// Why, for both answers.
    reason: String,
    conflict_reason: String,
    refines_reason: String,
    refined_by_witness: Option<String>,
    refined_by_reason: String,
}

const fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "no",
        Answer::Unknown => "unknown",
    }
}

const fn meeting(meeting: Meeting) -> &'static str {
    match meeting {
        Meeting::Conflict => "conflict",
        Meeting::Compatible => "compatible",
        Meeting::Unknown => "unknown",
    }
}

pub(super) fn compare(shelf: &Shelf, a: &Path, b: &Path) -> Result<(), Failure> {
    let (left, right) = match (shelf.read(a)?, shelf.read(b)?) {
        (Ok(left), Ok(right)) => (left, right),
        (Err(problems), _) => return unknown(shelf, not_understood(&a.display().to_string(), &problems)),
        (_, Err(problems)) => return unknown(shelf, not_understood(&b.display().to_string(), &problems)),
    };
    let all = compare::compare(&left, &right);
    let equivalent = answer(all.equivalent());
    let line = |witness: Option<&Witness>| witness.map(Witness::line);
    let witness = line(all.refines.witness.as_ref().or(all.conflict.witness.as_ref()));
    let compared = Compared {
        conflict: meeting(all.conflict.verdict),
        refines: answer(all.refines.answer),
        refined_by: answer(all.refined_by.answer),
        equivalent,
        witness,
        reason: format!("conflict: {}; refines: {}", all.conflict.reason, all.refines.reason),
        conflict_reason: all.conflict.reason,
        refines_reason: all.refines.reason,
        refined_by_witness: line(all.refined_by.witness.as_ref()),
        refined_by_reason: all.refined_by.reason,
    };
    shelf.output.show(&compared, |compared| {
        crate::cli::output::facts(&[
            ("A and B", format!("{} ({})", compared.conflict, compared.conflict_reason)),
            ("A at least as strict as B", format!("{} ({})", compared.refines, compared.refines_reason)),
            (
                "B at least as strict as A",
                format!("{} ({})", compared.refined_by, compared.refined_by_reason),
            ),
            ("equivalent", compared.equivalent.into()),
            ("shown by", compared.witness.clone().unwrap_or_default()),
        ])
    })
}

/// What is not understood compares to nothing: the answer says so, and the exit code too.
fn unknown(shelf: &Shelf, failure: Failure) -> Result<(), Failure> {
    let reason = format!("{}: {}", failure.text, failure.detail);
    let compared = Compared {
        conflict: "unknown",
        refines: "unknown",
        refined_by: "unknown",
        equivalent: "unknown",
        witness: None,
        reason: reason.clone(),
        conflict_reason: reason.clone(),
        refines_reason: reason.clone(),
        refined_by_witness: None,
        refined_by_reason: reason,
    };
    if shelf.output.json {
        shelf.output.show(&compared, |_| String::new())?;
    }
    Err(failure)
}

#[derive(Serialize)]
struct Changed {
    also_permits: Vec<String>,
    no_longer_permits: Vec<String>,
    clauses_added: Vec<String>,
    clauses_removed: Vec<String>,
    /// Whether the new version is at least as strict as the old one.
    stricter: &'static str,
    unknown: Option<String>,
}

pub(super) fn diff(shelf: &Shelf, old: &Path, new: &Path) -> Result<(), Failure> {
    let (old, new) = (shelf.load(old)?, shelf.load(new)?);
    let difference = compare::difference(&old, &new, shelf.lang());
    let lines = |witnesses: &[Witness]| witnesses.iter().map(Witness::line).collect();
    let changed = Changed {
        also_permits: lines(&difference.also_permits),
        no_longer_permits: lines(&difference.no_longer_permits),
        clauses_added: difference.clauses_added,
        clauses_removed: difference.clauses_removed,
        stricter: answer(compare::refines(&new, &old).answer),
        unknown: difference.unknown,
    };
    shelf.output.show(&changed, |changed| {
        let mut text = Vec::new();
        let mut list =
            |title: &str, lines: &[String]| text.extend(lines.iter().map(|line| format!("{title}: {line}")));
        list("- clause", &changed.clauses_removed);
        list("+ clause", &changed.clauses_added);
        list("now also permits", &changed.also_permits);
        list("no longer permits", &changed.no_longer_permits);
        text.extend(changed.unknown.iter().map(|why| format!("requests not compared: {why}")));
        text.push(format!("at least as strict as before: {}", changed.stricter));
        text.join("\n")
    })
}
