//! What a participant *is*: the facts about it that the authority attests, each parsed once.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use control_plane::Refusal;
use control_plane::ids::{ParticipantId, printable};
use serde::{Deserialize, Serialize};

policy::refusal_codes! {
    MALFORMED_MEMBERSHIP = "identity/malformed-membership", Input,
        "a fact about the member is not written as it must be", "成員資料的寫法不正確", "成员资料的写法不正确",
        clause "security model: who is who", next "correct the named field";
}

/// Names, cities and roles: enough for any institution, small enough for a header.
pub const MAX_NAME_BYTES: usize = 256;
/// Prefixes, addresses and roles for each member: several sites, not a routing table.
pub const MAX_LIST_ITEMS: usize = 64;

/// The attested facts about one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Membership {
    /// The institution's legal name.
    pub legal_name: LegalName,
    /// Where it is established.
    pub jurisdiction: Jurisdiction,
    /// The city, in English, e.g. `Hong Kong`, `Shenzhen`.
    pub city: String,
    /// The address prefixes that it operates.
    pub prefixes: Vec<AddressPrefix>,
    /// Where its peers' listener can be dialled.
    pub addresses: Vec<PeerAddress>,
    /// What it does in the data space, e.g. `provider`, `consumer`.
    pub roles: Vec<Role>,
    /// How far its connector's protection was examined.
    pub security_profile: SecurityProfile,
    /// The IRI space in which it may describe datasets.
    pub subject_base: SubjectBase,
}

impl Membership {
    /// Checks what the types of the fields do not: lengths.
    pub fn check(&self) -> Result<(), Refusal> {
        let names =
            [Some(&self.legal_name.en), self.legal_name.zh_hant.as_ref(), self.legal_name.zh_hans.as_ref()];
        for text in names.into_iter().flatten().chain([&self.city]) {
            if text.is_empty() || text.len() > MAX_NAME_BYTES || !is_plain(text) {
                return Err(refuse("name", text, "1 to 256 bytes without control characters"));
            }
        }
        for (field, items) in [
            ("prefixes", self.prefixes.len()),
            ("addresses", self.addresses.len()),
            ("roles", self.roles.len()),
        ] {
            if items > MAX_LIST_ITEMS {
                return Err(refuse(field, &items.to_string(), "at most 64 items"));
            }
        }
        Ok(())
    }
}

/// A legal name, in English and in the Chinese scripts where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegalName {
    /// English.
    pub en: String,
    /// Traditional Chinese.
    #[serde(rename = "zh-Hant", default, skip_serializing_if = "Option::is_none")]
    pub zh_hant: Option<String>,
    /// Simplified Chinese.
    #[serde(rename = "zh-Hans", default, skip_serializing_if = "Option::is_none")]
    pub zh_hans: Option<String>,
}

/// How far the connector's protection was examined; later means stronger (IDS: base, trust, trust+).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityProfile {
    /// Basic protection.
    Base,
    /// Examined organisation and software.
    Trust,
    /// Examined, with attested hardware.
    TrustPlus,
}

impl SecurityProfile {
    /// The name in statements and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Trust => "trust",
            Self::TrustPlus => "trustplus",
        }
    }

    /// Reads the name in statements and policies.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        [Self::Base, Self::Trust, Self::TrustPlus]
            .into_iter()
            .find(|profile| profile.as_str() == text)
            .ok_or_else(|| refuse("securityProfile", text, "one of base, trust, trustplus"))
    }
}

