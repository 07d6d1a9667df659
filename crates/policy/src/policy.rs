//! The policy as callers hold it: read once, then asked.

use crate::decide::{Counting, Decision};
use crate::duty::{Duty, DutyRole};
use crate::facts::{Facts, Request};
use crate::ir::Program;
use crate::model::{Conflict, Kind, Model, RuleKind};
use crate::node::Node;
use crate::problem::Problems;
use crate::profile::{Enforcement, Profiles};
use crate::refusal::Refusal;
use crate::tables::Tables;
use crate::time::UnixMillis;
use crate::vocab::compact;

crate::refusal_codes! {
    INCOMPLETE_OFFER = "policy/incomplete-offer", Input,
        "an agreement needs the dataset and the assigner, and this policy does not name them", "協議須指明資料集與授權方，而此政策未指明", "协议须指明数据集与授权方，而该策略未指明",
        clause "ODRL 2.2 Information Model, 2.1.3", next "name target and assigner in the offer";
}

/// A policy that was understood completely; immutable.
#[derive(Clone, Debug)]
pub struct Policy {
    model: Model,
    canonical: String,
    program: Program,
    duties: Vec<Duty>,
    profiles: Profiles,
}

impl Policy {
    /// Reads a policy from JSON: the compact DSP form or the ODRL context, single values or arrays, terms, prefixed
    /// names or full IRIs, plain or typed values. Named contexts are never fetched; their terms are built in.
    ///
    /// # Errors
    /// Every problem found, each with its place.
    pub fn from_json(text: &str, profiles: &Profiles) -> Result<Self, Problems> {
        Self::from_node(&crate::node::from_json(text)?, profiles, false)
    }

    /// Reads the one policy of a Turtle text; `base` resolves relative IRIs and may be empty.
    ///
    /// # Errors
    /// Every problem found, each with its place.
    pub fn from_turtle(text: &str, base: &str, profiles: &Profiles) -> Result<Self, Problems> {
        Self::from_node(&crate::rdf::Graph::from_turtle(text, base)?.policy(None)?, profiles, true)
    }

    /// Reads the policy `uid` from a Turtle text that may hold several.
    ///
    /// # Errors
    /// Every problem found, each with its place.
    pub fn from_turtle_named(
        text: &str,
        base: &str,
        uid: &str,
        profiles: &Profiles,
    ) -> Result<Self, Problems> {
        Self::from_node(&crate::rdf::Graph::from_turtle(text, base)?.policy(Some(uid))?, profiles, true)
    }

