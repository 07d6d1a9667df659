//! What things are called between two connectors: absolute IRIs inside, and on the wire whatever the peer understands.
//!
//! Inside, every dataset, offer and agreement has an absolute IRI, because a bare name means something else at each
//! provider. On the wire a text of the schemes `https`, `http`, `urn` and `did` stands for itself; anything else is a
//! bare name *of the provider of the process* and lies below that provider's base. Writing is the exact inverse. Two
//! connectors of ours use no bare names.

use control_plane::ids::ParticipantId;
use control_plane::pids::Role;

/// Schemes whose IRIs stand for themselves.
const SCHEMES: [&str; 4] = ["https:", "http:", "urn:", "did:"];

/// What one peer and we call each other and our things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Our own participant.
    pub us: ParticipantId,
    /// The peer.
    pub peer: ParticipantId,
    /// The peer's name in messages, where that is not its URI.
    pub peer_name: Option<String>,
    /// What the IRIs behind bare names of ours start with; without it our IRIs are written as they are.
    pub our_base: Option<String>,
    /// Whether the peer speaks our profile: signatures, and terms that the protocol alone cannot carry.
    pub profile: bool,
}

impl Names {
    /// The IRI that `text` stands for in a process in which we have `role`.
    pub fn read(&self, text: &str, role: Role) -> String {
        match self.base(role) {
            Some(base) if !stands_for_itself(text) => format!("{base}{text}"),
            Some(_) | None => text.to_owned(),
        }
    }

    /// How `iri` is written in a process in which we have `role`.
    pub fn write<'a>(&self, iri: &'a str, role: Role) -> &'a str {
        let bare = self.base(role).and_then(|base| iri.strip_prefix(base.as_str()));
        bare.filter(|name| is_bare(name)).unwrap_or(iri)
    }

    /// The participant that a message names `text`; only the two of us are anybody here.
    pub fn party(&self, text: &str) -> Option<&ParticipantId> {
        if self.peer_name.as_deref() == Some(text) || self.peer.as_str() == text {
            return Some(&self.peer);
        }
        (self.us.as_str() == text).then_some(&self.us)
    }

    /// How a message names `participant`.
    pub fn party_name<'a>(&'a self, participant: &'a str) -> &'a str {
        match &self.peer_name {
            Some(name) if participant == self.peer.as_str() => name,
            Some(_) | None => participant,
        }
    }

    /// The participant that provides in a process in which we have `role`.
    pub fn provider(&self, role: Role) -> &ParticipantId {
        match role {
            Role::Provider => &self.us,
            Role::Consumer => &self.peer,
        }
    }

    /// The participant that consumes.
    pub fn consumer(&self, role: Role) -> &ParticipantId {
        self.provider(role.other())
    }

    /// What bare names of the provider lie below; who speaks our profile calls things by their IRIs.
    fn base(&self, role: Role) -> Option<String> {
        match role {
            _ if self.profile => None,
            Role::Provider => self.our_base.clone(),
            Role::Consumer => Some(format!("{}/", self.peer.as_str().trim_end_matches('/'))),
        }
    }
}

fn stands_for_itself(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

fn is_bare(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '?', '#']) && !stands_for_itself(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(our_base: Option<&str>) -> Names {
        Names {
            us: ParticipantId::parse("https://us.example/id").unwrap(),
            peer: ParticipantId::parse("https://kit.example/id").unwrap(),
            peer_name: Some("KIT".to_owned()),
            our_base: our_base.map(str::to_owned),
            profile: false,
        }
    }

    #[test]
    fn bare_names_lie_below_their_provider() {
        let names = names(Some("https://us.example/id/"));
        for (role, wire, iri) in [
            (Role::Provider, "ACN0101", "https://us.example/id/ACN0101"),
            (Role::Provider, "CD123:ACN0101:456", "https://us.example/id/CD123:ACN0101:456"),
            (Role::Consumer, "ACNC0101", "https://kit.example/id/ACNC0101"),
            (Role::Provider, "urn:uuid:1", "urn:uuid:1"),
            (Role::Provider, "https://us.example/id/a/b", "https://us.example/id/a/b"),
            (Role::Consumer, "https://us.example/id/ACN0101", "https://us.example/id/ACN0101"),
        ] {
            assert_eq!((names.read(wire, role).as_str(), names.write(iri, role)), (iri, wire), "{wire}");
        }
        assert_eq!(names.party("KIT"), Some(&names.peer));
        assert_eq!(names.party("https://us.example/id"), Some(&names.us));
        assert_eq!(names.party("somebody"), None);
        assert_eq!(names.party_name("https://kit.example/id"), "KIT");
    }

    #[test]
    fn who_speaks_our_profile_uses_iris() {
        let names = Names { profile: true, ..names(Some("https://us.example/id/")) };
        for role in [Role::Provider, Role::Consumer] {
            for iri in ["https://us.example/id/A", "https://kit.example/id/A"] {
                assert_eq!((names.write(iri, role), names.read(iri, role).as_str()), (iri, iri));
            }
        }
    }

    #[test]
    fn without_a_base_our_iris_are_written_as_they_are() {
        let names = names(None);
        let iri = "https://us.example/id/ACN0101";
        assert_eq!(names.write(iri, Role::Provider), iri);
        assert_eq!(names.read("ACN0101", Role::Provider), "ACN0101");
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(rest in "[!-~]{1,40}", ours in any::<bool>()) {
            let names = names(Some("https://us.example/id/"));
            let (role, base) = if ours {
                (Role::Provider, "https://us.example/id/")
            } else {
                (Role::Consumer, "https://kit.example/id/")
            };
            for iri in [format!("{base}{rest}"), format!("urn:{rest}")] {
                prop_assert_eq!(names.read(names.write(&iri, role), role), iri);
            }
        }
    }
}
