//! Scenario tables: who, what, why, when, where, and the answer expected; kept beside a policy as its tests.
//!
//! The same lines, without an expectation, replay a log of past requests against a changed policy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decide::Outcome;
use crate::facts::{DutyState, Facts, Request};
use crate::policy::Policy;
use crate::profile::{Profiles, Source, Stage};
use crate::refusal::Refusal;
use crate::time::UnixMillis;
use crate::vocab::{action, expand_vocab};

crate::refusal_codes! {
    BAD_SCENARIO = "policy/bad-scenario", Input,
        "the scenario cannot be read", "情境無法讀取", "情景无法读取",
        clause "policy: scenarios", next "correct the scenario at the place named";
}

/// The most scenarios of one file: a year of daily requests, many times over.
pub const MAX_SCENARIOS: usize = 100_000;

/// One line of a table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    name: String,
    #[serde(default)]
    action: Option<String>,
    /// The policy's dataset if left out.
    #[serde(default)]
    target: Option<String>,
    /// The policy's assignee if left out.
    #[serde(default)]
    assignee: Option<String>,
    #[serde(default)]
    stage: Option<Stage>,
    now: String,
    /// Operand to value, as strings, numbers or arrays of strings.
    #[serde(default)]
    facts: BTreeMap<String, serde_json::Value>,
    /// Duty to `pending`, `fulfilled` or `violated`.
    #[serde(default)]
    duties: BTreeMap<String, String>,
    #[serde(default)]
    expect: Option<String>,
}

/// A scenario, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name, or its number.
    pub name: String,
    action: String,
    target: Option<String>,
    assignee: Option<String>,
    stage: Stage,
    facts: Facts,
    expected: Option<Outcome>,
}

/// What came of one scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioResult {
    /// The scenario's name.
    pub name: String,
    /// `permit`, `deny` or `unknown`.
    pub outcome: &'static str,
    /// What was expected, if the table says.
    pub expected: Option<&'static str>,
    /// The refusal code of anything but a permit.
    pub code: Option<&'static str>,
    /// Whether the outcome is the expected one; true if nothing was expected.
    pub passed: bool,
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Permit => "permit",
        Outcome::Deny => "deny",
        Outcome::Unknown => "unknown",
    }
}

/// Reads a JSON array of scenarios, or one JSON object a line.
///
/// # Errors
/// `policy/bad-scenario`, naming the scenario.
pub fn read(text: &str, profiles: &Profiles) -> Result<Vec<Scenario>, Refusal> {
    let bad =
        |place: usize, what: String| Refusal::new(&BAD_SCENARIO, format!("scenario {}: {what}", place + 1));
    let lines: Vec<Line> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|error| Refusal::new(&BAD_SCENARIO, error.to_string()))?
    } else {
        let lines = text.lines().filter(|line| !line.trim().is_empty()).enumerate();
        lines
            .take(MAX_SCENARIOS + 1)
            .map(|(place, line)| serde_json::from_str(line).map_err(|error| bad(place, error.to_string())))
            .collect::<Result<_, _>>()?
    };
    if lines.len() > MAX_SCENARIOS {
        return Err(Refusal::new(&BAD_SCENARIO, format!("more than {MAX_SCENARIOS} scenarios")));
    }
    lines
        .into_iter()
        .enumerate()
        .map(|(place, line)| understand(place, line, profiles).map_err(|what| bad(place, what)))
        .collect()
}

fn understand(place: usize, line: Line, profiles: &Profiles) -> Result<Scenario, String> {
    let now = UnixMillis::parse_rfc3339(&line.now)
        .ok_or_else(|| format!("`{}` is not a time with zone", line.now))?;
    let mut facts = Facts::at(now);
    for (operand, value) in &line.facts {
        // A scenario states what is the case; whether a source would be good enough is not its question.
        facts = crate::world::add_json(facts, operand, value, profiles, Source::LocalCounter)
            .map_err(|problems| problems.first().detail)?;
    }
    for (duty, state) in &line.duties {
        let state = DutyState::of_name(state)
            .ok_or_else(|| format!("`{state}` is not pending, fulfilled or violated"))?;
        facts = facts.duty(duty, state);
    }
    let expected = match line.expect.as_deref() {
        None => None,
        Some("permit") => Some(Outcome::Permit),
        Some("deny") => Some(Outcome::Deny),
        Some("unknown") => Some(Outcome::Unknown),
        Some(other) => return Err(format!("`{other}` is not permit, deny or unknown")),
    };
    Ok(Scenario {
        name: if line.name.is_empty() { (place + 1).to_string() } else { line.name },
        action: line.action.map_or_else(|| action::READ.to_owned(), |name| expand_vocab(&name, &Vec::new())),
        target: line.target,
        assignee: line.assignee,
        stage: line.stage.unwrap_or(Stage::Use),
        facts,
        expected,
    })
}

