//! From nodes to the model: every member known, every term of a named profile, every value of the right type.
//!
//! Shared members are copied into each rule and several actions, targets or parties are multiplied out, so what
//! leaves here are atomic rules (ODRL 2.2 Information Model, 2.7).

use std::collections::BTreeSet;

use crate::model::{Conflict, Constraint, Kind, Logic, Model, Note, Rule, RuleKind, Thing, clear_status};
use crate::node::{Item, ItemKind, Node};
use crate::problem::{
    AMBIGUOUS_MEMBER, BAD_VALUE, MISSING_MEMBER, PARENT_UNAVAILABLE, Position, Problem, Problems, TOO_LARGE,
    UNKNOWN_ACTION, UNKNOWN_KIND, UNKNOWN_MEMBER, UNKNOWN_PROFILE, nearest,
};
use crate::refusal::Code;
use crate::tables::Tables;
use crate::time::UnixMillis;
use crate::vocab::{DCT, DSPACE, ODRL, RDF, RDFS, SKOS, expand_vocab, short};

/// The most atomic rules, duties included: a decision may have to look at each.
pub(crate) const MAX_RULES: usize = 4_096;
/// The most constraints of one policy.
pub(crate) const MAX_CONSTRAINTS: usize = 16_384;
/// The deepest nesting of logical constraints.
pub(crate) const MAX_LOGIC_DEPTH: usize = 16;
/// The longest identifier.
const MAX_ID_BYTES: usize = 2_048;

/// What a rule without action is about where that is allowed; no profile knows it, so no decision permits by it.
pub(crate) const ANY_ACTION: &str = "urn:fairlead:any-action";

/// The party functions of the common vocabulary beside assigner and assignee.
pub(crate) const PARTY_FUNCTIONS: [&str; 12] = [
    "attributedParty",
    "attributingParty",
    "compensatedParty",
    "compensatingParty",
    "consentedParty",
    "consentingParty",
    "contractedParty",
    "contractingParty",
    "informedParty",
    "informingParty",
    "trackedParty",
    "trackingParty",
];

pub(crate) fn read(
    node: &Node,
    tables: &Tables,
    from_rdf: bool,
    parents: &[&Model],
    lenient: bool,
) -> Result<Model, Problems> {
    let mut reader = Reader {
        tables,
        parents,
        lenient,
        named: BTreeSet::new(),
        from_rdf,
        problems: Vec::new(),
        deprecated: Vec::new(),
        rules: 0,
        constraints: 0,
    };
    let model = reader.policy(node);
    match (Problems::of(reader.problems), model) {
        (None, Some(model)) => Ok(model),
        (Some(problems), _) => Err(problems),
        (None, None) => Err(Problems::one(Problem {
            code: &MISSING_MEMBER,
            at: node.at.clone(),
            term: "policy".to_owned(),
            expected: "a policy".to_owned(),
            suggestion: None,
        })),
    }
}

pub(crate) struct Reader<'a> {
    pub(crate) tables: &'a Tables,
    /// Policies that this one may inherit from, already resolved themselves, so no circle can occur.
    parents: &'a [&'a Model],
    /// Whether a rule may leave out its action, which then is any action: only for compliance reports.
    pub(crate) lenient: bool,
    /// The profiles that the policy names.
    pub(crate) named: BTreeSet<String>,
    from_rdf: bool,
    problems: Vec<Problem>,
    /// Deprecated terms that were read as their successors.
    pub(crate) deprecated: Vec<(Position, String, String)>,
    rules: usize,
    pub(crate) constraints: usize,
}

/// What several values at policy level give to every rule.
#[derive(Default)]
struct Shared {
    actions: Vec<(String, Vec<Constraint>)>,
    targets: Vec<Thing>,
    assigners: Vec<Thing>,
    assignees: Vec<Thing>,
    parties: Vec<(String, Thing)>,
}

fn odrl(term: &str) -> String {
    format!("{ODRL}{term}")
}

