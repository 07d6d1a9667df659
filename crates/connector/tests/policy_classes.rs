//! docs/policy-classes.md: a real policy of each of the 25 IDS classes, and what this connector makes of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use connector::data::transforms;
use connector::enforceable;
use policy::template::{self, Template};
use policy::{Enforcement, Lang, Policy, Profiles, Stage};

const PAGE: &str = "docs/policy-classes.md";
/// Class 16.
const INFORM: u8 = 16;
/// What the word in the table leaves open, or why a class is refused.
const REMARKS: &[(u8, &str)] = &[
    (
        2,
        "A participant has one connector here; the name of its connector is the participant's URI, as its certificate carries it.",
    ),
    (
        3,
        "Refused: which program calls is asserted by whoever calls, and the profile demands an attested one. Nothing on this side measures programs.",
    ),
    (
        4,
        "Roles are what the consumer's settings (`[[users]]`) say of the operating system's user that calls the socket. A user that is not listed has unknown roles, and is refused.",
    ),
    (
        7,
        "The consumer's operator says when an event begins and ends (`fairlead event begin`, `event end`); both are recorded, and running sessions under a policy that names it stop at once. Whether it takes place nobody here can see.",
    ),
    (13, "Refused: this version has no transformation to bind the clause to."),
    (14, "Refused: this version has no transformation to bind the clause to."),
    (
        15,
        "The ledger's record is the log. It is written in the transaction that grants a use, so that a use whose record cannot be written is refused; refused uses are recorded with their code.",
    ),
    (
        16,
        "The signed notice is queued in the transaction that grants a use, and delivered until it arrives. Only the assigner is informed: a third participant would have to take notices about an agreement that it does not know.",
    ),
    (
        17,
        "The next policy is an offer of this identifier that the provider publishes the same dataset with. What is held is offered on only if the offer is proven at least as strict as the agreement and as that policy; a person's use with the action `distribute` is refused; what a person has read is out of reach. Without a policy named, and as an obligation, the duty is refused.",
    ),
    (
        18,
        "A sealed copy is `fl:encrypted` by construction. After a permitted export, and for the export itself, the state is unknown. Other states are refused by name.",
    ),
    (
        19,
        "The evidence of a person (`fairlead duty fulfil`) opens the permission and is told to the provider, signed. The provider's consent to it is not awaited, and nobody here sees money move.",
    ),
    (
        20,
        "As class 19; the evidence counts until the period ends, and that end is held technically. A period begins when its evidence is entered, or where the one before ends if that is later. Months count with their shortest length.",
    ),
    (21, "Refused: nothing here measures the state of the environment."),
    (23, "As class 19, for the consent of others. A withdrawal is not seen: revoke the agreement."),
    (24, "Refused: no self-description states a classification yet."),
    (25, "Refused: there is no runtime for computing among several parties."),
];
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
    let mut values = template.examples();
    if template.class == Some(INFORM) {
        // Nobody but the assigner is informed.
        values.insert("party".into(), "https://hku.example/id".into());
    }
    template::offer(
        "https://hku.example/data/weather#offer",
        "https://hku.example/id",
        "https://hku.example/data/weather",
        &[(template, values)],
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
        let informed = class == INFORM && parameter.name == "party";
        let value = if informed { "https://hku.example/id" } else { &parameter.example };
        write!(call, " --set {}='{value}'", parameter.name).unwrap();
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
    if let Some((_, remark)) = REMARKS.iter().find(|(known, _)| *known == class) {
        writeln!(text, "{remark}\n").unwrap();
    }
    let refused = held.place.starts_with("neither");
    assert!(
        !refused || REMARKS.iter().any(|(known, why)| *known == class && why.starts_with("Refused")),
        "{class}"
    );
    let rules: serde_json::Value = serde_json::from_str(policy.canonical_text()).unwrap();
    writeln!(text, "```json\n{}\n```", serde_json::to_string_pretty(&rules).unwrap()).unwrap();
}
