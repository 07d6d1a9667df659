//! The closed list of row collections: names only, so that nobody invents a second spelling.

use std::fmt;

macro_rules! collections {
    ($( $(#[$doc:meta])* $name:ident = $text:literal; )*) => {
        /// A named set of rows; the name is the durable form and never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Collection { $( $(#[$doc])* $name, )* }

        impl Collection {
            /// Every collection, in the order of declaration.
            pub const ALL: &[Self] = &[$( Self::$name ),*];

            /// The name in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }
        }
    };
}

collections! {
    /// Contract negotiations.
    Negotiations = "negotiations";
    /// Transfer processes.
    Transfers = "transfers";
    /// Agreements with their signatures and status.
    Agreements = "agreements";
    /// Membership statements, the newest of each participant.
    Statements = "statements";
    /// Every certificate ever accepted.
    Certificates = "certificates";
    /// Revocation lists and minimum statement sequences.
    RevocationLists = "revocation-lists";
    /// What is remembered of each peer.
    Peers = "peers";
    /// Datasets that this participant publishes.
    Datasets = "datasets";
    /// Manifests of published and received data.
    Manifests = "manifests";
    /// Sealed copies that this participant holds.
    Holdings = "holdings";
    /// Wrapped keys; a collection of their own so that destroying one leaves the rest of its row.
    WrappedKeys = "wrapped-keys";
    /// Epochs of the key-encryption key.
    KeyEpochs = "key-epochs";
    /// What was destroyed, so that a restored backup cannot bring it back.
    Tombstones = "tombstones";
    /// Progress of incoming transfers.
    Ingress = "ingress";
    /// Use sessions.
    UseSessions = "use-sessions";
    /// Leases given and taken.
    Leases = "leases";
    /// Signed receipts and grants of both sides.
    Receipts = "receipts";
    /// Signed notices given and taken.
    Notices = "notices";
    /// Envelopes of the catalogue's logs.
    CatalogueEnvelopes = "catalogue-envelopes";
    /// Heads of the catalogue's logs.
    CatalogueHeads = "catalogue-heads";
    /// Proofs that a publisher signed two envelopes for one place.
    CatalogueForks = "catalogue-forks";
    /// Compliance verdicts and their evidence.
    Compliance = "compliance";
    /// Signed tree heads, our own and those witnessed.
    TreeHeads = "tree-heads";
    /// The connector's own small state: last time seen, cursors, switches.
    Local = "local";
    /// Acts that wait for a second person, and those decided.
    Approvals = "approvals";
    /// Requests of local people for access to others' data.
    AccessRequests = "access-requests";
}

impl fmt::Display for Collection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Collection;

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<_> = Collection::ALL.iter().map(|collection| collection.as_str()).collect();
        assert_eq!(names.len(), Collection::ALL.len());
        for (place, collection) in Collection::ALL.iter().enumerate() {
            assert_eq!(*collection as usize, place, "`ALL` follows the declaration, signals rely on it");
        }
    }
}
