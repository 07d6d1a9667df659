//! What this connector can hold: a policy that demands more is refused at publication and at negotiation, by name.
//!
//! The two tables below are the one place that says it: they decide here, are told to peers, and make the pages.

use std::collections::BTreeSet;

use crate::data::situation::unknown_state;
use control_plane::Refusal;
use policy::vocab::{action, operand, short};
use policy::{Duty, DutyRole, Phase, Policy, Profiles, template};

use crate::data::transforms;

control_plane::refusal_codes! {
    UNSUPPORTED_OPERAND = "policy/unsupported-operand", Policy,
        "the policy rests on an operand for which this connector has no source of facts",
        "政策所依據的運算元在此連接器沒有事實來源", "策略所依据的操作数在此连接器没有事实来源",
        clause "usage control: say what you can enforce", next "use an operand named by `fairlead policy check`, or leave the clause to the contract's text";
    UNSUPPORTED_DUTY = "policy/unsupported-duty", Policy,
        "the policy demands a duty that this connector does not perform",
        "政策要求的義務並非此連接器所能履行", "策略要求的义务并非此连接器所能履行",
        clause "usage control: say what you can enforce", next "use a duty of docs/policy-classes.md in its form, or leave it to the contract's text";
    DUTY_WITHOUT_DEADLINE = "policy/duty-without-deadline", Policy,
        "a duty without a deadline can never be overdue, so it is not accepted",
        "沒有期限的義務永不逾期，因此不予接受", "没有期限的义务永不逾期，因此不予接受",
        clause "usage control: acceptance list", next "constrain the duty by dateTime, or by the time since signing or first use";
    LEASE_TOO_SHORT = "policy/lease-too-short", Policy,
        "the policy asks for key leases shorter than two seconds", "政策要求的金鑰租約短於兩秒", "策略要求的密钥租约短于两秒",
        clause "fl:keyLease", next "allow at least two seconds since the last key lease";
    LEASE_NEEDS_GRPC = "policy/lease-needs-grpc", Policy,
        "the policy asks for key leases, which exist only between connectors that speak our gRPC services",
        "政策要求金鑰租約，而租約僅存在於使用本系統 gRPC 服務的連接器之間",
        "策略要求密钥租约，而租约仅存在于使用本系统 gRPC 服务的连接器之间",
        clause "fl:keyLease", next "negotiate and pull over gRPC, or agree on terms without `fl:keyLease`";
    UNSUPPORTED_PARTY = "policy/unsupported-party", Policy,
        "the policy wants somebody informed whom this connector does not inform",
        "政策要求通知的一方並非此連接器會通知者", "策略要求通知的一方并非此连接器会通知者",
        clause "usage control: notices go to a party of the agreement", next "name the assigner as informed party, or nobody: then it is the assigner";
    NOT_ENFORCEABLE_THERE = "negotiation/not-enforceable-there", Policy,
        "the consumer's connector did not say that it enforces what this policy needs",
        "消費方的連接器未聲明會執行此政策所需者", "消费方的连接器未声明会执行此策略所需者",
        clause "usage control: data goes only where its policy is enforced", next "upgrade the consumer's connector, or publish an offer that it can hold";
}

/// Refuses a policy that could not be held towards a peer reached over HTTP: key leases are a service of our own between
/// members.
pub fn require_between(policy: &Policy, over_http: bool) -> Result<(), Refusal> {
    if over_http && policy.lease_millis().is_some() {
        return Err(Refusal::new(&LEASE_NEEDS_GRPC, format!("`{}`", short(operand::KEY_LEASE))));
    }
    require(policy)
}

