//! A policy as Turtle, as a self-description carries it: every node has an IRI, so that it can be signed.

use oxrdf::vocab::{rdf, xsd};
use oxrdf::{BlankNode, Literal, NamedNode, NamedOrBlankNode, Term, Triple};
use oxttl::TurtleSerializer;

use crate::node::{Item, ItemKind, Node};
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::vocab::PREFIXES;

crate::refusal_codes! {
    NOT_RDF = "policy/not-rdf", Input,
        "a name in the policy is no IRI, or names two different things, so it cannot be written as Turtle",
        "政策中有名稱並非 IRI，或同時指稱兩個不同事物，無法寫成 Turtle", "策略中有名称并非 IRI，或同时指称两个不同事物，无法写成 Turtle",
        clause "RDF 1.1, IRIs", next "name the policy, its dataset, its parties and each of its rules by an IRI of its own";
}

impl Policy {
    /// The policy as Turtle; reading it gives a policy with the same terms.
    ///
    /// Nodes without a name of their own are numbered below the policy's: a description with blank nodes cannot be
    /// signed. Only lists, which `andSequence` needs, have blank nodes.
    ///
    /// # Errors
    /// `policy/not-rdf` for a name that is no IRI, or that two different nodes share: in RDF they would be one.
    pub fn to_turtle(&self) -> Result<String, Refusal> {
        let node = crate::node::from_json(self.canonical_text()).map_err(|problems| problems.first())?;
        let separator = if self.uid().contains('#') { '-' } else { '#' };
        let mut writer = Writer { base: format!("{}{separator}", self.uid()), ..Writer::default() };
        writer.node(&node)?;
        let ours = |error: &dyn std::fmt::Display| Refusal::new(&NOT_RDF, error.to_string());
        let mut serializer = TurtleSerializer::new();
        for (prefix, namespace) in PREFIXES {
            if writer.triples.iter().any(|triple| mentions(triple, namespace)) {
                serializer = serializer.with_prefix(*prefix, *namespace).map_err(|error| ours(&error))?;
            }
        }
        let mut serializer = serializer.for_writer(Vec::new());
        for triple in &writer.triples {
            serializer.serialize_triple(triple).map_err(|error| ours(&error))?;
        }
        let bytes = serializer.finish().map_err(|error| ours(&error))?;
        String::from_utf8(bytes).map_err(|error| ours(&error))
    }
}

fn mentions(triple: &Triple, namespace: &str) -> bool {
    let in_object = match &triple.object {
        Term::NamedNode(node) => node.as_str().starts_with(namespace),
        Term::Literal(literal) => {
            literal.datatype() != xsd::STRING && literal.datatype().as_str().starts_with(namespace)
        }
        Term::BlankNode(_) => false,
    };
    in_object || triple.predicate.as_str().starts_with(namespace)
}

#[derive(Default)]
struct Writer<'n> {
    base: String,
    nodes: usize,
    triples: Vec<Triple>,
    /// Nodes with a name of their own and something said about them.
    named: Vec<&'n Node>,
}

impl<'n> Writer<'n> {
    fn node(&mut self, node: &'n Node) -> Result<NamedNode, Refusal> {
        let name = match &node.id {
            Some(id) => {
                let name = iri(id)?;
                if let Some(known) = self.named.iter().find(|known| known.id == node.id) {
                    return if same(known, node) {
                        Ok(name)
                    } else {
                        Err(Refusal::new(&NOT_RDF, format!("`{id}`")))
                    };
                }
                self.named.push(node);
                name
            }
            None => {
                self.nodes = self.nodes.saturating_add(1);
                iri(&format!("{}{}", self.base, self.nodes))?
            }
        };
        for kind in &node.types {
            self.triples.push(Triple::new(name.clone(), rdf::TYPE, iri(kind)?));
        }
        // The members of one node stand together in the text, those of the nodes below it follow.
        let mut own = Vec::new();
        let mut below = std::mem::take(&mut self.triples);
        for member in &node.members {
            let predicate = iri(&member.iri)?;
            for value in &member.values {
                let object = self.item(value)?;
                own.push(Triple::new(name.clone(), predicate.clone(), object));
            }
        }
        below.append(&mut own);
        below.append(&mut self.triples);
        self.triples = below;
        Ok(name)
    }

    fn item(&mut self, item: &'n Item) -> Result<Term, Refusal> {
        Ok(match &item.kind {
            ItemKind::Node(node) => self.node(node)?.into(),
            ItemKind::Iri(name) => iri(name)?.into(),
            ItemKind::Literal { text, language: Some(language), .. } => {
                Literal::new_language_tagged_literal(text, language)
                    .map_err(|error| Refusal::new(&NOT_RDF, format!("`{language}`: {error}")))?
                    .into()
            }
            ItemKind::Literal { text, datatype: Some(datatype), .. } => {
                Literal::new_typed_literal(text, iri(datatype)?).into()
            }
            ItemKind::Literal { text, .. } => Literal::new_simple_literal(text).into(),
            ItemKind::List(items) => self.list(items)?,
        })
    }

