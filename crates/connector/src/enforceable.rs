//! What this connector can hold: a policy that demands more is refused at publication and at negotiation, by name.
//!
//! The two tables below are the one place that says it: they decide here, are told to peers, and make the pages.

use std::collections::BTreeSet;

use crate::data::situation::unknown_state;
use control_plane::{Refusal, UnixMillis};
use policy::compare::Answer;
use policy::vocab::{action, operand, short};
use policy::{CountUnit, Deadline, Duty, DutyRole, Phase, Policy, Profiles, template};

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
    UNIT_UNDER_LEASE = "policy/unit-of-count-under-lease", Policy,
        "under a key lease the provider counts, and it counts sessions only", "在金鑰租約下由提供方計數，而提供方只計會話",
        "在密钥租约下由提供方计数，而提供方只计会话",
        clause "fl:keyLease", next "count by session, or agree on terms without `fl:keyLease`";
    UNSUPPORTED_PARTY = "policy/unsupported-party", Policy,
        "the policy wants somebody informed whom this connector does not inform",
        "政策要求通知的一方並非此連接器會通知者", "策略要求通知的一方并非此连接器会通知者",
        clause "usage control: notices go to a party of the agreement", next "name the assigner as informed party, or nobody: then it is the assigner";
    UNSUPPORTED_COLLECTION = "policy/unsupported-collection", Policy,
        "the policy is for a collection, and nobody tells this connector who or what belongs to it",
        "政策適用於集合，而此連接器無從得知其成員", "策略适用于集合，而此连接器无从得知其成员",
        clause "ODRL 2.2 Information Model, 2.3.3", next "name each participant or dataset, or constrain `fl:participant`, `fl:role` or `fl:project`";
    UNSUPPORTED_PERFORMER = "policy/unsupported-performer", Policy,
        "a duty falls to somebody whom the policy permits nothing, and no connector would perform it",
        "義務由政策未許可的一方承擔，沒有連接器會履行", "义务由策略未许可的一方承担，没有连接器会履行",
        clause "usage control: say what you can enforce", next "leave the duty's assignee out: then it falls to the consumer";
    NEVER_DECIDED = "policy/never-decided", Policy,
        "no fact can ever decide this constraint",
        "沒有任何事實能判定此限制條件", "没有任何事实能判定该限制条件",
        clause "usage control: say what you can enforce", next "leave the unit out, use `eq` for what has no order, or bound the time instead";
    NOTHING_PERMITTED = "policy/nothing-permitted", Policy,
        "the policy would never permit anything", "此政策永遠不會許可任何使用", "该策略永远不会许可任何使用",
        clause "policy: static analysis", next "correct the constraints that exclude each other or every use";
    DUTY_PAST = "policy/duty-past", Policy,
        "a duty was due before the policy is published", "義務的期限早於政策發布之時", "义务的期限早于策略发布之时",
        clause "usage control: duties", next "set a deadline that lies ahead";
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
pub const SUPPORTED: &[&str] = &[
    operand::DATE_TIME,
    operand::COUNT,
    operand::UNIT_OF_COUNT,
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
    /// What is passed on is offered only on terms at least as strict as the policy that is named.
    Onward,
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
    (action::NEXT_POLICY, Executor::Onward),
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

/// Refuses to publish a policy that this connector could not hold, or that nobody could ever use or keep from `now` on.
pub fn require_published(policy: &Policy, now: UnixMillis) -> Result<(), Refusal> {
    require(policy)?;
    let past = |duty: &&Duty| {
        let by = |deadline: &Deadline| matches!(deadline, Deadline::At(at) if *at <= now);
        duty.deadlines.iter().any(by)
    };
    if let Some(duty) = policy.duties().iter().find(past) {
        return Err(Refusal::new(&DUTY_PAST, format!("`{}` in clause {}", short(&duty.action), duty.clause)));
    }
    // What only prohibits or obliges was not meant to permit anything.
    if policy.permits_somebody() && policy::compare::satisfiable(policy) == Answer::No {
        return Err(Refusal::new(&NOTHING_PERMITTED, format!("`{}`", policy.uid())));
    }
    Ok(())
}

/// Refuses a policy that this connector could not hold, naming the first operand or duty.
pub fn require(policy: &Policy) -> Result<(), Refusal> {
    if let Some(collection) = policy.collections().into_iter().next() {
        return Err(Refusal::new(&UNSUPPORTED_COLLECTION, format!("`{collection}`")));
    }
    let unknown: Vec<String> = policy
        .operands()
        .into_iter()
        .filter(|operand| !SUPPORTED.contains(operand))
        .map(|operand| format!("`{}`", short(operand)))
        .collect();
    if !unknown.is_empty() {
        return Err(Refusal::new(&UNSUPPORTED_OPERAND, unknown.join(", ")));
    }
    if let Some(constraint) = policy.never_decided().into_iter().next() {
        return Err(Refusal::new(&NEVER_DECIDED, format!("`{constraint}`")));
    }
    count_unit(policy)?;
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

/// What one use is under this policy, if that is counted here.
///
/// # Errors
/// The policy's, where it does not say by which one unit; `policy/unit-of-count-under-lease`.
pub fn count_unit(policy: &Policy) -> Result<CountUnit, Refusal> {
    // Uses that nothing limits are counted by session, for whoever looks.
    let unit = policy.count_unit()?.unwrap_or(CountUnit::Session);
    match unit {
        CountUnit::Session => Ok(unit),
        // A provider sees requests for shares, not which objects are read nor on which days a lease is used.
        CountUnit::Object | CountUnit::Day if policy.lease_millis().is_some() => {
            Err(Refusal::new(&UNIT_UNDER_LEASE, format!("`{}`", short(unit.iri()))))
        }
        CountUnit::Object | CountUnit::Day => Ok(unit),
    }
}

fn require_duty(policy: &Policy, duty: &Duty, is_consequence: bool) -> Result<(), Refusal> {
    let refuse = |why: &str| {
        let detail = format!("`{}` in clause {}{why}", short(&duty.action), duty.clause);
        Err(Refusal::new(&UNSUPPORTED_DUTY, detail))
    };
    let permitted = policy.permitted_parties();
    if let Some(stranger) = duty.assignee.as_deref().filter(|party| !permitted.contains(party)) {
        let detail = format!("`{stranger}` in clause {}", duty.clause);
        return Err(Refusal::new(&UNSUPPORTED_PERFORMER, detail));
    }
    let Some(executor) = executor(duty) else { return refuse("") };
    let may_refine = match duty.action.as_str() {
        COMPENSATE => OF_COMPENSATE,
        action::NEXT_POLICY => &[operand::TARGET_POLICY],
        _ => &[],
    };
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
        Executor::Delete if !duty.deadlines.is_empty() || is_consequence => {}
        Executor::Record | Executor::Inform | Executor::Onward if is_consequence => {
            return refuse(", as a consequence");
        }
        Executor::Record | Executor::Inform | Executor::Onward
            if duty.phase != Phase::With || !duty.deadlines.is_empty() =>
        {
            return refuse(", at another time than with each use");
        }
        Executor::Record => {}
        Executor::Onward if !matches!(duty.role, DutyRole::OfPermission(_)) => {
            return refuse(", outside a permission");
        }
        Executor::Onward if next_policy(policy, duty).is_none() => {
            return refuse(", without one policy named");
        }
        Executor::Onward => {}
        Executor::Inform => require_informed(policy, duty)?,
        // What comes before use closes the permission; what comes with it has no moment of its own.
        Executor::Person if before_use || is_consequence || duty.phase == Phase::With => {}
        Executor::Person if !duty.deadlines.is_empty() => {}
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

/// The policy that a duty wants passed on with the data; `None` for other duties, and where not exactly one is named.
pub fn next_policy<'p>(policy: &Policy, duty: &'p Duty) -> Option<&'p str> {
    if duty.action != action::NEXT_POLICY {
        return None;
    }
    let refined = duty.refinements.iter().find(|one| one.operand == operand::TARGET_POLICY);
    let target = duty.target.as_deref().filter(|target| Some(*target) != policy.target());
    match (refined, target) {
        (Some(named), None) if named.operator == "eq" => match named.values.as_slice() {
            [one] => Some(one),
            _ => None,
        },
        (None, Some(target)) => Some(target),
        _ => None,
    }
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
    classes_by(profiles, |offer| require(offer).is_ok())
}

/// The classes that a peer holds by what it told: all that their templates rest on is among it.
pub fn classes_there(profiles: &Profiles, told: &[String]) -> Vec<u8> {
    // Whether a form of a duty is held, the terms alone do not say: what this version refuses is not counted.
    classes_by(profiles, |offer| require(offer).is_ok() && require_there(offer, told).is_ok())
}

fn classes_by(profiles: &Profiles, held_by: impl Fn(&Policy) -> bool) -> Vec<u8> {
    let (assigner, target) = ("https://a.example/id", "https://a.example/data");
    let held = template::all().iter().filter_map(|template| {
        let class = template.class.filter(|class| *class > 0)?;
        let mut values = template.examples();
        // Whoever is informed is the assigner.
        if let Some(party) = values.get_mut("party") {
            assigner.clone_into(party);
        }
        let offer = template::offer("urn:offer", assigner, target, &[(template, values)], profiles).ok()?;
        held_by(&offer).then_some(class)
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
        let by = |unit: &str| {
            format!(r#"{{"leftOperand":"unitOfCount","operator":"eq","rightOperand":"{unit}"}}"#)
        };
        let counted =
            |more: &[&str]| format!(r#"{{"action":"read","constraint":[{count},{}]}}"#, more.join(","));
        for (unit, leased) in [
            ("fl:perSession", None),
            ("fl:perObject", Some("policy/unit-of-count-under-lease")),
            ("fl:perDay", Some("policy/unit-of-count-under-lease")),
        ] {
            let term = r#"{"leftOperand":"fl:keyLease","operator":"lteq","rightOperand":{"@value":"P7D","@type":"xsd:duration"}}"#;
            check(&counted(&[&by(unit)]), None);
            check(&counted(&[&by(unit), term]), leased);
        }
        check(&counted(&[&by("odrl:perUser")]), Some("policy/unknown-unit-of-count"));
        check(&counted(&[&by("fl:perDay"), &by("fl:perObject")]), Some("policy/units-of-count-differ"));
        let alone = format!(r#"{{"action":"read","constraint":[{}]}}"#, by("fl:perDay"));
        check(&alone, Some("policy/unit-without-count"));
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
        let next =
            |target: &str| format!(r#"{{"action":"distribute","duty":[{{"action":"nextPolicy"{target}}}]}}"#);
        check(&next(r#","target":"https://p.example/next""#), None);
        check(&next(""), Some("policy/unsupported-duty"));
        check(&next(r#","target":"https://p.example/d""#), Some("policy/unsupported-duty"));
        check(r#"{"action":"read","duty":[{"action":"delete"}]}"#, Some("policy/duty-without-deadline"));
        let role_all = r#"{"leftOperand":"fl:role","operator":"isAnyOf","rightOperand":[{"@id":"urn:r"},{"@id":"urn:s"}]}"#;
        check(&format!(r#"{{"action":"read","constraint":[{role_all}]}}"#), None);
        let group = r#"{"@type":"PartyCollection","source":"urn:group:1"}"#;
        check(&format!(r#"{{"action":"read","assignee":{group}}}"#), Some("policy/unsupported-collection"));
        let unit = r#"{"leftOperand":"count","operator":"lteq","unit":"urn:file","rightOperand":3}"#;
        check(&format!(r#"{{"action":"read","constraint":[{unit}]}}"#), Some("policy/never-decided"));
        let after = r#"{"leftOperand":"event","operator":"gt","rightOperand":{"@id":"urn:event:1"}}"#;
        check(&format!(r#"{{"action":"read","constraint":[{after}]}}"#), Some("policy/never-decided"));
        let by = r#"{"leftOperand":"dateTime","operator":"lteq","rightOperand":{"@value":"2030-01-01T00:00:00Z","@type":"xsd:dateTime"}}"#;
        check(&format!(r#"{{"action":"read","duty":[{{"action":"delete","constraint":[{by}]}}]}}"#), None);
        check(
            &format!(
                r#"{{"action":"read","duty":[{{"action":"delete","assignee":"urn:stranger","constraint":[{by}]}}]}}"#
            ),
            Some("policy/unsupported-performer"),
        );
    }

    #[test]
    fn what_can_never_be_used_or_kept_is_not_published() {
        let now = UnixMillis::parse_rfc3339("2026-11-28T00:00:00Z").unwrap();
        let check = |rules: &str, expected: Option<&str>| {
            let text = format!(
                r#"{{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Offer","uid":"https://p.example/o",
                    "profile":"https://w3id.org/fairlead/profile/1","assigner":"https://p.example/id",
                    "target":"https://p.example/d",{rules}}}"#
            );
            let policy = Policy::from_json(&text, &Profiles::shipped())
                .unwrap_or_else(|problems| panic!("{problems}"));
            let refused = require_published(&policy, now).err().map(|refusal| refusal.code.code);
            assert_eq!(refused, expected, "{rules}");
        };
        let count = |bound: i32| {
            let bound = format!(r#"{{"leftOperand":"count","operator":"lteq","rightOperand":{bound}}}"#);
            format!(r#""permission":[{{"action":"read","constraint":[{bound}]}}]"#)
        };
        check(&count(1), None);
        check(&count(0), Some("policy/nothing-permitted"));
        check(&count(-1), Some("policy/nothing-permitted"));
        let delete = |year: u32| {
            let by = format!(
                r#"{{"leftOperand":"dateTime","operator":"lteq","rightOperand":"{year}-01-01T00:00:00Z"}}"#
            );
            format!(r#"{},"obligation":[{{"action":"delete","constraint":[{by}]}}]"#, count(1))
        };
        check(&delete(2027), None);
        check(&delete(2020), Some("policy/duty-past"));
    }
}