/// Operands for which facts are provided at provider and consumer: clock, counter, first use, statement, certificate,
/// settings, request. An IDS name stands for the same fact as ours.
const SUPPORTED: &[&str] = &[
    operand::DATE_TIME,
    operand::COUNT,
    operand::ELAPSED_TIME,
    operand::PURPOSE,
    operand::SPATIAL,
    operand::JURISDICTION,
    operand::RECIPIENT,
    operand::PARTICIPANT,
    operand::SINCE_SIGNING,
    operand::SINCE_FIRST_USE,
    operand::SECURITY_PROFILE,
    operand::KEY_LEASE,
    operand::ROLE,
    operand::PROJECT,
    operand::EVENT,
    operand::IDS_EVENT,
    operand::CONNECTOR,
    operand::ARTIFACT_STATE,
    "https://w3id.org/idsa/code/SYSTEM",
    "https://w3id.org/idsa/code/ROLE",
    "https://w3id.org/idsa/code/SECURITY_LEVEL",
    "https://w3id.org/idsa/code/COUNT",
    "https://w3id.org/idsa/code/ELAPSED_TIME",
    "https://w3id.org/idsa/code/DATE_TIME",
    "https://w3id.org/idsa/code/POLICY_EVALUATION_TIME",
    "https://w3id.org/idsa/code/PURPOSE",
    "https://w3id.org/idsa/code/RECIPIENT",
    "https://w3id.org/idsa/code/ABSOLUTE_SPATIAL_POSITION",
];

/// A lease is renewed at half of its time: shorter ones would ask the provider without pause.
const SHORTEST_LEASE_MS: i64 = 2_000;

/// How a duty is performed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// The connector destroys the keys of its copies before the deadline and tells the provider with proof.
    Delete,
    /// The ledger's record of each use is what is asked for: the transaction that grants a use writes it.
    Record,
    /// A signed notice to the assigner, queued in the transaction that grants a use.
    Inform,
    /// A person does it and enters the evidence; the connector keeps the row and the permission closed meanwhile.
    Person,
}

/// Duties that are performed here, and by what.
const DUTIES: &[(&str, Executor)] = &[
    (action::DELETE, Executor::Delete),
    ("https://w3id.org/fairlead/ns#proveDeletion", Executor::Delete),
    ("https://w3id.org/fairlead/ns#log", Executor::Record),
    ("https://w3id.org/idsa/code/LOG", Executor::Record),
    ("https://w3id.org/idsa/code/INCREMENT_COUNTER", Executor::Record),
    ("http://www.w3.org/ns/odrl/2/inform", Executor::Inform),
    ("http://www.w3.org/ns/odrl/2/attribute", Executor::Person),
    ("https://w3id.org/fairlead/ns#cite", Executor::Person),
    ("http://creativecommons.org/ns#Attribution", Executor::Person),
    (COMPENSATE, Executor::Person),
    ("http://www.w3.org/ns/odrl/2/obtainConsent", Executor::Person),
    ("http://www.w3.org/ns/odrl/2/reviewPolicy", Executor::Person),
];

const COMPENSATE: &str = "http://www.w3.org/ns/odrl/2/compensate";
/// Refinements that a person needs to read, and nothing else does.
const OF_COMPENSATE: &[&str] =
    &["http://www.w3.org/ns/odrl/2/payAmount", "https://w3id.org/idsa/code/PAY_AMOUNT"];

/// Who performs a duty here, if anything does.
pub fn executor(duty: &Duty) -> Option<Executor> {
    let listed = || DUTIES.iter().find(|(known, _)| *known == duty.action).map(|(_, executor)| *executor);
    if duty.is_delete() { Some(Executor::Delete) } else { listed() }
}