    fn list(&mut self, items: &'n [Item]) -> Result<Term, Refusal> {
        let mut rest: Term = rdf::NIL.into_owned().into();
        for item in items.iter().rev() {
            let first = self.item(item)?;
            self.nodes = self.nodes.saturating_add(1);
            let cell: NamedOrBlankNode = BlankNode::new_unchecked(format!("l{}", self.nodes)).into();
            self.triples.push(Triple::new(cell.clone(), rdf::FIRST, first));
            self.triples.push(Triple::new(cell.clone(), rdf::REST, rest));
            rest = cell.into();
        }
        Ok(rest)
    }
}

/// Whether both say the same, wherever they stand.
fn same(left: &Node, right: &Node) -> bool {
    fn items(left: &[Item], right: &[Item]) -> bool {
        left.len() == right.len()
            && left.iter().zip(right).all(|(left, right)| match (&left.kind, &right.kind) {
                (ItemKind::Node(left), ItemKind::Node(right)) => same(left, right),
                (ItemKind::List(left), ItemKind::List(right)) => items(left, right),
                (ItemKind::Iri(left), ItemKind::Iri(right)) => left == right,
                (
                    ItemKind::Literal { text, datatype, language },
                    ItemKind::Literal { text: other, datatype: of_other, language: in_other },
                ) => (text, datatype, language) == (other, of_other, in_other),
                _ => false,
            })
    }
    left.id == right.id
        && left.types == right.types
        && left.members.len() == right.members.len()
        && left
            .members
            .iter()
            .zip(&right.members)
            .all(|(left, right)| left.iri == right.iri && items(&left.values, &right.values))
}

fn iri(text: &str) -> Result<NamedNode, Refusal> {
    NamedNode::new(text).map_err(|error| Refusal::new(&NOT_RDF, format!("`{text}`: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::generate::{ask, cases, facts, policy_json, read, request};
    use crate::{Policy, Profiles};

    #[test]
    fn every_template_can_be_signed_and_reads_back() {
        let profiles = Profiles::shipped();
        for template in crate::template::all() {
            let parts = [(template, template.examples())];
            let offer = crate::template::offer(
                "https://a.example/d#o",
                "https://a.example/id",
                "https://a.example/d",
                &parts,
                &profiles,
            );
            let offer = offer.unwrap_or_else(|refusal| panic!("{}: {refusal}", template.name));
            let turtle = offer.to_turtle().unwrap();
            let again = Policy::from_turtle(&turtle, "", &profiles)
                .unwrap_or_else(|problems| panic!("{}: {problems}\n{turtle}", template.name));
            assert!(again.terms_equal(&offer) || same_words(&again, &offer), "{}\n{turtle}", template.name);
            assert!(!turtle.contains("_:"), "{turtle}");
        }
        let nameless = read(
            &serde_json::json!({"@type": "Set", "@id": "offer-1", "permission": [{"action": "use", "target": "urn:d"}]}),
        );
        assert_eq!(nameless.to_turtle().unwrap_err().code, &super::NOT_RDF);
    }

    #[test]
    fn a_name_for_two_things_is_refused_and_a_shared_duty_is_written_once() {
        let with = |actions: [&str; 2]| {
            let rule = |action: &str, duty: &str| serde_json::json!({"action": action, "target": "urn:d", "duty": [{"@id": "urn:duty", "action": duty}]});
            read(
                &serde_json::json!({"@type": "Set", "@id": "urn:p", "permission": [rule("read", actions[0]), rule("print", actions[1])]}),
            )
        };
        assert_eq!(with(["inform", "compensate"]).to_turtle().unwrap_err().code, &super::NOT_RDF);
        let shared = with(["inform", "inform"]).to_turtle().unwrap();
        assert_eq!(shared.matches("odrl:inform").count(), 1, "{shared}");
        assert_eq!(Policy::from_turtle(&shared, "", &Profiles::shipped()).unwrap().duties().len(), 2);
    }

    /// Rules and constraints got names on the way, which no word and no decision depends on.
    fn same_words(left: &Policy, right: &Policy) -> bool {
        let words = |policy: &Policy| -> std::collections::BTreeSet<String> {
            policy.render(crate::Lang::En).into_iter().map(|clause| clause.text).collect()
        };
        words(left) == words(right)
    }

    proptest! {
        #![proptest_config(cases(40))]

        #[test]
        fn turtle_keeps_every_decision(json in policy_json(), facts in facts(), parts in proptest::collection::vec(request(), 4)) {
            let policy = read(&json);
            // Two different duties may have got one name.
            let turtle = policy.to_turtle();
            prop_assume!(turtle.is_ok());
            let again = Policy::from_turtle(&turtle.unwrap(), "", &Profiles::shipped()).unwrap();
            for parts in &parts {
                let outcome = |policy: &Policy| policy.decide(&ask(parts), &facts).outcome;
                prop_assert_eq!(outcome(&again), outcome(&policy));
            }
        }
    }
}
