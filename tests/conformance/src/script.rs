//! What the person at the connector does in each test of the kit, and what the tests are called.

/// A step that a person takes by the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `negotiation counter`: offer, or counter-offer.
    Offer,
    /// `negotiation accept`: the positive step of the state, from agreeing to finalizing.
    Accept,
    /// `negotiation terminate` or `transfer terminate`.
    Terminate,
    /// `transfer resume`: start, or start again.
    Start,
    /// `transfer suspend`.
    Suspend,
    /// `transfer complete`.
    Complete,
}

use Step::{Accept, Complete, Offer, Start, Suspend, Terminate};

/// A test by its area and its two numbers, and what is done in which state, one after the other; in every state that is
/// not named, nothing is done.
type Row = (&'static str, (u8, u8), &'static [(&'static str, Step)]);

/// Every test that negotiates or transfers, disabled ones included.
const SCRIPT: &[Row] = &[
    ("CN", (1, 1), &[("REQUESTED", Offer)]),
    ("CN", (1, 2), &[("REQUESTED", Offer), ("REQUESTED", Terminate)]),
    ("CN", (1, 3), &[("REQUESTED", Offer), ("ACCEPTED", Accept), ("VERIFIED", Accept)]),
    ("CN", (1, 4), &[("REQUESTED", Accept), ("VERIFIED", Accept)]),
    ("CN", (2, 1), &[("REQUESTED", Terminate)]),
    ("CN", (2, 2), &[]),
    ("CN", (2, 3), &[("REQUESTED", Accept)]),
    ("CN", (2, 4), &[("REQUESTED", Offer)]),
    ("CN", (2, 5), &[("REQUESTED", Offer), ("OFFERED", Terminate)]),
    ("CN", (2, 6), &[("REQUESTED", Offer), ("ACCEPTED", Terminate)]),
    ("CN", (2, 7), &[("REQUESTED", Accept), ("VERIFIED", Terminate)]),
    ("CN", (3, 1), &[("REQUESTED", Accept), ("VERIFIED", Accept)]),
    ("CN", (3, 2), &[("REQUESTED", Offer)]),
    ("CN", (3, 3), &[("REQUESTED", Offer)]),
    ("CN", (3, 4), &[("REQUESTED", Offer)]),
    ("CN_C", (1, 1), &[("OFFERED", Accept), ("AGREED", Accept)]),
    ("CN_C", (1, 2), &[("OFFERED", Offer)]),
    ("CN_C", (1, 3), &[("OFFERED", Terminate)]),
    ("CN_C", (1, 4), &[("AGREED", Accept)]),
    ("CN_C", (2, 1), &[]),
    ("CN_C", (2, 2), &[("REQUESTED", Terminate)]),
    ("CN_C", (2, 3), &[("AGREED", Terminate)]),
    ("CN_C", (2, 4), &[]),
    ("CN_C", (2, 5), &[("OFFERED", Accept)]),
    ("CN_C", (2, 6), &[("AGREED", Accept)]),
    ("CN_C", (3, 1), &[]),
    ("CN_C", (3, 2), &[]),
    ("CN_C", (3, 3), &[]),
    ("CN_C", (3, 4), &[("OFFERED", Accept)]),
    ("CN_C", (3, 5), &[("OFFERED", Accept)]),
    ("CN_C", (3, 6), &[("OFFERED", Accept)]),
    ("TP", (1, 1), &[("REQUESTED", Start), ("STARTED", Terminate)]),
    ("TP", (1, 2), &[("REQUESTED", Start), ("STARTED", Complete)]),
    ("TP", (1, 3), &[("REQUESTED", Start), ("STARTED", Suspend), ("SUSPENDED", Terminate)]),
    (
        "TP",
        (1, 4),
        &[("REQUESTED", Start), ("STARTED", Suspend), ("SUSPENDED", Start), ("STARTED", Complete)],
    ),
    ("TP", (1, 5), &[("REQUESTED", Terminate)]),
    ("TP", (2, 1), &[("REQUESTED", Start)]),
    ("TP", (2, 2), &[("REQUESTED", Start)]),
    ("TP", (2, 3), &[("REQUESTED", Start)]),
    ("TP", (2, 4), &[("REQUESTED", Start)]),
    ("TP", (2, 5), &[]),
    ("TP", (3, 1), &[]),
    ("TP", (3, 2), &[]),
    ("TP", (3, 3), &[("REQUESTED", Start)]),
    ("TP", (3, 4), &[("REQUESTED", Start)]),
    ("TP", (3, 5), &[("REQUESTED", Start)]),
    ("TP", (3, 6), &[("REQUESTED", Start)]),
    ("TP_C", (1, 1), &[]),
    ("TP_C", (1, 2), &[]),
    ("TP_C", (1, 3), &[]),
    ("TP_C", (1, 4), &[]),
    ("TP_C", (1, 5), &[]),
    ("TP_C", (2, 1), &[("STARTED", Terminate)]),
    ("TP_C", (2, 2), &[("STARTED", Complete)]),
    ("TP_C", (2, 3), &[("STARTED", Suspend), ("SUSPENDED", Terminate)]),
    ("TP_C", (2, 4), &[("STARTED", Suspend), ("SUSPENDED", Start), ("STARTED", Complete)]),
    ("TP_C", (2, 5), &[("REQUESTED", Terminate)]),
    ("TP_C", (3, 1), &[]),
    ("TP_C", (3, 2), &[]),
    ("TP_C", (3, 3), &[]),
    ("TP_C", (3, 4), &[]),
    ("TP_C", (3, 5), &[]),
    ("TP_C", (3, 6), &[]),
];

/// The numbers of an area's tests.
pub fn tests(area: &str) -> impl Iterator<Item = (u8, u8)> {
    SCRIPT.iter().filter(move |(of, ..)| *of == area).map(|(_, test, _)| *test)
}

/// What is done in a test.
pub fn steps(area: &str, test: (u8, u8)) -> &'static [(&'static str, Step)] {
    SCRIPT.iter().find(|(of, numbers, _)| *of == area && *numbers == test).map_or(&[], |(.., steps)| *steps)
}

/// How the kit's settings name a test, e.g. `CN_C_01_02`.
pub fn key(area: &str, (group, number): (u8, u8)) -> String {
    format!("{area}_{group:02}_{number:02}")
}

/// The dataset of a negotiation's test, e.g. `ACNC0102`.
pub fn dataset(area: &str, (group, number): (u8, u8)) -> String {
    format!("A{}{group:02}{number:02}", area.replace('_', ""))
}

/// The test that negotiates this dataset.
pub fn of_dataset(name: &str) -> Option<(&'static str, (u8, u8))> {
    let rows = SCRIPT.iter().filter(|(area, ..)| area.starts_with("CN"));
    rows.map(|(area, test, _)| (*area, *test)).find(|(area, test)| dataset(area, *test) == name)
}
