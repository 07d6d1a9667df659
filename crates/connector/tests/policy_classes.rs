//! docs/policy-classes.md: a real policy of each of the 25 IDS classes, and what this connector makes of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use connector::data::transforms;
use connector::enforceable;
use policy::template::{self, Template};
use policy::{Enforcement, Lang, Policy, Profiles, Stage};

const PAGE: &str = "docs/policy-classes.md";
const CLASSES: std::ops::RangeInclusive<u8> = 1..=25;

#[test]
fn the_page_is_what_the_templates_say() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
    let document = document(&Profiles::shipped());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &document).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == document,
        "{PAGE} is stale: UPDATE_DOCS=1 cargo test -p connector --test policy_classes"
    );
}

/// How and where one policy is held.
struct Held {
    how: &'static str,
    place: String,
}

fn document(profiles: &Profiles) -> String {
    let mut table = String::new();
    let mut sections = String::new();
    for class in CLASSES {
        let template = template::all().iter().find(|template| template.class == Some(class)).unwrap();
        let policy = example(template, profiles);
        let Held { how, place } = held(&policy, profiles);
        let name = &template.name;
        writeln!(
            table,
            "| {class} | [{name}](#{class}-{name}) | {} | {how} | {place} |",
            template.label(Lang::En)
        )
        .unwrap();
        section(&mut sections, class, template, &policy, &Held { how, place });
    }
    format!(
        "# The 25 IDS policy classes, as this connector holds them\n\n\
         Each class of the International Data Spaces has a template: `fairlead policy new --template NAME` asks for what \
         is left open. Below is the policy that each template makes of its own examples, as numbered clauses in three \
         languages.\n\n\
         - **technically**: the connector prevents what the policy does not permit.\n\
         - **procedurally**: what is claimed is stated, signed and recorded, so that it can be checked; a false \
         claim is not prevented.\n\
         - **only legally**: it binds by contract. A policy whose facts this connector cannot learn, or whose duty it \
         does not perform, is refused when it is published or negotiated: nobody is told that it is held. Leave such a \
         clause to the contract's text.\n\n\
         Provider egress is the decision before an agreement is signed and again before bytes leave; consumer use is \
         the decision before each opening of the sealed copy.\n\n\
         This page is generated: `UPDATE_DOCS=1 cargo test -p connector --test policy_classes`.\n\n\
         | Class | Template | What it says | Enforced | Where |\n|---|---|---|---|---|\n{table}{sections}"
    )
}

fn example(template: &Template, profiles: &Profiles) -> Policy {
    template::offer(
        "https://hku.example/data/weather#offer",
        "https://hku.example/id",
        "https://hku.example/data/weather",
        &[(template, template.examples())],
        profiles,
    )
    .unwrap_or_else(|refusal| panic!("{}: {refusal}", template.name))
}

/// What the connector's own acceptance list and the profiles' stages say; nothing here is written by hand.
fn held(policy: &Policy, profiles: &Profiles) -> Held {
    if let Err(refusal) = enforceable::require(policy) {
        let place =
            format!("neither: refused with `{}` ({})", refusal.code.code, refusal.detail.replace('|', "/"));
        return Held { how: "only legally", place };
    }
    let how = match policy.render(Lang::En).iter().map(|clause| clause.enforcement).min() {
        Some(Enforcement::Legal) => "only legally",
        Some(Enforcement::Procedural) => "procedurally",
        Some(Enforcement::Technical) | None => "technically",
    };
    if transforms::demands(policy) {
        return Held { how, place: "provider egress".to_owned() };
    }
    let before_use = policy.assignee().is_some()
        || policy
            .operands()
            .iter()
            .any(|operand| profiles.decided(operand).is_some_and(|stage| stage < Stage::Use));
    let place = if before_use { "provider egress and consumer use" } else { "consumer use" };
    Held { how, place: place.to_owned() }
}

fn section(text: &mut String, class: u8, template: &Template, policy: &Policy, held: &Held) {
    let label = |lang| template.label(lang);
    writeln!(text, "\n## {class} {}\n", template.name).unwrap();
    writeln!(text, "{} · {} · {}\n", label(Lang::En), label(Lang::ZhHant), label(Lang::ZhHans)).unwrap();
    let mut call = format!("fairlead policy new --template {}", template.name);
    for parameter in &template.parameters {
        write!(call, " --set {}='{}'", parameter.name, parameter.example).unwrap();
    }
    writeln!(text, "```sh\n{call}\n```\n").unwrap();
    for lang in Lang::ALL {
        writeln!(text, "{}:\n", lang.tag()).unwrap();
        for clause in policy.render(lang) {
            let number = if clause.number.is_empty() { "–".to_owned() } else { clause.number };
            writeln!(text, "- {number} {}", clause.text).unwrap();
        }
        writeln!(text).unwrap();
    }
    writeln!(text, "Enforced {}; {}.\n", held.how, held.place).unwrap();
    let rules: serde_json::Value = serde_json::from_str(policy.canonical_text()).unwrap();
    writeln!(text, "```json\n{}\n```", serde_json::to_string_pretty(&rules).unwrap()).unwrap();
}
