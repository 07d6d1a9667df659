//! Datasets to publish: descriptions in three languages with an offer, and bytes that can be recognised.

use std::fmt::Write as _;

/// A purpose that [`Dataset::research`] permits, as the command line takes it.
pub const RESEARCH: &str = "dpv:AcademicResearch";
/// A purpose that it does not.
pub const MARKETING: &str = "dpv:Marketing";

/// The name spaces of every description.
const PREFIXES: &str = "\
@prefix dcat: <http://www.w3.org/ns/dcat#> .
@prefix dct: <http://purl.org/dc/terms/> .
@prefix odrl: <http://www.w3.org/ns/odrl/2/> .
@prefix dpv: <https://w3id.org/dpv#> .
@prefix fl: <https://w3id.org/fairlead/ns#> .
@prefix idsc: <https://w3id.org/idsa/code/> .
@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix th: <http://publications.europa.eu/resource/authority/data-theme/> .
@prefix ar: <http://publications.europa.eu/resource/authority/access-right/> .
@prefix mt: <https://www.iana.org/assignments/media-types/> .
";

/// A dataset with one offer.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its name below the publisher's URI.
    pub name: String,
    /// The permitted action, e.g. `odrl:read`.
    pub action: &'static str,
    /// Constraints of the permission: operand, operator, right operand as Turtle.
    pub constraints: Vec<(&'static str, &'static str, String)>,
    /// When the copy must be gone, as the right operand of a dateTime.
    pub delete_by: Option<String>,
    /// Further duties of the permission: action, and refinements of it as operand and text.
    pub duties: Vec<(&'static str, Vec<(&'static str, &'static str)>)>,
}

impl Dataset {
    /// Reading for research, without limit.
    pub fn research(name: &str) -> Self {
        let purpose = ("odrl:purpose", "odrl:isA", "dpv:ResearchAndDevelopment".to_owned());
        Self {
            name: name.to_owned(),
            action: "odrl:read",
            constraints: vec![purpose],
            delete_by: None,
            duties: Vec::new(),
        }
    }

    /// Another constraint.
    pub fn with(mut self, operand: &'static str, operator: &'static str, right: impl Into<String>) -> Self {
        self.constraints.push((operand, operator, right.into()));
        self
    }

    /// At most so many uses.
    pub fn counted(self, uses: u32) -> Self {
        self.with("odrl:count", "odrl:lteq", format!("\"{uses}\"^^xsd:integer"))
    }

    /// Only within this time since the last key lease (an xsd:duration).
    pub fn leased(self, longest: &str) -> Self {
        self.with("fl:keyLease", "odrl:lteq", format!("\"{longest}\"^^xsd:duration"))
    }

    /// Only until this instant (RFC 3339).
    pub fn until(self, instant: &str) -> Self {
        self.with("odrl:dateTime", "odrl:lt", format!("\"{instant}\"^^xsd:dateTime"))
    }

    /// Gone by this instant (RFC 3339).
    pub fn deleted_by(mut self, instant: &str) -> Self {
        self.delete_by = Some(instant.to_owned());
        self
    }

    /// Another duty, before use.
    pub fn owing(mut self, action: &'static str, refined: &[(&'static str, &'static str)]) -> Self {
        self.duties.push((action, refined.to_vec()));
        self
    }

