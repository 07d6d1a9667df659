//! Says whether an action is permitted, why, until when and with which duties, from values alone.
//!
//! Pure: no IO, no clock, no randomness. Facts, including the current time, are arguments.
//!
//! ```
//! use policy::time::UnixMillis;
//! use policy::{Facts, Lang, Policy, Profiles, Request, Stage, vocab::action};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let profiles = Profiles::shipped();
//! let offer = Policy::from_json(
//!     r#"{"@type": "Offer", "@id": "urn:uuid:offer-1", "assigner": "https://hku.example/id",
//!         "target": "https://hku.example/data/weather", "profile": "https://w3id.org/fairlead/profile/1",
//!         "permission": [{"action": "use", "constraint": [
//!           {"leftOperand": "purpose", "operator": "isA", "rightOperand": "dpv:ResearchAndDevelopment"},
//!           {"leftOperand": "count", "operator": "lteq", "rightOperand": 3}]}],
//!         "obligation": [{"action": "delete", "constraint": [
//!           {"leftOperand": "fl:elapsedSinceEnd", "operator": "lteq", "rightOperand": "P30D"}]}]}"#,
//!     &profiles,
//! )?;
//!
//! // The agreement has the offer's rules word for word; its text is what both parties sign.
//! let now = UnixMillis::parse_rfc3339("2026-11-25T08:00:00Z").ok_or("a timestamp")?;
//! let text = offer.agreement_text("urn:uuid:agreement-1", "https://um.example/id", now)?;
//! let agreement = Policy::from_json(&text, &profiles)?;
//! assert!(agreement.terms_equal(&offer));
//!
//! // A pull is not a use: purpose and count are decided later, and listed until then.
//! let mut request = Request {
//!     action: action::USE,
//!     target: "https://hku.example/data/weather",
//!     assignee: "https://um.example/id",
//!     stage: Stage::Transfer,
//! };
//! let decision = agreement.decide(&request, &Facts::at(now));
//! assert!(decision.is_permit() && decision.deferred().count() == 3);
//!
//! // At use everything decides; the third use is the last.
//! request = Request { action: action::READ, stage: Stage::Use, ..request };
//! let facts = Facts::at(now).purpose("dpv:ScientificResearch").uses_spent(2);
//! assert!(agreement.decide(&request, &facts).is_permit());
//! let spent = Facts::at(now).purpose("dpv:ScientificResearch").uses_spent(3);
//! let decision = agreement.decide(&request, &spent);
//! assert_eq!(decision.code.map(|code| code.code), Some("policy/count-spent"));
//! assert!(agreement.explain(&request, &spent, Lang::En).lines()[0].contains("spent"));
//!
//! // The policy as numbered clauses, in three languages.
//! assert_eq!(agreement.render(Lang::ZhHant).first().map(|clause| clause.number.as_str()), Some("1"));
//! # Ok(())
//! # }
//! ```

pub mod accept;
#[cfg(test)]
mod bounds;
mod canonical;
mod cells;
pub mod compare;
mod decide;
mod duty;
mod evaluate;
mod explain;
mod facts;
#[cfg(test)]
mod generate;
mod ir;
mod json;
mod keeping;
mod lint;
mod model;
#[cfg(test)]
mod naive;
mod node;
mod operands;
#[cfg(test)]
mod oracle;
mod policy;
mod problem;
mod profile;
mod rdf;
mod read;
mod read_atom;
mod read_profile;
pub mod refusal;
mod render;
pub mod report;
pub mod scenario;
mod set;
mod tables;
pub mod template;
mod terms;
mod text;
pub mod time;
mod turtle;
mod units;
mod value;
pub mod vocab;
mod world;

pub use decide::{COUNT_SPENT, DUTY_UNFULFILLED, Decision, OUTSIDE_TIME, Outcome};
pub use duty::{Anchor, Anchors, Deadline, Duty, DutyRole, Refinement};
pub use explain::{ExplainedPart, ExplainedRule, Explanation};
pub use facts::{DutyState, Facts, Request};
pub use model::{Conflict, Kind, RuleKind};
pub use node::MAX_TEXT_BYTES;
pub use policy::{Policy, Unenforceable};
pub use problem::{Position, Problem, Problems};
pub use profile::{Enforcement, Lang, Phase, Profiles, Source, Stage};
pub use render::{Clause, ClauseKind};
pub use set::PolicySet;
pub use terms::{Term, TermKind};
pub use units::CountUnit;
pub use value::{Decimal, Symbol, Value};

/// Every refusal code of this crate, for the generated list of refusals.
pub fn codes() -> impl Iterator<Item = &'static refusal::Code> {
    [
        problem::CODES,
        profile::CODES,
        decide::CODES,
        policy::CODES,
        lint::CODES,
        scenario::CODES,
        template::CODES,
        turtle::CODES,
        units::CODES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_distinct_and_told_in_three_languages() {
        let mut codes: Vec<&str> = super::codes().map(|code| code.code).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
        for code in super::codes() {
            let name = code.code.strip_prefix("policy/").unwrap();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            let han = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
            assert!(han(code.zh_hant) && han(code.zh_hans) && !code.en.is_empty() && !code.next.is_empty());
        }
    }
}
