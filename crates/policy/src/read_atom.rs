//! Atomic constraints: operand, operator and typed right operands, checked against the profiles.

use std::sync::Arc;

use crate::model::Atom;
use crate::node::{Item, ItemKind, Node};
use crate::problem::{
    BAD_VALUE, MISSING_MEMBER, OPERATOR_NOT_ALLOWED, PROFILE_NOT_NAMED, Position, UNKNOWN_OPERAND,
    UNKNOWN_OPERATOR, UNRESOLVED_REFERENCE, nearest,
};
use crate::profile::{OperandInfo, OperandType, Operator, Source};
use crate::read::Reader;
use crate::value::{Decimal, Right, datatype_fits, parse_duration, parse_instant};
use crate::vocab::{CORE_PROFILE, FL, ODRL, XSD, expand_prefixed, expand_vocab, short};

const NUMBERS: &[&str] = &[
    "integer",
    "decimal",
    "double",
    "float",
    "int",
    "long",
    "short",
    "byte",
    "nonNegativeInteger",
    "positiveInteger",
    "unsignedInt",
    "unsignedLong",
    "unsignedShort",
    "unsignedByte",
];

fn odrl(term: &str) -> String {
    format!("{ODRL}{term}")
}

impl Reader<'_> {
    /// A term of a profile may be used only by a policy that names it (ODRL 2.2 Information Model, 4.1).
    pub(crate) fn profile_named(&mut self, profile: &str, term: &str, at: &Position) {
        let free = profile == CORE_PROFILE || self.tables.unnamed.contains(profile);
        if !free && !self.named.contains(profile) {
            let suggestion = Some(format!("\"profile\": \"{profile}\""));
            self.complain(
                &PROFILE_NOT_NAMED,
                at,
                short(term),
                format!("the profile {profile} named"),
                suggestion,
            );
        }
    }

    pub(crate) fn atom(&mut self, node: &Node) -> Option<Atom> {
        let minimum_source = format!("{FL}minimumSource");
        self.members(
            node,
            &[
                "leftOperand",
                "operator",
                "rightOperand",
                "rightOperandReference",
                "dataType",
                "unit",
                "status",
            ],
            &[&minimum_source],
        );
        for name in &node.types {
            if !matches!(name.strip_prefix(ODRL).unwrap_or(name), "Constraint" | "LogicalConstraint") {
                self.complain(&crate::problem::UNKNOWN_KIND, &node.at, short(name), "Constraint", None);
            }
        }
        if let Some(reference) = node.values(&odrl("rightOperandReference")).next() {
            self.complain(&UNRESOLVED_REFERENCE, &reference.at, reference.shown(), "rightOperand", None);
            return None;
        }
        let operand = self.term(node, "leftOperand");
        let operator = self.term(node, "operator");
        let (Some(operand), Some(operator)) = (operand, operator) else { return None };
        let (operand, operator) = (self.operand(operand), self.operator(operator));
        let (operand, operator) = (operand?, operator?);
        if !operand.operators.contains(&operator) {
            let allowed: Vec<&str> = operand.operators.iter().map(|operator| operator.name()).collect();
            self.complain(
                &OPERATOR_NOT_ALLOWED,
                &node.at.below("operator"),
                operator.name(),
                format!("with {}: {}", short(&operand.iri), allowed.join(", ")),
                None,
            );
            return None;
        }
        let datatype = node.values(&odrl("dataType")).next().map(Item::shown);
        let mut rights = self.rights(node, &operand, operator, datatype.as_deref())?;
        rights.sort();
        rights.dedup();
        let uid = match &node.id {
            Some(id) => self.identifier(id, &node.at),
            None => None,
        };
        let unit = match self.at_most_one(node, "unit")? {
            Some(item) => Some(self.identifier(&item.shown(), &item.at)?),
            None => None,
        };
        let status = match self.at_most_one(node, "status")? {
            Some(item) => Some(self.status(item, &operand)?),
            None => None,
        };
        let minimum_source = match node.values(&minimum_source).next() {
            Some(item) => Some(self.source(item)?),
            None => None,
        };
        Some(Atom { uid, operand, operator, rights, unit, status, minimum_source, at: node.at.clone() })
    }

    /// `None` if there are several: nothing tells which of them is meant.
    fn at_most_one<'n>(&mut self, node: &'n Node, member: &'static str) -> Option<Option<&'n Item>> {
        let iri = odrl(member);
        let mut found =
            node.members.iter().filter(|known| known.iri == iri).flat_map(|member| &member.values);
        let first = found.next();
        let more = found.count();
        if more > 0 {
            let at = node.at.below(member);
            self.complain(&BAD_VALUE, &at, format!("{} values", more + 1), format!("one {member}"), None);
            return None;
        }
        Some(first)
    }

    /// What was used up before. Only of a number or a duration can anything be used up, and never less than nothing:
    /// that would widen the bound.
    fn status(&mut self, item: &Item, operand: &OperandInfo) -> Option<Right> {
        let measured = matches!(
            operand.kind,
            OperandType::Number | OperandType::Count | OperandType::Since | OperandType::Duration
        );
        if !measured {
            self.complain(
                &BAD_VALUE,
                &item.at,
                "status",
                format!("no status with {}: only a number or a duration is used up", short(&operand.iri)),
                Some("leave the status out".to_owned()),
            );
            return None;
        }
        let status = self.right(item, operand, None)?;
        let negative = match &status {
            Right::Number(used) => used.raw() < 0,
            Right::Duration { lo, .. } => *lo < 0,
            _ => true,
        };
        if negative {
            let expected = "what was used up before, not less than nothing";
            self.complain(&BAD_VALUE, &item.at, item.shown(), expected, Some("0".to_owned()));
            return None;
        }
        Some(status)
    }

    fn term<'n>(&mut self, node: &'n Node, member: &'static str) -> Option<&'n Item> {
        let iri = odrl(member);
        let found: Vec<&Item> =
            node.members.iter().filter(|known| known.iri == iri).flat_map(|member| &member.values).collect();
        match found.as_slice() {
            [one] => Some(one),
            _ => {
                self.complain(&MISSING_MEMBER, &node.at, member, format!("exactly one {member}"), None);
                None
            }
        }
    }

    fn operand(&mut self, item: &Item) -> Option<Arc<OperandInfo>> {
        let name = expand_vocab(&item.shown(), &Vec::new());
        let name = self.tables.deprecated.get(&name).cloned().unwrap_or(name);
        match self.tables.operands.get(&name) {
            Some(operand) => {
                let operand = Arc::clone(operand);
                self.profile_named(&operand.profile, &name, &item.at);
                Some(operand)
            }
            None => {
                let suggestion = self.tables.nearest_operand(&name);
                self.complain(
                    &UNKNOWN_OPERAND,
                    &item.at,
                    short(&name),
                    "an operand of a named profile",
                    suggestion,
                );
                None
            }
        }
    }

    fn operator(&mut self, item: &Item) -> Option<Operator> {
        let name = expand_vocab(&item.shown(), &Vec::new());
        let term = name.strip_prefix(ODRL).unwrap_or(&name);
        let operator = Operator::of_name(term).or_else(|| self.tables.operators.get(&name).copied());
        if operator.is_none() {
            let names = Operator::ALL.map(|(_, name)| name);
            let suggestion = nearest(term, names.iter().copied());
            self.complain(&UNKNOWN_OPERATOR, &item.at, short(&name), names.join(", "), suggestion);
        }
        operator
    }

    fn source(&mut self, item: &Item) -> Option<Source> {
        let name = item.shown();
        let source = match name.strip_prefix(FL).or_else(|| name.strip_prefix(ODRL)).unwrap_or(&name) {
            "asserted" => Some(Source::Asserted),
            "registered" => Some(Source::Registered),
            "attested" => Some(Source::Attested),
            "local" => Some(Source::LocalClock),
            _ => None,
        };
        if source.is_none() {
            self.complain(
                &BAD_VALUE,
                &item.at,
                name,
                "fl:asserted, fl:registered, fl:attested or fl:local",
                None,
            );
        }
        source
    }

    fn rights(
        &mut self,
        node: &Node,
        operand: &OperandInfo,
        operator: Operator,
        datatype: Option<&str>,
    ) -> Option<Vec<Right>> {
        let member = odrl("rightOperand");
        let mut items: Vec<&Item> = Vec::new();
        for item in node.values(&member) {
            match &item.kind {
                ItemKind::List(list) => items.extend(list),
                _ => items.push(item),
            }
        }
        if items.is_empty() {
            self.complain(&MISSING_MEMBER, &node.at, "rightOperand", "a right operand", None);
            return None;
        }
        if items.len() > 1 && !operator.takes_many() {
            self.complain(
                &BAD_VALUE,
                &node.at.below("rightOperand"),
                format!("{} values", items.len()),
                format!("one value with {}", operator.name()),
                None,
            );
            return None;
        }
        let mut rights = Vec::new();
        let mut whole = true;
        for item in items {
            match self.right(item, operand, datatype) {
                Some(right) => rights.push(right),
                None => whole = false,
            }
        }
        whole.then_some(rights)
    }

    /// A right operand of the operand's type that is one of those which its profile defines.
    fn right(&mut self, item: &Item, operand: &OperandInfo, stated: Option<&str>) -> Option<Right> {
        let right = self.typed(item, operand, stated)?;
        let text = right.text();
        if !operand.values.is_empty() && !operand.values.contains(&text) {
            let suggestion = nearest(&text, operand.values.iter().map(String::as_str));
            self.complain(&BAD_VALUE, &item.at, text, operand.values.join(", "), suggestion);
            return None;
        }
        if let Some(form) = operand.form.filter(|form| !form.fits(&text)) {
            self.complain(&BAD_VALUE, &item.at, text, form.expected(), None);
            return None;
        }
        Some(right)
    }

    fn typed(&mut self, item: &Item, operand: &OperandInfo, stated: Option<&str>) -> Option<Right> {
        let tagged = matches!(&item.kind, ItemKind::Literal { language: Some(_), .. });
        let (text, datatype, is_iri) = match &item.kind {
            ItemKind::Iri(iri) => (iri.as_str(), None, true),
            ItemKind::Node(Node { id: Some(id), .. }) => (id.as_str(), None, true),
            ItemKind::Literal { text, datatype, .. } => {
                (text.as_str(), datatype.as_deref().filter(|iri| !iri.ends_with("#string")).or(stated), false)
            }
            ItemKind::Node(_) | ItemKind::List(_) => {
                self.complain(&BAD_VALUE, &item.at, item.shown(), "a literal or an IRI", None);
                return None;
            }
        };
        // A text in a language is a word, and no number, instant or duration.
        let fits = |names: &[&str]| {
            !is_iri && !tagged && datatype.is_none_or(|datatype| datatype_fits(datatype, names))
        };
        let (parsed, expected) = match operand.kind {
            OperandType::Instant => (
                fits(&["dateTime", "dateTimeStamp", "date"]).then(|| parse_instant(text)).flatten(),
                "an xsd:dateTime or xsd:date, e.g. 2026-12-31T23:59:59+08:00",
            ),
            OperandType::Since | OperandType::Duration => (
                fits(&["duration", "dayTimeDuration", "yearMonthDuration"])
                    .then(|| parse_duration(text))
                    .flatten(),
                "an xsd:duration, e.g. P30D (days) or PT60M (minutes)",
            ),
            OperandType::Number | OperandType::Count => {
                (fits(NUMBERS).then(|| Decimal::parse(text)).flatten().map(Right::Number), "a number")
            }
            OperandType::Symbol | OperandType::Ordered => return self.symbol(text, operand, &item.at),
            OperandType::Text => ((!text.is_empty()).then(|| Right::Text(text.to_owned())), "a text"),
            OperandType::Opaque if is_iri => (Some(Right::Symbol(text.to_owned())), ""),
            OperandType::Opaque => (Some(Right::Text(text.to_owned())), ""),
        };
        if parsed.is_none() {
            let shown = datatype
                .and_then(|iri| iri.strip_prefix(XSD))
                .map_or_else(|| text.to_owned(), |datatype| format!("{text}^^xsd:{datatype}"));
            self.complain(&BAD_VALUE, &item.at, shown, expected, None);
        }
        parsed
    }

    /// A term of the operand's taxonomy by IRI, prefixed name or alias; another IRI stands for itself alone.
    fn symbol(&mut self, text: &str, operand: &OperandInfo, at: &Position) -> Option<Right> {
        let full = expand_prefixed(text, &Vec::new()).unwrap_or_else(|| text.to_owned());
        let bare = full.strip_prefix(ODRL).unwrap_or(&full);
        let Some(taxonomy) = self.tables.taxonomy(operand) else {
            return self.identifier(&full, at).map(Right::Symbol);
        };
        if let Some(term) = taxonomy.find(&full).or_else(|| taxonomy.find(bare)) {
            return Some(Right::Symbol(term.iri.clone()));
        }
        if operand.kind == OperandType::Symbol && full.contains(':') {
            return self.identifier(&full, at).map(Right::Symbol);
        }
        let names = taxonomy.terms.iter().flat_map(|term| term.also.iter().map(String::as_str));
        let suggestion = nearest(text, names);
        self.complain(
            &BAD_VALUE,
            at,
            text,
            format!("a term of the taxonomy for {}, or an IRI", short(&operand.iri)),
            suggestion,
        );
        None
    }
}
