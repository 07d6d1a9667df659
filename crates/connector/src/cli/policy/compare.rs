//! `fairlead policy compare` and `diff`: strictness, conflict, and what changed from one version to the next.

use std::path::Path;

use policy::compare::{self, Answer, Meeting, Witness};
use serde::Serialize;

use super::{Shelf, not_understood};
use crate::cli::output::Failure;

/// The first four are what `--json` prints, and all that it prints; the others are for people.
#[derive(Serialize)]
struct Compared {
    /// `conflict`, `compatible` or `unknown`.
    conflict: &'static str,
    /// Whether A is at least as strict as B: `yes`, `no` or `unknown`.
    refines: &'static str,
    /// A request that shows the difference, else one that shows the conflict or the meeting.
    witness: Option<String>,
    /// Why, for both answers.
    reason: String,
    #[serde(skip)]
    conflict_reason: String,
    #[serde(skip)]
    refines_reason: String,
    /// Whether B is at least as strict as A, and why.
    #[serde(skip)]
    refined_by: String,
    #[serde(skip)]
    equivalent: &'static str,
}

impl Compared {
    /// What is not understood compares to nothing.
    fn unknown(reason: &str) -> Self {
        Self {
            conflict: "unknown",
            refines: "unknown",
            witness: None,
            reason: reason.to_owned(),
            conflict_reason: reason.to_owned(),
            refines_reason: reason.to_owned(),
            refined_by: "unknown".to_owned(),
            equivalent: "unknown",
        }
    }

    fn of(all: compare::Comparison) -> Self {
        let equivalent = answer(all.equivalent());
        let witness = all.refines.witness.as_ref().or(all.conflict.witness.as_ref()).map(Witness::line);
        Self {
            conflict: meeting(all.conflict.verdict),
            refines: answer(all.refines.answer),
            witness,
            reason: format!("conflict: {}; refines: {}", all.conflict.reason, all.refines.reason),
            conflict_reason: all.conflict.reason,
            refines_reason: all.refines.reason,
            refined_by: format!("{} ({})", answer(all.refined_by.answer), all.refined_by.reason),
            equivalent,
        }
    }
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
    let compared = Compared::of(compare::compare(&left, &right));
    shelf.output.show(&compared, |compared| {
        crate::cli::output::facts(&[
            ("A and B", format!("{} ({})", compared.conflict, compared.conflict_reason)),
            ("A at least as strict as B", format!("{} ({})", compared.refines, compared.refines_reason)),
            ("B at least as strict as A", compared.refined_by.clone()),
            ("equivalent", compared.equivalent.into()),
            ("shown by", compared.witness.clone().unwrap_or_default()),
        ])
    })
}