/// Refuses a policy that this connector could not hold, naming the first operand or duty.
pub fn require(policy: &Policy) -> Result<(), Refusal> {
    let unknown: Vec<String> = policy
        .operands()
        .into_iter()
        .filter(|operand| !SUPPORTED.contains(operand))
        .map(|operand| format!("`{}`", short(operand)))
        .collect();
    if !unknown.is_empty() {
        return Err(Refusal::new(&UNSUPPORTED_OPERAND, unknown.join(", ")));
    }
    if let Some(shortest) = policy.lease_millis().filter(|shortest| *shortest < SHORTEST_LEASE_MS) {
        return Err(Refusal::new(&LEASE_TOO_SHORT, format!("{shortest} ms")));
    }
    if let Some(state) = unknown_state(policy) {
        return Err(Refusal::new(&UNSUPPORTED_OPERAND, format!("`idsc:ARTIFACT_STATE` {}", short(state))));
    }
    // Whether the provider has bound a transform is asked where the provider decides.
    let mut untransformed = policy.duties().iter().filter(|duty| transforms::needed(policy, duty).is_none());
    untransformed.try_for_each(|duty| require_duty(policy, duty, false))
}

fn require_duty(policy: &Policy, duty: &Duty, is_consequence: bool) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        let detail = format!("`{}` in clause {}{why}", short(&duty.action), duty.clause);
        Err(Refusal::new(&UNSUPPORTED_DUTY, detail))
    };
    let Some(executor) = executor(duty) else { return refuse("") };
    let may_refine = if duty.action == COMPENSATE { OF_COMPENSATE } else { &[] };
    if let Some(refinement) =
        duty.refinements.iter().find(|known| !may_refine.contains(&known.operand.as_str()))
    {
        return refuse(&format!(", refined by `{}`", short(&refinement.operand)));
    }
    if executor != Executor::Delete && duty.conditional {
        return refuse(", which is owed only under a condition");
    }
    if executor != Executor::Delete && matches!(duty.role, DutyRole::Remedy(_)) {
        return refuse(", as a remedy");
    }
    let before_use = duty.phase == Phase::Before && matches!(duty.role, DutyRole::OfPermission(_));
    match executor {
        Executor::Delete if duty.deadline.is_some() || is_consequence => {}
        Executor::Record | Executor::Inform if is_consequence => return refuse(", as a consequence"),
        Executor::Record | Executor::Inform if duty.phase != Phase::With || duty.deadline.is_some() => {
            return refuse(", at another time than with each use");
        }
        Executor::Record => {}
        Executor::Inform => require_informed(policy, duty)?,
        // What comes before use closes the permission; what comes with it has no moment of its own.
        Executor::Person if before_use || is_consequence || duty.phase == Phase::With => {}
        Executor::Person if duty.deadline.is_some() => {}
        Executor::Delete | Executor::Person => {
            return Err(Refusal::new(&DUTY_WITHOUT_DEADLINE, format!("clause {}", duty.clause)));
        }
    }
    if duty.period_millis.is_some_and(|millis| millis < MIN_PERIOD_MILLIS || executor != Executor::Person)
        || (duty.period_millis.is_some() && !before_use)
    {
        return refuse(", which recurs in a way that is not kept here");
    }
    duty.consequences.iter().try_for_each(|consequence| require_duty(policy, consequence, true))
}

/// The shortest period of a recurring duty: each one is a row and a person's work.
const MIN_PERIOD_MILLIS: i64 = 1_000;

/// Only a party of the agreement takes notices about it, and the consumer informs itself anyway.
fn require_informed(policy: &Policy, duty: &Duty) -> Result<(), Refusal> {
    let others =
        duty.parties.iter().filter(|(function, _)| function == "informedParty" || function == "recipient");
    match others.map(|(_, party)| party.as_str()).find(|party| Some(*party) != policy.assigner()) {
        Some(stranger) => {
            Err(Refusal::new(&UNSUPPORTED_PARTY, format!("`{stranger}` in clause {}", duty.clause)))
        }
        None => Ok(()),
    }
}

/// What is told to peers: every operand and duty of the tables, as IRIs.
pub fn told() -> Vec<String> {
    // As a consumer we take nothing that such a duty concerns unless its manifest says that a transform performed it.
    let transformed = data_plane::PERFORMABLE.iter();
    let performed = DUTIES.iter().map(|(duty, _)| duty).chain(transformed);
    SUPPORTED.iter().chain(performed).map(|iri| (*iri).to_owned()).collect()
}

