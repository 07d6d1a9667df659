//! Measures the policy engine, and Cedar on an equivalent policy in the same run. Run by `cargo xtask bench policy`.
//!
//! Each figure of a decision is the smallest of many batches: what the code costs, not what the machine was doing beside
//! it; `spread` is the median over it.
#![allow(unsafe_code, reason = "counting allocations needs an allocator of our own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet as CedarPolicies, Request as CedarRequest};
use policy::time::UnixMillis;
use policy::vocab::action;
use policy::{Facts, Lang, Policy, PolicySet, Profiles, Request, Stage, compare};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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

/// 2026-11-25T00:00:00Z.
const NOW: UnixMillis = UnixMillis(1_795_564_800_000);
const FIRST_INTERVAL: i64 = 1_760_000_000_000;
const DAY: i64 = 86_400_000;

struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    /// Median over smallest; `None` for counts and ratios.
    spread: Option<f64>,
}

/// Smallest and median nanoseconds of one call.
fn nanoseconds(batches: usize, calls: u32, mut call: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..batches)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..calls {
                call();
            }
            started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |place: usize| times.get(place).copied().unwrap_or(f64::NAN);
    (at(0), at(batches / 2))
}

fn three_constraints(target: &str) -> String {
    format!(
        r#"{{"@type":"Set","@id":"urn:p","target":"{target}","permission":[{{"action":"use","assignee":"urn:c","constraint":[
            {{"leftOperand":"purpose","operator":"isA","rightOperand":"ResearchAndDevelopment"}},
            {{"leftOperand":"dateTime","operator":"gteq","rightOperand":"2026-01-01T00:00:00Z"}},
            {{"leftOperand":"dateTime","operator":"lteq","rightOperand":"2026-12-31T00:00:00Z"}}]}}]}}"#
    )
}

fn intervals(count: i64) -> String {
    let parts: Vec<String> = (0..count)
        .map(|day| {
            let from = FIRST_INTERVAL + day * DAY;
            let [from, until] = [from, from + DAY / 3].map(UnixMillis);
            format!(
                r#"{{"and":[{{"leftOperand":"dateTime","operator":"gt","rightOperand":"{from}"}},
                    {{"leftOperand":"dateTime","operator":"lt","rightOperand":"{until}"}}]}}"#
            )
        })
        .collect();
    let parts = parts.join(",");
    format!(r#"{{"@type":"Set","@id":"urn:p","target":"urn:d","permission":[{{"action":"use","constraint":[{{"or":[{parts}]}}]}}]}}"#)
}

fn ours(figures: &mut Vec<Figure>) -> Result<f64, Box<dyn Error>> {
    let profiles = Profiles::shipped();
    let text = three_constraints("urn:d");
    let policy = Policy::from_json(&text, &profiles)?;
    let facts = Facts::at(NOW).purpose("AcademicResearch").jurisdiction("HK").uses_spent(2);
    let request = Request { action: action::READ, target: "urn:d", assignee: "urn:c", stage: Stage::Use };
    permitted(policy.decide(&request, &facts).is_permit(), "three constraints")?;
    let (smallest, median) = nanoseconds(20_000, 100, || {
        black_box(black_box(&policy).decide(black_box(&request), black_box(&facts)).outcome);
    });
    figures.push(Figure { name: "decide_three_constraints_ns", value: smallest, unit: "ns", spread: Some(median / smallest) });

    let mut set = PolicySet::new();
    for number in 0..1_000 {
        set.insert(Policy::from_json(&three_constraints(&format!("urn:d:{number}")), &profiles)?);
    }
    let among = Request { target: "urn:d:500", ..request.clone() };
    permitted(set.decide(&among, &facts).is_some_and(|decision| decision.is_permit()), "among 1000")?;
    let (value, median) = nanoseconds(20_000, 100, || {
        black_box(black_box(&set).decide(black_box(&among), black_box(&facts)).map(|decision| decision.outcome));
    });
    figures.push(Figure { name: "decide_among_1000_ns", value, unit: "ns", spread: Some(median / value) });

    let many = Policy::from_json(&intervals(262), &profiles)?;
    let within = Facts::at(UnixMillis(FIRST_INTERVAL + 200 * DAY + 1_000));
    permitted(many.decide(&request, &within).is_permit(), "262 intervals")?;
    let (value, median) = nanoseconds(20_000, 100, || {
        black_box(black_box(&many).decide(black_box(&request), black_box(&within)).outcome);
    });
    figures.push(Figure { name: "decide_262_intervals_ns", value, unit: "ns", spread: Some(median / value) });

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..1_000 {
        black_box(policy.decide(&request, &facts).outcome);
        black_box(set.decide(&among, &facts).map(|decision| decision.outcome));
        black_box(many.decide(&request, &within).outcome);
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let value = f64::from(u32::try_from(allocations)?) / 3_000.0;
    figures.push(Figure { name: "allocations_per_decision", value, unit: "1", spread: None });

    let mut slower = |name: &'static str, call: &mut dyn FnMut()| {
        let (value, median) = nanoseconds(300, 10, call);
        figures.push(Figure { name, value: value / 1e3, unit: "us", spread: Some(median / value) });
    };
    slower("explain_us", &mut || {
        black_box(policy.explain(&request, &facts, Lang::En));
    });
    slower("compile_us", &mut || {
        let _ = black_box(Policy::from_json(black_box(&text), &profiles));
    });
    let stricter = Policy::from_json(&text.replace("2026-12-31", "2026-11-30"), &profiles)?;
    permitted(compare::refines(&stricter, &policy).answer == compare::Answer::Yes, "compare")?;
    slower("compare_us", &mut || {
        black_box(compare::refines(&stricter, &policy));
    });
    Ok(smallest)
}

