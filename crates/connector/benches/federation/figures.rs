//! Figures with their spread and aim, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

/// The least number of samples for which percentiles say more than the extremes.
const MANY: usize = 20;

/// One measured figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name that does not change from release to release.
    pub name: &'static str,
    /// Of `value`, `low` and `high`; empty for a ratio.
    pub unit: &'static str,
    /// The median, or what the name says.
    pub value: f64,
    /// Lower end of the spread.
    pub low: f64,
    /// Upper end of the spread.
    pub high: f64,
    /// Samples taken.
    pub samples: usize,
    /// What is aimed at.
    pub aim: Option<Aim>,
}

/// What a figure should come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

impl Figure {
    /// The median; its spread is the 10th to the 90th percentile, or all there is of few samples.
    pub fn median(name: &'static str, unit: &'static str, samples: &[f64]) -> Self {
        let sorted = sorted(samples);
        let (low, high) = if sorted.len() < MANY { (0.0, 1.0) } else { (0.1, 0.9) };
        Self {
            name,
            unit,
            value: at(&sorted, 0.5),
            low: at(&sorted, low),
            high: at(&sorted, high),
            samples: sorted.len(),
            aim: None,
        }
    }

    /// The 99th percentile; its spread is the 95th and the maximum.
    pub fn p99(name: &'static str, unit: &'static str, samples: &[f64]) -> Self {
        let sorted = sorted(samples);
        Self {
            value: at(&sorted, 0.99),
            low: at(&sorted, 0.95),
            high: at(&sorted, 1.0),
            ..Self::median(name, unit, samples)
        }
    }

    /// The largest sample, where there are too few for a 99th percentile.
    pub fn maximum(name: &'static str, unit: &'static str, samples: &[f64]) -> Self {
        Self { value: at(&sorted(samples), 1.0), ..Self::median(name, unit, samples) }
    }

    /// The same figure with an aim.
    pub fn aiming(self, aim: Aim) -> Self {
        Self { aim: Some(aim), ..self }
    }

    fn met(&self) -> Option<bool> {
        self.aim.map(|aim| match aim {
            Aim::AtMost(bound) => self.value <= bound,
            Aim::AtLeast(bound) => self.value >= bound,
        })
    }

    /// One line for programs.
    pub fn json(&self) -> String {
        let mut line = json!({
            "figure": self.name, "value": rounded(self.value), "unit": self.unit,
            "low": rounded(self.low), "high": rounded(self.high), "samples": self.samples,
        });
        if let (Some(Aim::AtMost(bound) | Aim::AtLeast(bound)), Some(met), Some(line)) =
            (self.aim, self.met(), line.as_object_mut())
        {
            line.insert("aim".to_owned(), json!(rounded(bound)));
            line.insert("met".to_owned(), json!(met));
        }
        line.to_string()
    }
}

/// Rates of two ways that were taken in turn, so that what disturbs one disturbs the other.
#[derive(Default)]
pub struct Pairs {
    ours: Vec<f64>,
    raw: Vec<f64>,
}

impl Pairs {
    /// One pair: the times that both ways took for `bytes`.
    pub fn push(&mut self, ours: Duration, raw: Duration, bytes: u64) {
        let mib = bytes as f64 / f64::from(1 << 20);
        self.ours.push(mib / ours.as_secs_f64());
        self.raw.push(mib / raw.as_secs_f64());
    }

    /// Ours over the raw rate, which is to reach `aim`, and both rates.
    pub fn figures(&self, [ratio, ours, raw]: [&'static str; 3], aim: f64) -> [Figure; 3] {
        let ratios: Vec<f64> = self.ours.iter().zip(&self.raw).map(|(ours, raw)| ours / raw).collect();
        [
            Figure::median(ratio, "", &ratios).aiming(Aim::AtLeast(aim)),
            Figure::median(ours, "MiB/s", &self.ours),
            Figure::median(raw, "MiB/s", &self.raw),
        ]
    }

    /// The time that ours takes over that of the raw one, which is not to exceed `aim`, and both rates.
    pub fn times(&self, [ratio, ours, raw]: [&'static str; 3], aim: f64) -> [Figure; 3] {
        let ratios: Vec<f64> = self.ours.iter().zip(&self.raw).map(|(ours, raw)| raw / ours).collect();
        [
            Figure::median(ratio, "", &ratios).aiming(Aim::AtMost(aim)),
            Figure::median(ours, "MiB/s", &self.ours),
            Figure::median(raw, "MiB/s", &self.raw),
        ]
    }
}

/// All figures as a table.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 6]| {
        let [name, value, spread, unit, samples, aim] = cells;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<32} {value:>10}  {spread:<22} {unit:<6} {samples:>8}  {aim}");
    };
    line(["figure", "value", "spread", "unit", "samples", "aim"]);
    for figure in figures {
        let aim = match (figure.aim, figure.met()) {
            (Some(Aim::AtMost(bound)), Some(met)) => format!("<= {} {}", number(bound), word(met)),
            (Some(Aim::AtLeast(bound)), Some(met)) => format!(">= {} {}", number(bound), word(met)),
            _ => String::new(),
        };
        line([
            figure.name,
            &number(figure.value),
            &format!("{} .. {}", number(figure.low), number(figure.high)),
            figure.unit,
            &figure.samples.to_string(),
            &aim,
        ]);
    }
    text
}

const fn word(met: bool) -> &'static str {
    if met { "met" } else { "SHORT" }
}

/// As many digits as mean something: two decimals below 100, none above.
fn number(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The sample at a part of the sorted ones, by nearest rank.
fn at(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
