//! What this connector can hold: a policy that demands more is refused at publication and at negotiation, by name.

use control_plane::Refusal;
use policy::Policy;
use policy::vocab::{operand, short};

use crate::data::transforms;

control_plane::refusal_codes! {
    UNSUPPORTED_OPERAND = "policy/unsupported-operand", Policy,
        "the policy rests on an operand for which this connector has no source of facts",
        "政策所依據的運算元在此連接器沒有事實來源", "策略所依据的操作数在此连接器没有事实来源",
        clause "usage control: say what you can enforce", next "use an operand named by `fairlead policy check`, or leave the clause to the contract's text";
    UNSUPPORTED_DUTY = "policy/unsupported-duty", Policy,
        "the policy demands a duty that this connector does not perform",
        "政策要求的義務並非此連接器所能履行", "策略要求的义务并非此连接器所能履行",
        clause "usage control: say what you can enforce", next "use the duty `delete` with a deadline, or leave the duty to the contract's text";
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
}

/// Refuses a policy that could not be held towards a peer reached over HTTP: key leases are a service of our own between
/// members.
pub fn require_between(policy: &Policy, over_http: bool) -> Result<(), Refusal> {
    if over_http && policy.lease_millis().is_some() {
        return Err(Refusal::new(&LEASE_NEEDS_GRPC, format!("`{}`", short(operand::KEY_LEASE))));
    }
    require(policy)
}

/// Operands for which facts are provided at provider and consumer: clock, counter, first use, statement, request.
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
];

/// A lease is renewed at half of its time: shorter ones would ask the provider without pause.
const SHORTEST_LEASE_MS: i64 = 2_000;

/// Refuses a policy that this connector could not hold, naming the first operand or duty.
pub fn require(policy: &Policy) -> Result<(), Refusal> {
    if let Some(unknown) = policy.operands().into_iter().find(|operand| !SUPPORTED.contains(operand)) {
        return Err(Refusal::new(&UNSUPPORTED_OPERAND, format!("`{}`", short(unknown))));
    }
    if let Some(shortest) = policy.lease_millis().filter(|shortest| *shortest < SHORTEST_LEASE_MS) {
        return Err(Refusal::new(&LEASE_TOO_SHORT, format!("{shortest} ms")));
    }
    for duty in policy.duties() {
        // Whether the provider has bound it is asked where the provider decides.
        if transforms::needed(policy, duty).is_some() {
            continue;
        }
        if !duty.is_delete() {
            return Err(Refusal::new(
                &UNSUPPORTED_DUTY,
                format!("`{}` in clause {}", short(&duty.action), duty.clause),
            ));
        }
        if duty.deadline.is_none() {
            return Err(Refusal::new(&DUTY_WITHOUT_DEADLINE, format!("clause {}", duty.clause)));
        }
    }
    Ok(())
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
        check(r#"{"action":"read","duty":[{"action":"inform"}]}"#, Some("policy/unsupported-duty"));
        check(r#"{"action":"read","duty":[{"action":"delete"}]}"#, Some("policy/duty-without-deadline"));
        let by = r#"{"leftOperand":"dateTime","operator":"lteq","rightOperand":{"@value":"2030-01-01T00:00:00Z","@type":"xsd:dateTime"}}"#;
        check(&format!(r#"{{"action":"read","duty":[{{"action":"delete","constraint":[{by}]}}]}}"#), None);
    }
}