/// Refuses a policy of which the consumer's connector did not tell that it enforces all.
pub fn require_there(policy: &Policy, told: &[String]) -> Result<(), Refusal> {
    match needs(policy).into_iter().find(|needed| !told.iter().any(|known| known == needed)) {
        Some(missing) => Err(Refusal::new(&NOT_ENFORCEABLE_THERE, format!("`{}`", short(missing)))),
        None => Ok(()),
    }
}

/// Operands and duties that a policy rests on.
fn needs(policy: &Policy) -> BTreeSet<&str> {
    fn of_duty<'a>(found: &mut BTreeSet<&'a str>, duty: &'a Duty) {
        found.insert(&duty.action);
        duty.consequences.iter().for_each(|consequence| of_duty(found, consequence));
    }
    let mut found = policy.operands();
    policy.duties().iter().for_each(|duty| of_duty(&mut found, duty));
    found
}

/// The IDS policy classes whose template this connector holds.
pub fn classes(profiles: &Profiles) -> Vec<u8> {
    let (assigner, target) = ("https://a.example/id", "https://a.example/data");
    let held = template::all().iter().filter_map(|template| {
        let class = template.class.filter(|class| *class > 0)?;
        let mut values = template.examples();
        // Whoever is informed is the assigner.
        if let Some(party) = values.get_mut("party") {
            assigner.clone_into(party);
        }
        let offer = template::offer("urn:offer", assigner, target, &[(template, values)], profiles).ok()?;
        require(&offer).is_ok().then_some(class)
    });
    held.collect()
}

#[cfg(test)]
mod tests {
    use policy::Profiles;

    use super::*;

    fn check(permission: &str, expected: Option<&str>) {
        let text = format!(
            r#"{{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Offer","uid":"https://p.example/o",
                "profile":"https://w3id.org/fairlead/profile/1","assigner":"https://p.example/id",
                "target":"https://p.example/d","permission":[{permission}]}}"#
        );
        let policy =
            Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(require(&policy).err().map(|refusal| refusal.code.code), expected, "{permission}");
    }

    #[test]
    fn what_is_held_and_what_is_not() {
        check(r#"{"action":"read"}"#, None);
        let count = r#"{"leftOperand":"count","operator":"lteq","rightOperand":{"@value":"3","@type":"xsd:integer"}}"#;
        check(&format!(r#"{{"action":"read","constraint":[{count}]}}"#), None);
        let metered = r#"{"leftOperand":"meteredTime","operator":"lteq","rightOperand":{"@value":"PT1H","@type":"xsd:duration"}}"#;
        check(
            &format!(r#"{{"action":"read","constraint":[{metered}]}}"#),
            Some("policy/unsupported-operand"),
        );
        let lease = |bound: &str| {
            format!(
                r#"{{"action":"read","constraint":[{{"leftOperand":"fl:keyLease","operator":"lteq",
                    "rightOperand":{{"@value":"{bound}","@type":"xsd:duration"}}}}]}}"#
            )
        };
        check(&lease("P7D"), None);
        check(&lease("PT2S"), None);
        check(&lease("PT1.9S"), Some("policy/lease-too-short"));
        check(r#"{"action":"read","duty":[{"action":"inform"}]}"#, None);
        check(r#"{"action":"read","duty":[{"action":"delete"}]}"#, Some("policy/duty-without-deadline"));
        let by = r#"{"leftOperand":"dateTime","operator":"lteq","rightOperand":{"@value":"2030-01-01T00:00:00Z","@type":"xsd:dateTime"}}"#;
        check(&format!(r#"{{"action":"read","duty":[{{"action":"delete","constraint":[{by}]}}]}}"#), None);
    }
}
