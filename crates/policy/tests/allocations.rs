//! A decision allocates nothing, whatever it decides.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]
#![allow(unsafe_code, reason = "counting allocations needs an allocator of our own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use policy::time::UnixMillis;
use policy::vocab::action;
use policy::{DutyState, Facts, Outcome, Policy, Profiles, Request, Source, Stage, Value, vocab::operand};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn decisions_do_not_allocate() {
    let text = r#"{"@type":"Set","@id":"urn:p","target":{"@type":"odrl:AssetCollection","source":"urn:shelf"},"profile":"https://w3id.org/fairlead/profile/1",
        "permission":[{"action":"use","duty":[{"@id":"urn:duty","action":"obtainConsent"}],"constraint":[
          {"leftOperand":"purpose","operator":"isA","rightOperand":"ResearchAndDevelopment"},
          {"leftOperand":"dateTime","operator":"lteq","rightOperand":"2026-12-31+08:00"},
          {"leftOperand":"count","operator":"lteq","rightOperand":3},
          {"xone":[{"leftOperand":"spatial","operator":"isAnyOf","rightOperand":["HK","MO"]},
                   {"leftOperand":"fl:securityProfile","operator":"gteq","rightOperand":"trust"}]}]}],
        "prohibition":[{"action":"use","constraint":[{"leftOperand":"fl:participant","operator":"eq","rightOperand":"urn:bad"}]}],
        "obligation":[{"action":"delete","constraint":[{"leftOperand":"fl:elapsedSinceEnd","operator":"lteq","rightOperand":"P30D"}]}]}"#;
    let policy = Policy::from_json(text, &Profiles::shipped()).unwrap();
    let now = UnixMillis::parse_rfc3339("2026-11-25T00:00:00Z").unwrap();
    let base = Facts::at(now).purpose("AcademicResearch").uses_spent(1).member("urn:d", "urn:shelf");
    let full = base.clone().jurisdiction("HK").duty("urn:duty", DutyState::Fulfilled).with(
        operand::SECURITY_PROFILE,
        Value::symbol("base"),
        Source::Registered,
        now,
    );
    let mut seen = Vec::new();
    for facts in [&base, &full, &full.clone().uses_spent(3)] {
        for stage in [Stage::Catalogue, Stage::Transfer, Stage::Use] {
            for assignee in ["urn:good", "urn:bad"] {
                let request = Request { action: action::READ, target: "urn:d", assignee, stage };
                let before = COUNT.with(Cell::get);
                let decision = policy.decide(&request, facts);
                let named =
                    decision.deferred().count() + decision.duties().count() + decision.facts_read().count();
                assert_eq!(COUNT.with(Cell::get), before, "{request:?}");
                assert!(named < 64);
                seen.push(decision.outcome);
            }
        }
    }
    for outcome in [Outcome::Permit, Outcome::Deny, Outcome::Unknown] {
        assert!(seen.contains(&outcome), "{outcome:?}");
    }
}