    /// Reads the policy `uid` from quads; graph names are ignored. A dataset that points at the policy with
    /// `odrl:hasPolicy` becomes its target.
    ///
    /// # Errors
    /// Every problem found, each with its place.
    pub fn from_quads<'a>(
        quads: impl IntoIterator<Item = &'a oxrdf::Quad>,
        uid: &str,
        profiles: &Profiles,
    ) -> Result<Self, Problems> {
        Self::from_node(&crate::rdf::Graph::from_quads(quads)?.policy(Some(uid))?, profiles, true)
    }

    /// As [`Policy::from_json`], with the policies that this one may name in `inheritFrom`. What is inherited is
    /// written into the canonical text, with the parent's uid and hash beside it; nothing is fetched.
    ///
    /// # Errors
    /// Every problem found; `policy/parent-unavailable` for a parent that is not among `parents`.
    pub fn from_json_with_parents(
        text: &str,
        profiles: &Profiles,
        parents: &[Self],
    ) -> Result<Self, Problems> {
        Self::inheriting(&crate::node::from_json(text)?, profiles, false, parents)
    }

    /// As [`Policy::from_turtle`], with the policies that this one may name in `inheritFrom`.
    ///
    /// # Errors
    /// Every problem found; `policy/parent-unavailable` for a parent that is not among `parents`.
    pub fn from_turtle_with_parents(
        text: &str,
        base: &str,
        profiles: &Profiles,
        parents: &[Self],
    ) -> Result<Self, Problems> {
        Self::inheriting(&crate::rdf::Graph::from_turtle(text, base)?.policy(None)?, profiles, true, parents)
    }

    pub(crate) fn from_node(node: &Node, profiles: &Profiles, from_rdf: bool) -> Result<Self, Problems> {
        Self::inheriting(node, profiles, from_rdf, &[])
    }

    fn inheriting(
        node: &Node,
        profiles: &Profiles,
        from_rdf: bool,
        parents: &[Self],
    ) -> Result<Self, Problems> {
        let parents: Vec<&Model> = parents.iter().map(|parent| &parent.model).collect();
        Self::from_model(crate::read::read(node, &profiles.tables, from_rdf, &parents, false)?, profiles)
    }

    pub(crate) fn from_model(mut model: Model, profiles: &Profiles) -> Result<Self, Problems> {
        crate::canonical::arrange(&mut model);
        let program = crate::ir::compile(&model, &profiles.tables)?;
        let canonical = crate::canonical::text(&crate::canonical::policy_json(&model));
        let duties = list_duties(&model, &profiles.tables, &program);
        Ok(Self { model, canonical, program, duties, profiles: profiles.clone() })
    }

    /// The class.
    pub fn kind(&self) -> Kind {
        self.model.kind
    }

    /// The identifier.
    pub fn uid(&self) -> &str {
        &self.model.uid
    }

    /// The dataset, if all rules have the same.
    pub fn target(&self) -> Option<&str> {
        self.model.target().map(|thing| thing.iri.as_str())
    }

    /// The party that issues the policy, if all rules have the same.
    pub fn assigner(&self) -> Option<&str> {
        self.model.assigner().map(|thing| thing.iri.as_str())
    }

    /// The party that the policy is for, if all rules have the same.
    pub fn assignee(&self) -> Option<&str> {
        self.model.assignee().map(|thing| thing.iri.as_str())
    }

    /// An agreement's time of signing.
    pub fn timestamp(&self) -> Option<UnixMillis> {
        self.model.timestamp
    }

    /// The profiles named, sorted.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.model.profiles.iter().map(String::as_str)
    }

    /// What happens when permission and prohibition meet.
    pub fn conflict(&self) -> Conflict {
        self.model.conflict.unwrap_or(Conflict::Invalid)
    }

    /// The canonical text: RFC 8785 of the compact DSP JSON form. Reading it gives an equal policy.
    pub fn canonical_text(&self) -> &str {
        &self.canonical
    }

    /// `sha-256:<base64url>` of the canonical text.
    pub fn hash(&self) -> String {
        crate::canonical::hash_text(&self.canonical)
    }

    /// Whether both say the same: everything but uid, class, assignee and timestamp is equal.
    ///
    /// A target or assigner that only one of them names is no difference (offers in a DSP catalogue leave them out);
    /// two different ones are.
    pub fn terms_equal(&self, other: &Self) -> bool {
        let [left, right] = [self, other].map(|policy| {
            let mut model = policy.model.clone();
            model.uid.clear();
            model.kind = Kind::Offer;
            model.timestamp = None;
            for rule in &mut model.rules {
                rule.assignee = None;
            }
            model
        });
        let (mut left, mut right) = (left, right);
        for (clear, differs) in [
            (left.target().is_none() != right.target().is_none(), 0_u8),
            (left.assigner().is_none() != right.assigner().is_none(), 1),
        ] {
            if clear {
                for rule in left.rules.iter_mut().chain(&mut right.rules) {
                    if differs == 0 { rule.target = None } else { rule.assigner = None }
                }
            }
        }
        crate::canonical::arrange(&mut left);
        crate::canonical::arrange(&mut right);
        crate::canonical::policy_json(&left) == crate::canonical::policy_json(&right)
    }

    /// The canonical text of the agreement that accepts this policy: the same rules, for `assignee`, signed at
    /// `timestamp`. It reads back with the same terms.
    ///
    /// # Errors
    /// `policy/incomplete-offer` without one target and one assigner; `policy/party-not-permitted` if the policy is
    /// for another assignee.
    pub fn agreement_text(
        &self,
        agreement_id: &str,
        assignee: &str,
        timestamp: UnixMillis,
    ) -> Result<String, Refusal> {
        if self.target().is_none() || self.assigner().is_none() {
            return Err(Refusal::new(&INCOMPLETE_OFFER, self.uid()));
        }
        let others = self
            .model
            .rules
            .iter()
            .filter_map(|rule| rule.assignee.as_ref())
            .any(|known| known.iri != assignee);
        if others {
            return Err(Refusal::new(&crate::decide::PARTY_NOT_PERMITTED, assignee));
        }
        let model = crate::canonical::agreement(&self.model, agreement_id, assignee, timestamp);
        let text = crate::canonical::text(&crate::canonical::policy_json(&model));
        // Reading it back also checks the two identifiers that came in as plain text.
        match Self::from_json(&text, &self.profiles) {
            Ok(agreement) if agreement.kind() == Kind::Agreement && agreement.terms_equal(self) => Ok(text),
            Ok(_) => Err(Refusal::new(&INCOMPLETE_OFFER, "the agreement would not have the offer's terms")),
            Err(problems) => Err(problems.first()),
        }
    }

    /// Decides a request: three-valued, closed, without IO, clock or allocation.
    pub fn decide<'p>(&'p self, request: &Request<'_>, facts: &Facts) -> Decision<'p> {
        crate::decide::decide(self, request, facts, Counting::Covering)
    }

    /// Decides as [`Policy::decide`] does, but only permissions that name the action, or one included in it, permit: what
    /// is permitted merely as part of something broader is not.
    pub fn decide_named<'p>(&'p self, request: &Request<'_>, facts: &Facts) -> Decision<'p> {
        crate::decide::decide(self, request, facts, Counting::Naming)
    }

    /// All duties: the obligations first, then those under permissions and the remedies under prohibitions.
    pub fn duties(&self) -> &[Duty] {
        &self.duties
    }

    /// The clauses that the connector cannot hold technically: number of the rule, what it is about, how it is held.
    pub fn unenforceable(&self) -> Vec<Unenforceable> {
        crate::policy::unenforceable(&self.model, &self.profiles.tables)
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// The same terms in force: what a proposal would mean once agreed.
    pub fn as_if_agreed(&self) -> Self {
        let mut policy = self.clone();
        policy.model.kind = Kind::Set;
        policy
    }

    pub(crate) fn profile_set(&self) -> &Profiles {
        &self.profiles
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.profiles.tables
    }
}