    /// The self-description as `publisher` writes it.
    pub fn turtle(&self, publisher: &str) -> String {
        let Self { name, action, constraints, delete_by, duties } = self;
        let mut text = head(name, publisher);
        let mut names: Vec<String> = Vec::new();
        let mut nodes = String::new();
        for (index, (operand, operator, right)) in constraints.iter().enumerate() {
            names.push(format!(":{name}-c{index}"));
            writeln!(
                nodes,
                ":{name}-c{index} a odrl:Constraint ; odrl:leftOperand {operand} ; odrl:operator {operator} ; \
                 odrl:rightOperand {right} ."
            )
            .expect("text grows");
        }
        let constraint = if names.is_empty() {
            String::new()
        } else {
            format!(" ;\n  odrl:constraint {}", names.join(", "))
        };
        let mut owed: Vec<String> = Vec::new();
        for (index, (duty, refined)) in duties.iter().enumerate() {
            owed.push(format!(":{name}-duty{index}"));
            let mut action = (*duty).to_owned();
            if !refined.is_empty() {
                let refinements: Vec<String> =
                    (0..refined.len()).map(|part| format!(":{name}-r{index}-{part}")).collect();
                let refinements = refinements.join(", ");
                action = format!(":{name}-action{index}");
                writeln!(nodes, "{action} rdf:value {duty} ; odrl:refinement {refinements} .")
                    .expect("text grows");
            }
            writeln!(nodes, ":{name}-duty{index} a odrl:Duty ; odrl:action {action} .").expect("text grows");
            for (part, (operand, value)) in refined.iter().enumerate() {
                writeln!(
                    nodes,
                    ":{name}-r{index}-{part} a odrl:Constraint ; odrl:leftOperand {operand} ; \
                     odrl:operator odrl:eq ; odrl:rightOperand \"{value}\" ."
                )
                .expect("text grows");
            }
        }
        match delete_by {
            None => {}
            Some(instant) => {
                writeln!(
                    nodes,
                    ":{name}-delete a odrl:Duty ; odrl:action odrl:delete ; odrl:constraint :{name}-by .\n\
                     :{name}-by a odrl:Constraint ; odrl:leftOperand odrl:dateTime ; odrl:operator odrl:lteq ; \
                     odrl:rightOperand \"{instant}\"^^xsd:dateTime ."
                )
                .expect("text grows");
                owed.push(format!(":{name}-delete"));
            }
        }
        let duty = match owed.as_slice() {
            [] => String::new(),
            owed => format!(" ;\n  odrl:duty {}", owed.join(", ")),
        };
        let by_ids = duties.iter().any(|(action, _)| action.starts_with("idsc:"));
        let ids = if by_ids { ", <https://w3id.org/idsa/code/>" } else { "" };
        write!(
            text,
            ":{name}-offer a odrl:Offer ;
  odrl:profile <https://w3id.org/fairlead/profile/1>{ids} ;
  odrl:assigner <{publisher}> ;
  odrl:target :{name} ;
  odrl:permission :{name}-permission .
:{name}-permission a odrl:Permission ;
  odrl:action {action} ;
  odrl:target :{name}{constraint}{duty} .
{nodes}"
        )
        .expect("text grows");
        text
    }
}

/// A self-description with an offer of any shape: its Turtle, and its IRI.
pub fn described(name: &str, publisher: &str, offer: &str) -> String {
    format!("{}{offer}", head(name, publisher))
}

/// Everything but the offer, which is `:NAME-offer`.
fn head(name: &str, publisher: &str) -> String {
    format!(
        "{PREFIXES}@prefix : <{publisher}/> .

:{name} a dcat:Dataset, fl:SelfDescribed ;
  dct:identifier \"{name}\" ;
  dct:title \"Hourly weather {name}\"@en, \"每小時天氣 {name}\"@zh-Hant, \"每小时天气 {name}\"@zh-Hans ;
  dct:description \"Pressure, temperature and wind for every hour of a year at one coastal station.\"@en,
    \"一個沿岸站每小時的氣壓、氣溫和風速。\"@zh-Hant, \"一个沿岸站每小时的气压、气温和风速。\"@zh-Hans ;
  dcat:keyword \"weather\"@en, \"天氣\"@zh-Hant, \"天气\"@zh-Hans ;
  dcat:theme th:ENVI ;
  dct:publisher <{publisher}> ;
  dct:accessRights ar:RESTRICTED ;
  dct:modified \"2026-03-01T08:00:00Z\"^^xsd:dateTime ;
  dcat:distribution :{name}-csv ;
  odrl:hasPolicy :{name}-offer .
:{name}-csv a dcat:Distribution ;
  dct:title \"CSV\"@en ;
  dcat:mediaType mt:text\\/csv ;
  dct:license <http://publications.europa.eu/resource/authority/licence/CC0> .
"
    )
}

/// `length` bytes that differ at every offset within a MiB and from one `salt` to another.
pub fn bytes(length: usize, salt: u64) -> Vec<u8> {
    let mut state = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut all = Vec::with_capacity(length + 8);
    while all.len() < length {
        // SplitMix64: what matters is only that no two places look alike.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        all.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    all.truncate(length);
    all
}