macro_rules! texts {
    ($( $(#[$doc:meta])* $name:ident, $field:literal, $rule:literal, $holds:path; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Accepts ", $rule, ".")]
            pub fn parse(text: &str) -> Result<Self, Refusal> {
                if $holds(text) { Ok(Self(text.to_owned())) } else { Err(refuse($field, text, $rule)) }
            }

            /// The text as it was parsed.
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result { out.write_str(&self.0) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result { out.write_str(&self.0) }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self { value.0 }
        }

        impl TryFrom<String> for $name {
            type Error = Refusal;

            fn try_from(text: String) -> Result<Self, Refusal> { Self::parse(&text) }
        }
    )* };
}

texts! {
    /// A jurisdiction; `CN`, `HK` and `MO` are apart and never nested.
    Jurisdiction, "jurisdiction", "an ISO 3166-1 code of two capital letters", is_jurisdiction;
    /// An address prefix, e.g. `2001:db8:852::/48`.
    AddressPrefix, "prefixes", "an address, a slash and a length, with zero host bits", is_prefix;
    /// Where a peers' listener can be dialled: `host:port` or `[address]:port`.
    PeerAddress, "addresses", "`host:port`, a IPv6 address in brackets", is_peer_address;
    /// A role, e.g. `provider`.
    Role, "roles", "1 to 32 lower-case letters, digits and hyphens", is_role;
    /// The IRI space of a publisher, compared by segment because it ends in `/`.
    SubjectBase, "subjectBase",
        "a normalised https URI that ends in `/`, without query, fragment, user, `%` or dot segments", is_subject_base;
}

impl AddressPrefix {
    /// Whether `address` lies inside; IPv4 and IPv6 never match each other.
    pub fn contains(&self, address: IpAddr) -> bool {
        let Some((prefix, length)) = split_prefix(&self.0) else { return false };
        prefix.is_ipv4() == address.is_ipv4() && masked(address, length) == masked(prefix, length)
    }
}

impl SubjectBase {
    /// Whether the two spaces overlap; neither may lie inside the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

/// A participant as it is enrolled: RFC 3986 normalised, because ever after it is compared byte by byte.
pub fn normalised_participant(text: &str) -> Result<ParticipantId, Refusal> {
    let participant = ParticipantId::parse(text)?;
    let Some(rest) = text.strip_prefix("https://") else { return Ok(participant) };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.to_ascii_lowercase();
    let host = host.strip_suffix(":443").or_else(|| host.strip_suffix(':')).unwrap_or(&host);
    if host.contains('@')
        || path.contains('%')
        || path.split(['/', '?']).any(|part| part == "." || part == "..")
    {
        return Err(refuse("participant", text, "without user, percent-encoding or dot segments"));
    }
    ParticipantId::parse(&format!("https://{host}{path}"))
}

fn refuse(field: &str, text: &str, rule: &str) -> Refusal {
    Refusal::new(&MALFORMED_MEMBERSHIP, format!("{field} `{}`: must be {rule}", printable(text)))
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c == '?' || printable(c.encode_utf8(&mut [0; 4])) != "?")
}

fn is_jurisdiction(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_role(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_prefix(text: &str) -> bool {
    split_prefix(text).is_some_and(|(address, length)| masked(address, length) == bits(address))
}

fn split_prefix(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u32 = length.parse().ok()?;
    (plain && length <= longest).then_some((address, length))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn masked(address: IpAddr, length: u32) -> u128 {
    bits(address) & u128::MAX.checked_shl(128 - length).unwrap_or(0)
}

fn is_peer_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_port = port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    let is_host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').is_some_and(|host| host.parse::<Ipv6Addr>().is_ok()),
        None => is_host_name(host),
    };
    is_port && is_host
}

/// A DNS name or an IPv4 address, in lower case.
pub(crate) fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

fn is_subject_base(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://") else { return false };
    let Some((host, path)) = rest.split_once('/') else { return false };
    let host_name = host.split_once(':').map_or(host, |(name, _)| name);
    let normal_port =
        host.split_once(':').is_none_or(|(_, port)| port != "443" && port.parse::<u16>().is_ok());
    text.len() <= control_plane::ids::MAX_ID_BYTES
        && oxiri::Iri::parse(text).is_ok()
        && is_host_name(host_name)
        && normal_port
        && (path.is_empty() || path.ends_with('/'))
        && !path.contains(['%', '?', '#', '\\'])
        && path.is_ascii()
        && !path.split('/').rev().skip(1).any(|part| part.is_empty() || part == "." || part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&str) -> bool;

    #[test]
    fn texts_are_parsed_once() {
        let good: &[(Rule, &str)] = &[
            (is_jurisdiction, "HK"),
            (is_prefix, "2001:db8:852::/48"),
            (is_prefix, "192.0.2.0/24"),
            (is_prefix, "::/0"),
            (is_prefix, "2001:db8::1/128"),
            (is_peer_address, "[2001:db8::1]:7443"),
            (is_peer_address, "connector.campus.example:7443"),
            (is_peer_address, "192.0.2.1:7443"),
            (is_role, "catalogue-replica"),
            (is_subject_base, "https://data.campus.example/"),
            (is_subject_base, "https://data.campus.example:8443/hku/sets/"),
        ];
        for (rule, text) in good {
            assert!(rule(text), "{text}");
        }
        let bad: &[(Rule, &str)] = &[
            (is_jurisdiction, "hk"),
            (is_jurisdiction, "CN-HK"),
            (is_prefix, "2001:db8:852::1/48"),
            (is_prefix, "2001:db8::/129"),
            (is_prefix, "2001:db8::/+48"),
            (is_prefix, "192.0.2.0"),
            (is_peer_address, "2001:db8::1:7443"),
            (is_peer_address, "campus.example"),
            (is_peer_address, "campus.example:0"),
            (is_peer_address, "campus.example:07443"),
            (is_peer_address, "a@campus.example:7443"),
            (is_role, ""),
            (is_role, "Provider"),
            (is_subject_base, "https://data.campus.example"),
            (is_subject_base, "https://data.campus.example/hku"),
            (is_subject_base, "https://data.campus.example//"),
            (is_subject_base, "https://data.campus.example/../a/"),
            (is_subject_base, "https://data.campus.example/a%2Fb/"),
            (is_subject_base, "https://Data.campus.example/"),
            (is_subject_base, "https://data.campus.example:443/"),
            (is_subject_base, "https://a@data.campus.example/"),
            (is_subject_base, "http://data.campus.example/"),
        ];
        for (rule, text) in bad {
            assert!(!rule(text), "{text}");
        }
    }

    #[test]
    fn prefixes_and_bases_compare_by_their_parts() {
        let prefix = AddressPrefix::parse("2001:db8:852::/48").unwrap();
        assert!(prefix.contains("2001:db8:852:1::2".parse().unwrap()));
        assert!(!prefix.contains("2001:db8:853::".parse().unwrap()));
        assert!(!AddressPrefix::parse("::/0").unwrap().contains("192.0.2.1".parse().unwrap()));

        let base = |text| SubjectBase::parse(text).unwrap();
        assert!(base("https://a.example/x/").overlaps(&base("https://a.example/x/y/")));
        assert!(base("https://a.example/").overlaps(&base("https://a.example/x/")));
        assert!(!base("https://a.example/x/").overlaps(&base("https://a.example/xy/")));
    }

    #[test]
    fn participants_are_normalised_at_enrolment() {
        let check = |text: &str, expected: Option<&str>| {
            let found = normalised_participant(text).ok();
            assert_eq!(found.as_ref().map(ParticipantId::as_str), expected, "{text}");
        };
        check("https://Campus.Example:443/id/HKU", Some("https://campus.example/id/HKU"));
        check("https://campus.example/id/hku", Some("https://campus.example/id/hku"));
        check("did:web:campus.example", Some("did:web:campus.example"));
        check("https://campus.example/id/../hku", None);
        check("https://campus.example/%61", None);
        check("https://a@campus.example/", None);
    }

    #[test]
    fn profiles_are_ordered() {
        assert!(
            SecurityProfile::Base < SecurityProfile::Trust
                && SecurityProfile::Trust < SecurityProfile::TrustPlus
        );
        assert_eq!(SecurityProfile::parse("trustplus").unwrap(), SecurityProfile::TrustPlus);
        assert_eq!(SecurityProfile::parse("gold").unwrap_err().code, &MALFORMED_MEMBERSHIP);
    }
}