/// Metadata that is carried along: Dublin Core, labels, comments, notes.
fn is_note(iri: &str) -> bool {
    [DCT, RDFS, SKOS, "http://purl.org/dc/elements/1.1/"].iter().any(|namespace| iri.starts_with(namespace))
        || iri.strip_prefix(crate::vocab::FL) == Some("inherited")
}

impl Reader<'_> {
    pub(crate) fn complain(
        &mut self,
        code: &'static Code,
        at: &Position,
        term: impl Into<String>,
        expected: impl Into<String>,
        suggestion: Option<String>,
    ) {
        if self.problems.len() < Problems::MAX_LISTED {
            self.problems.push(Problem {
                code,
                at: at.clone(),
                term: term.into(),
                expected: expected.into(),
                suggestion,
            });
        }
    }

    /// Complains about every member that is neither in `known` (ODRL terms) nor metadata; returns the metadata.
    pub(crate) fn members(&mut self, node: &Node, known: &[&str], others: &[&str]) -> Vec<Note> {
        let mut notes = Vec::new();
        for member in &node.members {
            let is_known = member.iri.strip_prefix(ODRL).is_some_and(|term| known.contains(&term))
                || others.contains(&member.iri.as_str());
            if is_known {
                continue;
            }
            if is_note(&member.iri) {
                for value in &member.values {
                    if let Some(note) = note(&member.iri, value) {
                        notes.push(note);
                    }
                }
                continue;
            }
            let suggestion = nearest(&short(&member.iri), known.iter().copied());
            self.complain(&UNKNOWN_MEMBER, &member.at, short(&member.iri), known.join(", "), suggestion);
        }
        notes.sort();
        notes.dedup();
        notes
    }

    fn policy(&mut self, node: &Node) -> Option<Model> {
        let timestamp_member = format!("{DSPACE}timestamp");
        let odrl_timestamp = odrl("timestamp");
        let replaced_member = format!("{DCT}isReplacedBy");
        let mut known = vec![
            "profile",
            "inheritFrom",
            "conflict",
            "permission",
            "prohibition",
            "obligation",
            "action",
            "target",
            "assigner",
            "assignee",
        ];
        known.extend(PARTY_FUNCTIONS);
        let mut notes = self.members(node, &known, &[&timestamp_member, &odrl_timestamp]);
        notes.retain(|note| note.member != replaced_member);
        let kind = self.kind(node);
        let uid = self.uid(node, "the policy");
        let mut profiles = self.profiles(node);
        profiles.sort();
        profiles.dedup();
        let conflict = self.conflict(node);
        let inherits = self.identifiers(node, "inheritFrom");
        let replaced_by = node.values(&replaced_member).map(Item::shown).collect();
        let timestamp = self.timestamp(node, &[&timestamp_member, &odrl_timestamp]);
        let shared = Shared {
            actions: self.actions(node),
            targets: self.things(node, "target"),
            assigners: self.things(node, "assigner"),
            assignees: self.things(node, "assignee"),
            parties: self.functions(node),
        };
        let mut rules = Vec::new();
        for (member, rule_kind) in [
            ("permission", RuleKind::Permission),
            ("prohibition", RuleKind::Prohibition),
            ("obligation", RuleKind::Duty),
        ] {
            for item in node.values(&odrl(member)) {
                self.rule(item, rule_kind, &shared, 0, &mut rules);
            }
        }
        let mut model = Model {
            kind,
            uid: uid?,
            profiles,
            conflict,
            timestamp,
            replaced_by,
            notes,
            rules,
            deprecated: Vec::new(),
        };
        model.deprecated = std::mem::take(&mut self.deprecated);
        for parent in &inherits {
            self.inherit(&mut model, parent, node);
        }
        if model.rules.is_empty() && self.problems.is_empty() && !self.lenient {
            self.complain(
                &MISSING_MEMBER,
                &node.at,
                "permission",
                "at least one permission, prohibition or obligation",
                None,
            );
        }
        if kind == Kind::Agreement {
            for (name, several, complete) in [
                (
                    "assigner",
                    shared.assigners.len() > 1,
                    model.rules.iter().all(|rule| rule.assigner.is_some()),
                ),
                (
                    "assignee",
                    shared.assignees.len() > 1,
                    model.rules.iter().all(|rule| rule.assignee.is_some()),
                ),
                ("target", false, model.rules.iter().all(|rule| rule.target.is_some())),
            ] {
                if !complete || several {
                    self.complain(
                        &MISSING_MEMBER,
                        &node.at,
                        name,
                        format!("exactly one {name} in an Agreement"),
                        None,
                    );
                }
            }
        }
        Some(model)
    }

    /// Copies from the parent its rules, profiles and conflict strategy, and gives its assets and parties to rules
    /// that have none; statuses are not inherited (ODRL 2.2 Information Model, 2.8). The parent is pinned by hash.
    fn inherit(&mut self, model: &mut Model, uid: &str, node: &Node) {
        let at = node.at.below("inheritFrom");
        let Some(parent) = self.parents.iter().find(|parent| parent.uid == uid) else {
            self.complain(&PARENT_UNAVAILABLE, &at, uid, "the parent policy given along", None);
            return;
        };
        for rule in &mut model.rules {
            rule.target = rule.target.take().or_else(|| parent.target().cloned());
            rule.assigner = rule.assigner.take().or_else(|| parent.assigner().cloned());
            rule.assignee = rule.assignee.take().or_else(|| parent.assignee().cloned());
        }
        let mut rules = parent.rules.clone();
        rules.iter_mut().for_each(clear_status);
        self.rules = self.rules.saturating_add(rules.len());
        if self.rules > MAX_RULES {
            self.complain(&TOO_LARGE, &at, "rules", format!("at most {MAX_RULES} atomic rules"), None);
            return;
        }
        model.rules.extend(rules);
        model.profiles.extend(parent.profiles.iter().cloned());
        model.profiles.sort();
        model.profiles.dedup();
        model.conflict = match (model.conflict, parent.conflict) {
            (own, None) => own,
            (None, inherited) => inherited,
            (Some(own), Some(inherited)) if own == inherited => Some(own),
            // Differing strategies: an actual conflict voids the policy (ODRL 2.2 Information Model, 2.9).
            (Some(_), Some(_)) => Some(Conflict::Invalid),
        };
        model.notes.push(Note {
            member: format!("{}inherited", crate::vocab::FL),
            text: format!("{uid} {}", crate::canonical::hash(parent)),
            datatype: None,
            language: None,
            is_iri: false,
        });
        model.notes.sort();
        model.notes.dedup();
    }

    fn kind(&mut self, node: &Node) -> Kind {
        let mut kind = None;
        for name in &node.types {
            let term = name.strip_prefix(ODRL).unwrap_or(name);
            if term == "Policy" {
                continue;
            }
            match Kind::ALL.iter().find(|(_, known)| *known == term) {
                // All subclasses are disjoint, except with Set (ODRL 2.2 Information Model, 2.1).
                Some((Kind::Set, _)) if kind.is_some() => {}
                Some((found, _)) if kind.is_none_or(|known| known == Kind::Set || known == *found) => {
                    kind = Some(*found);
                }
                Some(_) => self.complain(&AMBIGUOUS_MEMBER, &node.at, term, "one class of policy", None),
                None => {
                    let names = Kind::ALL.iter().map(|(_, name)| *name);
                    self.complain(
                        &UNKNOWN_KIND,
                        &node.at,
                        short(name),
                        "Set, Offer or Agreement",
                        nearest(term, names),
                    );
                }
            }
        }
        kind.unwrap_or(Kind::Set)
    }

    fn uid(&mut self, node: &Node, whose: &str) -> Option<String> {
        match &node.id {
            Some(id) => self.identifier(id, &node.at),
            None => {
                self.complain(&MISSING_MEMBER, &node.at, "@id", format!("the identifier of {whose}"), None);
                None
            }
        }
    }

    pub(crate) fn identifier(&mut self, id: &str, at: &Position) -> Option<String> {
        let good = !id.is_empty()
            && id.len() <= MAX_ID_BYTES
            && !id.starts_with("_:")
            && !id.chars().any(|c| c.is_whitespace() || c.is_control() || "<>\"{}|\\^`".contains(c));
        if good {
            return Some(id.to_owned());
        }
        self.complain(&BAD_VALUE, at, id, "an IRI or identifier without spaces", None);
        None
    }

    fn profiles(&mut self, node: &Node) -> Vec<String> {
        let mut found = Vec::new();
        for item in node.values(&odrl("profile")) {
            let name = item.shown();
            match self.tables.names.get(&name) {
                Some(profile) => {
                    self.named.insert(profile.clone());
                    found.push(name);
                }
                None => {
                    let suggestion = nearest(&name, self.tables.names.keys().map(String::as_str));
                    self.complain(
                        &UNKNOWN_PROFILE,
                        &item.at,
                        name,
                        "a profile this engine knows",
                        suggestion,
                    );
                }
            }
        }
        found
    }

    fn conflict(&mut self, node: &Node) -> Option<Conflict> {
        let mut found = None;
        for item in node.values(&odrl("conflict")) {
            let name = item.shown();
            let term = name.strip_prefix(ODRL).unwrap_or(&name);
            match Conflict::ALL.iter().find(|(_, known)| *known == term) {
                Some((conflict, _)) if found.is_none_or(|known| known == *conflict) => {
                    found = Some(*conflict)
                }
                Some(_) => self.complain(&AMBIGUOUS_MEMBER, &item.at, term, "one conflict strategy", None),
                None => self.complain(&BAD_VALUE, &item.at, term, "perm, prohibit or invalid", None),
            }
        }
        found
    }

    fn timestamp(&mut self, node: &Node, members: &[&str]) -> Option<UnixMillis> {
        let mut found = None;
        for item in members.iter().flat_map(|member| node.values(member)) {
            let text = item.shown();
            match UnixMillis::parse_rfc3339(&text) {
                Some(at) => found = Some(at),
                None => self.complain(&BAD_VALUE, &item.at, text, "an xsd:dateTime with zone", None),
            }
        }
        found
    }

    fn identifiers(&mut self, node: &Node, member: &str) -> Vec<String> {
        let mut found = Vec::new();
        for item in node.values(&odrl(member)) {
            if let Some(id) = self.identifier(&item.shown(), &item.at) {
                found.push(id);
            }
        }
        found
    }

    fn things(&mut self, node: &Node, member: &str) -> Vec<Thing> {
        let member = odrl(member);
        let mut found: Vec<Thing> = Vec::new();
        for item in node.values(&member) {
            if let Some(thing) = self.thing(item)
                && !found.contains(&thing)
            {
                found.push(thing);
            }
        }
        found
    }

    fn thing(&mut self, item: &Item) -> Option<Thing> {
        let plain =
            |iri: String| Thing { iri, collection: false, part_of: Vec::new(), refinements: Vec::new() };
        match &item.kind {
            ItemKind::Iri(id) | ItemKind::Literal { text: id, .. } => {
                self.identifier(id, &item.at).map(plain)
            }
            ItemKind::List(_) => {
                self.complain(&BAD_VALUE, &item.at, "@list", "one asset or party", None);
                None
            }
            ItemKind::Node(node) => {
                if !self.from_rdf {
                    self.members(node, &["partOf", "source", "refinement"], &[]);
                }
                let collection = node.types.iter().any(|name| name.ends_with("Collection"));
                let refinements = self.constraints(node, "refinement");
                let sources = self.identifiers(node, "source");
                let part_of = self.identifiers(node, "partOf");
                // A refined collection is named by `source`; its uid names the refined selection only.
                let iri = match (sources.as_slice(), &node.id) {
                    ([source], _) => Some(source.clone()),
                    ([], Some(id)) => self.identifier(id, &node.at),
                    _ => {
                        self.complain(&MISSING_MEMBER, &node.at, "@id", "one identifier or source", None);
                        None
                    }
                }?;
                Some(Thing { iri, collection: collection || !sources.is_empty(), part_of, refinements })
            }
        }
    }

    fn functions(&mut self, node: &Node) -> Vec<(String, Thing)> {
        let mut found = Vec::new();
        for function in PARTY_FUNCTIONS {
            for thing in self.things(node, function) {
                found.push((odrl(function), thing));
            }
        }
        found.sort();
        found
    }

    fn actions(&mut self, node: &Node) -> Vec<(String, Vec<Constraint>)> {
        let member = odrl("action");
        let mut found = Vec::new();
        for item in node.values(&member) {
            if let Some(action) = self.action(item) {
                found.push(action);
            }
        }
        found
    }

    fn action(&mut self, item: &Item) -> Option<(String, Vec<Constraint>)> {
        let (name, refinements) = match &item.kind {
            ItemKind::Iri(iri) => (iri.clone(), Vec::new()),
            ItemKind::Literal { text, .. } => (expand_vocab(text, &Vec::new()), Vec::new()),
            ItemKind::List(_) => {
                self.complain(&BAD_VALUE, &item.at, "@list", "an action", None);
                return None;
            }
            ItemKind::Node(node) => {
                let value = format!("{RDF}value");
                // `type` is how the older EDC serialises the action's name.
                let edc_type = odrl("type");
                self.members(node, &["refinement", "includedIn", "implies", "type"], &[&value]);
                let named = node.values(&value).chain(node.values(&edc_type)).map(Item::shown).next();
                let full = |name: &str| expand_vocab(name, &Vec::new());
                let stated = named.clone().or_else(|| node.id.clone()).map(|name| full(&name));
                self.as_the_profile_says(node, stated.as_deref());
                let Some(name) = named.or_else(|| node.id.clone()) else {
                    self.complain(&MISSING_MEMBER, &node.at, "rdf:value", "the action", None);
                    return None;
                };
                (expand_vocab(&name, &Vec::new()), self.constraints(node, "refinement"))
            }
        };
        self.known_action(&name, &item.at).map(|action| (action, refinements))
    }

    fn known_action(&mut self, name: &str, at: &Position) -> Option<String> {
        let lower = name
            .strip_prefix(ODRL)
            .filter(|term| term.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
        let lower = lower.map(|term| odrl(&term.to_ascii_lowercase()));
        let name = lower.as_deref().unwrap_or(name);
        let current = self.tables.deprecated.get(name).map_or(name, String::as_str);
        // IDS and other names of an action are no deprecated ODRL terms.
        if current != name && name.starts_with(ODRL) && self.deprecated.len() < Problems::MAX_LISTED {
            self.deprecated.push((at.clone(), name.to_owned(), current.to_owned()));
        }
        match self.tables.action(current).and_then(|index| self.tables.actions.get(index)) {
            Some(action) => {
                let profile = action.profile.clone();
                self.profile_named(&profile, current, at);
                Some(current.to_owned())
            }
            None => {
                let suggestion = self.tables.nearest_action(name);
                self.complain(&UNKNOWN_ACTION, at, short(name), "an action of a named profile", suggestion);
                None
            }
        }
    }

    fn rule(&mut self, item: &Item, kind: RuleKind, shared: &Shared, depth: usize, out: &mut Vec<Rule>) {
        let bare;
        let node = match &item.kind {
            ItemKind::Node(node) => node,
            ItemKind::Iri(id) if self.lenient => {
                bare = Node { at: item.at.clone(), id: Some(id.clone()), ..Node::default() };
                &bare
            }
            _ => {
                self.complain(&BAD_VALUE, &item.at, item.shown(), "a rule written out", None);
                return;
            }
        };
        let mut known = vec!["action", "target", "output", "assigner", "assignee", "constraint"];
        known.extend(PARTY_FUNCTIONS);
        let below = match kind {
            RuleKind::Permission => "duty",
            RuleKind::Prohibition => "remedy",
            RuleKind::Duty => "consequence",
        };
        known.push(below);
        let notes = self.members(node, &known, &[]);
        for name in &node.types {
            let fits = matches!(
                (kind, name.strip_prefix(ODRL).unwrap_or(name)),
                (_, "Rule")
                    | (RuleKind::Permission, "Permission")
                    | (RuleKind::Prohibition, "Prohibition")
                    | (RuleKind::Duty, "Duty" | "Obligation")
            );
            if !fits {
                self.complain(
                    &UNKNOWN_KIND,
                    &node.at,
                    short(name),
                    "the kind of rule that this member holds",
                    None,
                );
            }
        }
        let uid = match &node.id {
            Some(id) => self.identifier(id, &node.at),
            None => None,
        };
        let constraints = self.constraints(node, "constraint");
        let nested = self.nested(node, kind, below, depth);
        let actions = self.actions(node);
        let targets = self.things(node, "target");
        let outputs = self.things(node, "output");
        let assigners = self.things(node, "assigner");
        let assignees = self.things(node, "assignee");
        let mut parties = self.functions(node);
        parties.extend(shared.parties.iter().cloned());
        parties.sort();
        parties.dedup();
        let mut actions = self.own_or_shared(node, "action", actions, &shared.actions);
        if self.lenient && actions.is_empty() && !node.has(&odrl("action")) {
            actions.push((ANY_ACTION.to_owned(), Vec::new()));
        }
        let targets = self.own_or_shared(node, "target", targets, &shared.targets);
        let assigners = self.own_or_shared(node, "assigner", assigners, &shared.assigners);
        let assignees = self.own_or_shared(node, "assignee", assignees, &shared.assignees);
        if actions.is_empty() && !node.has(&odrl("action")) {
            self.complain(&MISSING_MEMBER, &node.at, "action", "exactly one action", None);
        }
        self.combined(&constraints, kind, &actions, &node.at);
        for (action, refinements) in actions {
            for target in options(&targets) {
                for output in options(&outputs) {
                    for assigner in options(&assigners) {
                        for assignee in options(&assignees) {
                            self.rules += 1;
                            if self.rules > MAX_RULES {
                                if self.rules == MAX_RULES + 1 {
                                    self.complain(
                                        &TOO_LARGE,
                                        &node.at,
                                        "rules",
                                        format!("at most {MAX_RULES} atomic rules"),
                                        None,
                                    );
                                }
                                return;
                            }
                            out.push(Rule {
                                kind,
                                uid: uid.clone(),
                                action: action.clone(),
                                refinements: refinements.clone(),
                                target: target.cloned(),
                                output: output.cloned(),
                                assigner: assigner.cloned(),
                                assignee: assignee.cloned(),
                                parties: parties.clone(),
                                constraints: constraints.clone(),
                                duties: nested.clone(),
                                notes: notes.clone(),
                                at: node.at.clone(),
                            });
                        }
                    }
                }
            }
        }
    }

    fn nested(&mut self, node: &Node, kind: RuleKind, member: &str, depth: usize) -> Vec<Rule> {
        // A consequence has no consequence, nor has a remedy's duty (ODRL 2.2 Information Model, 2.6.5 and 2.6.7);
        // a duty under a permission may have one.
        let allowed = match kind {
            RuleKind::Permission | RuleKind::Prohibition => 0,
            RuleKind::Duty => 1,
        };
        let mut rules = Vec::new();
        for item in node.values(&odrl(member)) {
            let too_deep = match kind {
                RuleKind::Permission | RuleKind::Prohibition => depth > allowed,
                RuleKind::Duty => depth > allowed,
            };
            if too_deep {
                self.complain(
                    &UNKNOWN_MEMBER,
                    &item.at,
                    member,
                    "no consequence of a consequence or remedy",
                    None,
                );
                continue;
            }
            // From a prohibition the next level is the last one; below a permission or obligation there is one more.
            let next = if kind == RuleKind::Permission { 1 } else { 2 };
            self.rule(item, RuleKind::Duty, &Shared::default(), next, &mut rules);
        }
        rules
    }

    /// A rule's own values, or the policy's; both at once could widen a rule without anyone meaning it.
    fn own_or_shared<T: Clone + PartialEq>(
        &mut self,
        node: &Node,
        member: &str,
        own: Vec<T>,
        shared: &[T],
    ) -> Vec<T> {
        if own.is_empty() {
            return shared.to_vec();
        }
        if !shared.is_empty() && own != shared {
            self.complain(
                &AMBIGUOUS_MEMBER,
                &node.at.below(member),
                member,
                "the member either on the policy or on its rules",
                None,
            );
        }
        own
    }

    pub(crate) fn constraints(&mut self, node: &Node, member: &str) -> Vec<Constraint> {
        let member = odrl(member);
        let mut found = Vec::new();
        for item in node.values(&member) {
            let items = match &item.kind {
                ItemKind::List(items) => items.as_slice(),
                _ => std::slice::from_ref(item),
            };
            for item in items {
                if let Some(constraint) = self.constraint(item, 0) {
                    found.push(constraint);
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    fn constraint(&mut self, item: &Item, depth: usize) -> Option<Constraint> {
        let ItemKind::Node(node) = &item.kind else {
            self.complain(&BAD_VALUE, &item.at, item.shown(), "a constraint written out", None);
            return None;
        };
        self.constraints += 1;
        if depth > MAX_LOGIC_DEPTH || self.constraints > MAX_CONSTRAINTS {
            if depth > MAX_LOGIC_DEPTH || self.constraints == MAX_CONSTRAINTS + 1 {
                let expected = format!("at most {MAX_CONSTRAINTS} constraints, {MAX_LOGIC_DEPTH} levels");
                self.complain(&TOO_LARGE, &node.at, "constraint", expected, None);
            }
            return None;
        }
        let mut found: Option<(Logic, Vec<Constraint>)> = None;
        for (logic, name) in Logic::ALL {
            let member = odrl(name);
            if !node.has(&member) {
                continue;
            }
            if found.is_some() {
                self.complain(&AMBIGUOUS_MEMBER, &node.at, name, "one logical operator", None);
            }
            let mut parts = Vec::new();
            for item in node.values(&member) {
                let items = match &item.kind {
                    ItemKind::List(items) => items.as_slice(),
                    _ => std::slice::from_ref(item),
                };
                for part in items {
                    parts.extend(self.constraint(part, depth + 1));
                }
            }
            if logic != Logic::AndSequence {
                parts.sort();
                // Doubles change nothing but under xone, where they must count twice.
                if logic != Logic::Xone {
                    parts.dedup();
                }
            }
            found = Some((logic, parts));
        }
        let Some((logic, parts)) = found else {
            return self.atom(node).map(|atom| Constraint::Atom(Box::new(atom)));
        };
        self.members(node, &["and", "or", "xone", "andSequence"], &[]);
        if parts.is_empty() {
            self.complain(&MISSING_MEMBER, &node.at, logic.name(), "at least one constraint", None);
            return None;
        }
        let uid = match &node.id {
            Some(id) => self.identifier(id, &node.at),
            None => None,
        };
        Some(Constraint::Logic { logic, uid, parts })
    }
}

/// `None` alone if there is no value: the product must not become empty.
fn options<T>(list: &[T]) -> Vec<Option<&T>> {
    if list.is_empty() { vec![None] } else { list.iter().map(Some).collect() }
}

fn note(member: &str, item: &Item) -> Option<Note> {
    let member = member.to_owned();
    match &item.kind {
        ItemKind::Iri(text) => {
            Some(Note { member, text: text.clone(), datatype: None, language: None, is_iri: true })
        }
        ItemKind::Literal { text, datatype, language } => Some(Note {
            member,
            text: text.clone(),
            datatype: datatype
                .clone()
                .filter(|iri| !iri.ends_with("#string") && !iri.ends_with("#langString")),
            language: language.clone(),
            is_iri: false,
        }),
        ItemKind::Node(node) => {
            node.id.clone().map(|text| Note { member, text, datatype: None, language: None, is_iri: true })
        }
        ItemKind::List(_) => None,
    }
}