/// The same participant, dataset, action, purpose (through a hierarchy) and two time bounds.
fn cedar() -> Result<(f64, f64), Box<dyn Error>> {
    let policies: CedarPolicies = r#"permit(principal == Participant::"c", action in Action::"use", resource == Dataset::"d") when {
        context.purpose in Purpose::"ResearchAndDevelopment" &&
        context.now >= 1767225600000 && context.now <= 1798675200000 };"#
        .parse()?;
    let entities = Entities::from_json_str(
        r#"[{"uid":{"type":"Action","id":"use"},"attrs":{},"parents":[]},
            {"uid":{"type":"Action","id":"read"},"attrs":{},"parents":[{"type":"Action","id":"use"}]},
            {"uid":{"type":"Participant","id":"c"},"attrs":{},"parents":[]},
            {"uid":{"type":"Dataset","id":"d"},"attrs":{},"parents":[]},
            {"uid":{"type":"Purpose","id":"ResearchAndDevelopment"},"attrs":{},"parents":[]},
            {"uid":{"type":"Purpose","id":"AcademicResearch"},"attrs":{},"parents":[{"type":"Purpose","id":"ResearchAndDevelopment"}]}]"#,
        None,
    )?;
    let uid = |text: &str| text.parse::<EntityUid>();
    let context = format!(r#"{{"purpose":{{"__entity":{{"type":"Purpose","id":"AcademicResearch"}}}},"now":{}}}"#, NOW.0);
    let context = Context::from_json_str(&context, None)?;
    let request = CedarRequest::new(uid(r#"Participant::"c""#)?, uid(r#"Action::"read""#)?, uid(r#"Dataset::"d""#)?, context, None)?;
    let authorizer = Authorizer::new();
    let allowed = authorizer.is_authorized(&request, &policies, &entities).decision() == Decision::Allow;
    permitted(allowed, "Cedar")?;
    Ok(nanoseconds(5_000, 50, || {
        black_box(authorizer.is_authorized(black_box(&request), black_box(&policies), black_box(&entities)).decision());
    }))
}

/// A measurement of the wrong answer measures nothing.
fn permitted(yes: bool, what: &str) -> Result<(), Box<dyn Error>> {
    if yes { Ok(()) } else { Err(format!("{what}: not the answer that was to be measured").into()) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().skip(1).any(|argument| argument == "--json");
    let mut figures = Vec::new();
    let our_decision = ours(&mut figures)?;
    let (value, median) = cedar()?;
    figures.push(Figure { name: "cedar_three_constraints_ns", value, unit: "ns", spread: Some(median / value) });
    figures.push(Figure { name: "cedar_over_ours", value: value / our_decision, unit: "1", spread: None });
    let mut text = String::new();
    for Figure { name, value, unit, spread } in &figures {
        if json {
            let spread = spread.map(|spread| format!(r#","spread":{spread:.2}"#)).unwrap_or_default();
            writeln!(text, r#"{{"figure":"{name}","value":{value:.3},"unit":"{unit}"{spread}}}"#)?;
        } else {
            let spread = spread.map(|spread| format!("  (median {spread:.2} times this)")).unwrap_or_default();
            writeln!(text, "{name:28} {value:12.3} {unit}{spread}")?;
        }
    }
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