impl Scenario {
    fn decide<'p>(&self, policy: &'p Policy) -> crate::Decision<'p> {
        let request = Request {
            action: &self.action,
            target: self.target.as_deref().or(policy.target()).unwrap_or(""),
            assignee: self.assignee.as_deref().or(policy.assignee()).unwrap_or(""),
            stage: self.stage,
        };
        policy.decide(&request, &self.facts)
    }
}

/// Runs all scenarios against a policy. An offer is judged as the agreement that it would become.
pub fn run(policy: &Policy, scenarios: &[Scenario]) -> Vec<ScenarioResult> {
    let policy = policy.as_if_agreed();
    scenarios
        .iter()
        .map(|scenario| {
            let decision = scenario.decide(&policy);
            ScenarioResult {
                name: scenario.name.clone(),
                outcome: word(decision.outcome),
                expected: scenario.expected.map(word),
                code: decision.code.map(|code| code.code),
                passed: scenario.expected.is_none_or(|expected| expected == decision.outcome),
            }
        })
        .collect()
}

/// A past request that would be answered otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// The scenario's name.
    pub name: String,
    /// The answer of the policy before.
    pub before: &'static str,
    /// The answer of the changed policy.
    pub after: &'static str,
    /// The refusal code of anything but a permit now.
    pub code: Option<&'static str>,
}

/// Replays scenarios against a policy and its changed version; only those whose answer differs are listed.
pub fn simulate(before: &Policy, after: &Policy, scenarios: &[Scenario]) -> Vec<Changed> {
    let (old, new) = (run(before, scenarios), run(after, scenarios));
    old.into_iter()
        .zip(new)
        .filter(|(old, new)| old.outcome != new.outcome)
        .map(|(old, new)| Changed { name: old.name, before: old.outcome, after: new.outcome, code: new.code })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(count: u32) -> Policy {
        let text = format!(
            r#"{{"@type":"Offer","@id":"urn:o","target":"urn:d","permission":[{{"action":"read","constraint":[
                {{"leftOperand":"count","operator":"lteq","rightOperand":{count}}},
                {{"leftOperand":"purpose","operator":"isA","rightOperand":"ResearchAndDevelopment"}}]}}]}}"#
        );
        Policy::from_json(&text, &Profiles::shipped()).unwrap()
    }

    const TABLE: &str = r#"[
        {"name":"first run","assignee":"urn:c","now":"2026-11-25T00:00:00Z","facts":{"count":0,"purpose":"AcademicResearch"},"expect":"permit"},
        {"name":"marketing","now":"2026-11-25T00:00:00Z","facts":{"count":0,"purpose":"Marketing"},"expect":"deny"},
        {"name":"no purpose","now":"2026-11-25T00:00:00Z","facts":{"count":0},"expect":"unknown"},
        {"name":"fourth","now":"2026-11-25T00:00:00Z","facts":{"count":3,"purpose":"dpv:AcademicResearch"},"expect":"permit"}]"#;

    #[test]
    fn tables_pass_and_fail_by_name() {
        let scenarios = read(TABLE, &Profiles::shipped()).unwrap();
        let results = run(&offer(3), &scenarios);
        let failed: Vec<&str> =
            results.iter().filter(|result| !result.passed).map(|result| result.name.as_str()).collect();
        assert_eq!(failed, ["fourth"]);
        assert_eq!(results[3].code, Some("policy/count-spent"));
        let changed = simulate(&offer(3), &offer(4), &scenarios);
        assert_eq!(changed.len(), 1);
        assert_eq!(
            (changed[0].name.as_str(), changed[0].before, changed[0].after),
            ("fourth", "deny", "permit")
        );
    }

    #[test]
    fn lines_are_read_and_errors_are_placed() {
        let lines =
            "{\"now\":\"2026-11-25T00:00:00Z\"}\n\n{\"now\":\"2026-11-25T00:00:00Z\",\"stage\":\"transfer\"}";
        assert_eq!(read(lines, &Profiles::shipped()).unwrap().len(), 2);
        for bad in [
            "[{}]",
            "{\"now\":\"yesterday\"}",
            "{\"now\":\"2026-11-25T00:00:00Z\",\"facts\":{\"colour\":1}}",
            "{\"now\":\"2026-11-25T00:00:00Z\",\"expect\":\"maybe\"}",
            "{\"now\":\"2026-11-25T00:00:00Z\",\"duties\":{\"urn:x\":\"done\"}}",
        ] {
            assert_eq!(read(bad, &Profiles::shipped()).unwrap_err().code, &BAD_SCENARIO, "{bad}");
        }
    }
}
