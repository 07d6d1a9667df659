//! The statements of all live descriptions in oxigraph's memory store, one graph per dataset.

use std::collections::{BTreeSet, HashSet};

use control_plane::ids::DatasetId;
use oxigraph::store::{StorageError, Store};
use oxrdf::{GraphName, GraphNameRef, NamedNode, Quad};

/// oxigraph's memory store never frees removed statements; below this many it does not matter.
const MIN_REMOVED_BEFORE_REBUILD: usize = 50_000;

pub(super) struct StatementStore {
    store: Store,
    live: usize,
    removed: usize,
}

impl std::fmt::Debug for StatementStore {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("StatementStore").field("live", &self.live).field("removed", &self.removed).finish()
    }
}

impl StatementStore {
    pub fn new() -> Result<Self, StorageError> {
        Ok(Self { store: Store::new()?, live: 0, removed: 0 })
    }

    /// Makes a graph hold exactly `quads`: what left is removed and what came is added, nothing else is touched.
    pub fn replace(&mut self, graph: &NamedNode, quads: Vec<Quad>) -> Result<(), StorageError> {
        let held: HashSet<Quad> = self.graph(graph)?.into_iter().collect();
        let wanted: HashSet<Quad> = quads.into_iter().collect();
        let mut transaction = self.store.start_transaction()?;
        let (mut added, mut removed) = (0, 0);
        for quad in held.difference(&wanted) {
            transaction.remove(quad.as_ref());
            removed += 1;
        }
        for quad in wanted.difference(&held) {
            transaction.insert(quad.as_ref());
            added += 1;
        }
        transaction.commit()?;
        self.live = (self.live + added).saturating_sub(removed);
        self.removed += removed;
        if self.removed > self.live.max(MIN_REMOVED_BEFORE_REBUILD) {
            self.rebuild()?;
        }
        Ok(())
    }

    pub fn graph(&self, graph: &NamedNode) -> Result<Vec<Quad>, StorageError> {
        self.store
            .quads_for_pattern(None, None, None, Some(GraphNameRef::NamedNode(graph.as_ref())))
            .collect()
    }

    /// The datasets whose description has a statement with this predicate and value.
    pub fn graphs_with(
        &self,
        predicate: &NamedNode,
        value: &NamedNode,
    ) -> Result<BTreeSet<DatasetId>, StorageError> {
        let mut datasets = BTreeSet::new();
        for quad in
            self.store.quads_for_pattern(None, Some(predicate.as_ref()), Some(value.as_ref().into()), None)
        {
            if let GraphName::NamedNode(graph) = quad?.graph_name
                && let Ok(dataset) = DatasetId::parse(graph.as_str())
            {
                datasets.insert(dataset);
            }
        }
        Ok(datasets)
    }

    fn rebuild(&mut self) -> Result<(), StorageError> {
        let store = Store::new()?;
        let mut transaction = store.start_transaction()?;
        let mut live = 0;
        for quad in self.store.iter() {
            transaction.insert(quad?.as_ref());
            live += 1;
        }
        transaction.commit()?;
        *self = Self { store, live, removed: 0 };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrdf::Literal;

    #[test]
    fn graphs_are_replaced_and_the_store_is_rebuilt_when_mostly_dead() {
        let mut store = StatementStore::new().unwrap();
        let graph = NamedNode::new("https://campus.example/id/tide").unwrap();
        let predicate = NamedNode::new("http://purl.org/dc/terms/title").unwrap();
        let quads = |from: usize, count: usize| {
            let quad = |n: usize| {
                Quad::new(
                    graph.clone(),
                    predicate.clone(),
                    Literal::new_simple_literal(n.to_string()),
                    graph.clone(),
                )
            };
            (from..from + count).map(quad).collect::<Vec<_>>()
        };
        let mut rebuilt = false;
        for round in 0..15 {
            let wanted = quads(round * 4_000, 5_000);
            store.replace(&graph, wanted.clone()).unwrap();
            let held: HashSet<Quad> = store.graph(&graph).unwrap().into_iter().collect();
            assert_eq!(held, wanted.into_iter().collect::<HashSet<Quad>>(), "round {round}");
            assert_eq!(store.live, 5_000);
            rebuilt |= round > 0 && store.removed == 0;
        }
        assert!(rebuilt);
    }
}