/// A clause held by procedure or by law alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unenforceable {
    /// The number of the rule, from 1.
    pub rule: usize,
    /// The operand's or action's IRI.
    pub term: String,
    /// How it is held instead.
    pub enforcement: Enforcement,
}

fn unenforceable(model: &Model, tables: &Tables) -> Vec<Unenforceable> {
    fn add(found: &mut Vec<Unenforceable>, rule: usize, term: &str, enforcement: Enforcement) {
        let entry = Unenforceable { rule, term: term.to_owned(), enforcement };
        if enforcement != Enforcement::Technical && !found.contains(&entry) {
            found.push(entry);
        }
    }
    fn walk(found: &mut Vec<Unenforceable>, rule: usize, constraints: &[crate::model::Constraint]) {
        for constraint in constraints {
            match constraint {
                crate::model::Constraint::Atom(atom) => {
                    add(found, rule, &atom.operand.iri, crate::duty::constraint_enforcement(constraint));
                }
                crate::model::Constraint::Logic { parts, .. } => walk(found, rule, parts),
            }
        }
    }
    let mut found = Vec::new();
    for (index, rule) in model.rules.iter().enumerate() {
        let number = index + 1;
        for one in std::iter::once(rule).chain(&rule.duties) {
            walk(&mut found, number, &one.constraints);
            walk(&mut found, number, &one.refinements);
            for thing in [&one.target, &one.assignee, &one.assigner].into_iter().flatten() {
                walk(&mut found, number, &thing.refinements);
            }
            if one.kind != RuleKind::Permission {
                add(&mut found, number, &one.action, crate::duty::action_enforcement(one, tables));
            }
        }
    }
    found
}

fn list_duties(model: &Model, tables: &Tables, program: &Program) -> Vec<Duty> {
    let mut listed: Vec<(DutyRole, String, &crate::model::Rule, Option<&str>)> = Vec::new();
    for (index, rule) in model.rules.iter().enumerate() {
        if rule.kind == RuleKind::Duty {
            listed.push((DutyRole::Obligation, (index + 1).to_string(), rule, None));
        }
    }
    // In the order of the compiled duties: obligations, then rule by rule.
    for (index, rule) in model.rules.iter().enumerate() {
        if rule.kind == RuleKind::Duty {
            continue;
        }
        for (below, duty) in rule.duties.iter().enumerate() {
            let role = match rule.kind {
                RuleKind::Permission => DutyRole::OfPermission(index + 1),
                RuleKind::Prohibition | RuleKind::Duty => DutyRole::Remedy(index + 1),
            };
            let target = rule.target.as_ref().map(|thing| thing.iri.as_str());
            listed.push((role, format!("{}.{}", index + 1, below + 1), duty, target));
        }
    }
    listed
        .into_iter()
        .zip(&program.duties)
        .map(|((role, clause, rule, target), compiled)| {
            one_duty(role, clause, &compiled.key, rule, target, tables)
        })
        .collect()
}

/// A duty with its consequences. What the compiled form says of phase and deadline is read from the same rule.
fn one_duty(
    role: DutyRole,
    clause: String,
    key: &str,
    rule: &crate::model::Rule,
    target: Option<&str>,
    tables: &Tables,
) -> Duty {
    let target = rule.target.as_ref().map(|thing| thing.iri.as_str()).or(target);
    let consequences = rule
        .duties
        .iter()
        .enumerate()
        .map(|(below, consequence)| {
            let number = below + 1;
            let key = consequence.uid.clone().unwrap_or_else(|| format!("{key}/consequence/{number}"));
            one_duty(role, format!("{clause}.{number}"), &key, consequence, target, tables)
        })
        .collect();
    Duty {
        key: key.to_owned(),
        role,
        action: rule.action.clone(),
        target: target.map(str::to_owned),
        assignee: rule.assignee.as_ref().map(|thing| thing.iri.clone()),
        parties: rule
            .parties
            .iter()
            .map(|(function, party)| (compact(function).to_owned(), party.iri.clone()))
            .collect(),
        phase: crate::duty::phase(rule, tables),
        deadlines: crate::duty::deadlines(rule),
        enforcement: crate::duty::enforcement(rule, tables),
        refinements: crate::duty::refinements(rule),
        conditional: rule.constraints.iter().any(|constraint| !crate::duty::is_timing(constraint)),
        period_millis: crate::duty::period_millis(rule),
        consequences,
        deletes: match (tables.action(crate::vocab::action::DELETE), tables.action(&rule.action)) {
            (Some(delete), Some(action)) => tables.covered(delete).contains(action),
            _ => false,
        },
        clause,
    }
}