/// The answer says that nothing is known, and the exit code too.
fn unknown(shelf: &Shelf, failure: Failure) -> Result<(), Failure> {
    let reason = format!("{}: {}", failure.text, failure.detail);
    let compared = Compared::unknown(&reason);
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

#[cfg(test)]
mod tests {
    use policy::{Policy, Profiles};

    use super::*;

    const AXES: &str = r#"{"format":1,"profile":"https://axes.example/","version":"1","operands":[
        {"iri":"https://axes.example/width","type":"number","operators":["lt","lteq","gt","gteq","eq"]},
        {"iri":"https://axes.example/height","type":"number","operators":["lt","lteq","gt","gteq","eq"]}]}"#;
    const PLACES: &str =
        "@prefix skos: <http://www.w3.org/2004/02/skos/core#> . <urn:alps> skos:broader <urn:europe> .
        <urn:valley> skos:broader <urn:alps> .";

    fn json(value: &Compared) -> serde_json::Value {
        serde_json::to_value(value).unwrap()
    }

    /// Turtle on the left, JSON-LD on the right; each constraint is operand, operator, right operand.
    fn check(left: &[[&str; 3]], right: &[[&str; 3]], conflict: &str, refines: &str) {
        let profiles = Profiles::shipped().with_file(AXES).unwrap().with_taxonomy(PLACES, "").unwrap();
        let iri = |text: &str| policy::vocab::short(text) == text && text.contains(':');
        let turtle_term = |text: &str| if iri(text) { format!("<{text}>") } else { format!("odrl:{text}") };
        let turtle: Vec<String> = left
            .iter()
            .map(|[operand, operator, value]| {
                let value = if let Some((text, datatype)) = value.split_once("^^") {
                    format!("\"{text}\"^^xsd:{datatype}")
                } else {
                    turtle_term(value)
                };
                format!(
                    "[ odrl:leftOperand {} ; odrl:operator odrl:{operator} ; odrl:rightOperand {value} ]",
                    turtle_term(operand)
                )
            })
            .collect();
        let turtle = format!(
            "@prefix odrl: <http://www.w3.org/ns/odrl/2/> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
             <urn:a> a odrl:Set ; odrl:permission [ odrl:action odrl:read ; odrl:target <urn:d> ; odrl:constraint {} ] .",
            turtle.join(", ")
        );
        let atoms: Vec<serde_json::Value> = right
            .iter()
            .map(|[operand, operator, value]| {
                let value = match value.split_once("^^") {
                    Some((text, datatype)) => {
                        serde_json::json!({"@value": text, "@type": format!("xsd:{datatype}")})
                    }
                    None => serde_json::json!({"@id": value}),
                };
                serde_json::json!({"leftOperand": operand, "operator": operator, "rightOperand": value})
            })
            .collect();
        let json_ld = serde_json::json!({"@context": "http://www.w3.org/ns/odrl.jsonld", "@type": "Set", "uid": "urn:b",
            "permission": [{"action": "read", "target": "urn:d", "constraint": atoms}]});
        let left = Policy::from_turtle(&turtle, "", &profiles)
            .unwrap_or_else(|problems| panic!("{problems}\n{turtle}"));
        let right = Policy::from_json(&json_ld.to_string(), &profiles)
            .unwrap_or_else(|problems| panic!("{problems}\n{json_ld}"));
        let found = json(&Compared::of(compare::compare(&left, &right)));
        assert_eq!(
            (&found["conflict"], &found["refines"]),
            (&conflict.into(), &refines.into()),
            "{found}\n{turtle}\n{json_ld}"
        );
        if refines == "no" {
            assert!(found["witness"].is_string(), "{found}");
        }
    }

    #[test]
    fn the_json_has_four_members_whatever_is_compared() {
        let a = Policy::from_json(
            r#"{"@type":"Set","@id":"urn:a","permission":[{"action":"read","target":"urn:d"}]}"#,
            &Profiles::shipped(),
        );
        let a = a.unwrap();
        for compared in [Compared::of(compare::compare(&a, &a)), Compared::unknown("no policy")] {
            let found = json(&compared);
            let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["conflict", "reason", "refines", "witness"]);
        }
    }

    #[test]
    fn times_sizes_taxonomies_and_foreign_operands_compare() {
        const WIDTH: &str = "https://axes.example/width";
        const HEIGHT: &str = "https://axes.example/height";
        let time = |operator, at| [["dateTime", operator, at]];
        let (june, december) = ("2026-06-01T00:00:00Z^^dateTime", "2026-12-01T00:00:00Z^^dateTime");
        check(&time("lteq", june), &time("lteq", december), "compatible", "yes");
        check(&time("lteq", december), &time("lteq", june), "compatible", "no");
        check(&time("lt", june), &time("gt", december), "conflict", "no");
        check(
            &[["elapsedTime", "lteq", "P10D^^duration"]],
            &[["elapsedTime", "lteq", "P20D^^duration"]],
            "compatible",
            "yes",
        );
        check(
            &[["elapsedTime", "lteq", "P1M^^duration"]],
            &[["elapsedTime", "lteq", "P30D^^duration"]],
            "compatible",
            "unknown",
        );

        let box_of = |width, height| [[WIDTH, "lteq", width], [HEIGHT, "lteq", height]];
        check(
            &box_of("600^^integer", "400^^integer"),
            &box_of("800^^integer", "600^^integer"),
            "compatible",
            "yes",
        );
        // Narrower on one axis, wider on the other: neither contains the other.
        check(
            &box_of("600^^integer", "900^^integer"),
            &box_of("800^^integer", "600^^integer"),
            "compatible",
            "no",
        );
        check(&[[WIDTH, "lteq", "600^^integer"]], &[[WIDTH, "gt", "600^^integer"]], "conflict", "no");
        // The whole size in one number says nothing about an axis.
        check(
            &[["absoluteSize", "lteq", "1^^integer"]],
            &[["absoluteSize", "lteq", "2^^integer"]],
            "unknown",
            "unknown",
        );

        let place = |operator, place| [["spatial", operator, place]];
        check(&place("isPartOf", "urn:valley"), &place("isPartOf", "urn:europe"), "compatible", "yes");
        check(&place("isPartOf", "urn:europe"), &place("isPartOf", "urn:alps"), "compatible", "no");
        check(&place("eq", "urn:valley"), &place("isPartOf", "urn:alps"), "compatible", "yes");
    }
}
