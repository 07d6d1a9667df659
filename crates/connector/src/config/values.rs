//! The values that settings are made of, and how each is read.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control_plane::ids::{ParticipantId, printable};
use policy::refusal::Refusal;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::problem::MISSING_FILE;
use super::reader::{Parsed, bad};
use super::tree::Value;

/// A host and a port to dial: `hong-kong.example:7443`, `[2001:db8::7]:7443` or `192.0.2.7:7443`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Where.
    pub host: Host,
    /// The port, never 0.
    pub port: u16,
}

/// A host to dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name in lower case, without a final dot.
    Name(String),
    /// An address as written.
    Ip(IpAddr),
}

impl Address {
    /// Reads `host:port`; an IPv6 address stands in brackets. The failure says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be `host:port`, an IPv6 address in brackets";
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let port = port.parse().map_err(|_| FORM)?;
        if port == 0 {
            return Err("the port to dial cannot be 0".to_owned());
        }
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => Host::Ip(IpAddr::V6(
                inner.parse::<Ipv6Addr>().map_err(|_| "no IPv6 address in the brackets")?,
            )),
            None => match host.parse::<IpAddr>() {
                Ok(IpAddr::V4(address)) => Host::Ip(IpAddr::V4(address)),
                Ok(IpAddr::V6(_)) => return Err(FORM.to_owned()),
                Err(_) => Host::Name(
                    dns_name(host).ok_or_else(|| format!("`{}` is no host name", printable(host)))?,
                ),
            },
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(out, "{name}:{}", self.port),
            Host::Ip(address) => SocketAddr::new(*address, self.port).fmt(out),
        }
    }
}

/// A host name of RFC 1123 in lower case; internationalised names stand in their ASCII form.
fn dns_name(text: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name whose last label is all digits is a misspelt IPv4 address.
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (text.len() <= 253 && !numeric && text.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

/// What a rule applies to: one IRI, all that start alike (`https://hong-kong.example/id/open-*`), or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    start: String,
    open: bool,
}

impl Pattern {
    /// The pattern that everything matches.
    pub const fn any() -> Self {
        Self { start: String::new(), open: true }
    }

    /// Reads a pattern; `*` may stand only at the end.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (start, open) = text.strip_suffix('*').map_or((text, false), |start| (start, true));
        if start.contains('*') {
            return Err("`*` may stand only at the end".to_owned());
        }
        if (start.is_empty() && !open)
            || start.bytes().any(|byte| !byte.is_ascii_graphic())
            || start.len() > 255
        {
            return Err("must be an IRI, the start of one followed by `*`, or `*`".to_owned());
        }
        Ok(Self { start: start.to_owned(), open })
    }

    /// Whether `iri` is meant.
    pub fn matches(&self, iri: &str) -> bool {
        if self.open { iri.starts_with(&self.start) } else { iri == self.start }
    }

    /// Whether everything that `other` matches is matched by this pattern, too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        if self.open {
            other.start.starts_with(&self.start)
        } else {
            !other.open && other.start == self.start
        }
    }

    /// Whether something that starts with `base` can match.
    pub(super) fn meets(&self, base: &str) -> bool {
        self.start.starts_with(base) || (self.open && base.starts_with(&self.start))
    }

    /// The one IRI that is meant, unless the pattern is open.
    pub(super) fn exact(&self) -> Option<&str> {
        (!self.open).then_some(self.start.as_str())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.start, if self.open { "*" } else { "" })
    }
}

/// Any text.
pub(super) fn text(value: &Value) -> Parsed<&str> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(bad(format!("must be a text in quotes, is {}", other.kind()))),
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value) -> Parsed<bool> {
    match value {
        Value::Boolean(flag) => Ok(*flag),
        other => Err(bad(format!("must be true or false, is {}", other.kind()))),
    }
}

/// A whole number within `range`.
pub(super) fn number(range: RangeInclusive<u32>) -> impl Fn(&Value) -> Parsed<u32> {
    move |value| match value {
        Value::Integer(number) => {
            u32::try_from(*number).ok().filter(|number| range.contains(number)).ok_or_else(|| {
                bad(format!("must lie between {} and {}, is {number}", range.start(), range.end()))
            })
        }
        other => Err(bad(format!("must be a whole number, is {}", other.kind()))),
    }
}

/// A number of seconds within `range`.
pub(super) fn seconds(range: RangeInclusive<u32>) -> impl Fn(&Value) -> Parsed<Duration> {
    let number = number(range);
    move |value| number(value).map(|seconds| Duration::from_secs(u64::from(seconds)))
}

/// A number of days within `range`.
pub(super) fn days(range: RangeInclusive<u32>) -> impl Fn(&Value) -> Parsed<Duration> {
    const SECONDS_A_DAY: u64 = 86_400;
    let number = number(range);
    move |value| number(value).map(|days| Duration::from_secs(u64::from(days).saturating_mul(SECONDS_A_DAY)))
}

/// One of a closed list of words.
pub(super) fn choice<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        let given = text(value)?;
        words.iter().find(|(word, _)| *word == given).map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            bad(format!("`{}` is none of {}", printable(given), words.join(", ")))
        })
    }
}

/// An address to listen at; port 0 lets the system choose.
pub(super) fn listening(value: &Value) -> Parsed<SocketAddr> {
    let given = text(value)?;
    given
        .parse()
        .map_err(|_| bad(format!("`{}` must be an IP address and port, as in `[::]:7443`", printable(given))))
}

/// An address that only this machine reaches.
pub(super) fn loopback(value: &Value) -> Parsed<SocketAddr> {
    let address = listening(value)?;
    if !address.ip().is_loopback() {
        return Err(bad(format!("`{address}` can be reached from outside; use [::1] or 127.0.0.1")));
    }
    Ok(address)
}

/// A loopback address, or `off`.
pub(super) fn loopback_or_off(value: &Value) -> Parsed<Option<SocketAddr>> {
    match text(value)? {
        "off" => Ok(None),
        _ => loopback(value).map(Some),
    }
}

/// An address to dial.
pub(super) fn address(value: &Value) -> Parsed<Address> {
    Address::parse(text(value)?).map_err(bad)
}

/// A pattern of IRIs.
pub(super) fn pattern(value: &Value) -> Parsed<Pattern> {
    Pattern::parse(text(value)?).map_err(bad)
}

/// A participant's URI.
pub(super) fn participant(value: &Value) -> Parsed<ParticipantId> {
    // The refusal's own code belongs to messages; here its sentence explains the value.
    ParticipantId::parse(text(value)?)
        .map_err(|refusal| bad(format!("{}: {}", refusal.code.en, refusal.detail)))
}

/// The start of all our datasets' IRIs.
/// An IRI or a prefixed name, as policies write them; short enough for a fact.
pub(super) fn iri(value: &Value) -> Parsed<String> {
    let iri = text(value)?;
    let clean = !iri.chars().any(|letter| letter.is_whitespace() || letter.is_control());
    if iri.contains(':') && clean && iri.len() <= 256 {
        return Ok(iri.to_owned());
    }
    Err(bad(format!("`{}` is no IRI", printable(iri))))
}

pub(super) fn subject_base(value: &Value) -> Parsed<String> {
    let given = text(value)?;
    let absolute = ParticipantId::parse(given).is_ok() && given.starts_with("https://");
    let lower = given.to_ascii_lowercase();
    let plain = !given.contains('?')
        && !lower.contains("%2f")
        && !lower.contains("%2e")
        && !given.split('/').any(|part| part == "..");
    if !absolute || !plain || !given.ends_with('/') {
        return Err(bad(format!(
            "`{}` must be an https URI that ends in `/`, without `..`, `%2F`, query or fragment",
            printable(given)
        )));
    }
    Ok(given.to_owned())
}

/// The root URL of a service: https, or http on this machine only; without a final slash.
pub(super) fn root_url(value: &Value) -> Parsed<String> {
    let given = text(value)?;
    let refused = || {
        bad(format!(
            "`{}` must be an https URL (http only for this machine) without final slash, query, user or fragment",
            printable(given)
        ))
    };
    let uri: http::Uri = given.parse().map_err(|_| refused())?;
    let host = uri.host().ok_or_else(refused)?;
    let local = crate::http::is_local_name(host);
    let fits = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => local,
        Some(_) | None => false,
    };
    let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if !fits || user || given.ends_with('/') || given.contains(['?', '#']) {
        return Err(refused());
    }
    Ok(given.to_owned())
}

/// A path; relative ones start at `base`.
pub(super) fn path(base: &Path) -> impl Fn(&Value) -> Parsed<PathBuf> {
    move |value| {
        let given = text(value)?;
        if given.is_empty() || given.contains('\0') {
            return Err(bad("must be a path"));
        }
        Ok(base.join(given))
    }
}

/// A group of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name, or its number as text.
    pub name: String,
    /// Its number.
    pub gid: u32,
}

/// A group by its name or number, as this host knows it.
pub(super) fn group(value: &Value) -> Parsed<Group> {
    let name = text(value)?.to_owned();
    let unknown = || bad(format!("`{}` is no group of this host", printable(&name)));
    let gid = match name.parse() {
        Ok(gid) => gid,
        Err(_) => {
            let found = nix::unistd::Group::from_name(&name).map_err(|error| bad(error.to_string()))?;
            found.ok_or_else(unknown)?.gid.as_raw()
        }
    };
    Ok(Group { name, gid })
}

/// A folder that may be made later: what exists of its path must be folders.
pub(super) fn folder_to_be(base: &Path) -> impl Fn(&Value) -> Parsed<PathBuf> {
    let path = path(base);
    move |value| {
        let folder = path(value)?;
        match folder.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok()) {
            Some(existing) if !existing.is_dir() => {
                Err(Refusal::new(&MISSING_FILE, format!("`{}` is no folder", existing.display())))
            }
            _ => Ok(folder),
        }
    }
}

/// A folder that exists.
pub(super) fn folder(base: &Path) -> impl Fn(&Value) -> Parsed<PathBuf> {
    let path = path(base);
    move |value| {
        let folder = path(value)?;
        if !folder.is_dir() {
            return Err(Refusal::new(&MISSING_FILE, format!("`{}` is no folder", folder.display())));
        }
        Ok(folder)
    }
}

/// A file that exists.
pub(super) fn file(base: &Path) -> impl Fn(&Value) -> Parsed<PathBuf> {
    let path = path(base);
    move |value| {
        let file = path(value)?;
        if !file.is_file() {
            return Err(Refusal::new(&MISSING_FILE, format!("`{}` is no file", file.display())));
        }
        Ok(file)
    }
}

/// A file with at least one certificate in PEM form.
pub(super) fn certificates(base: &Path) -> impl Fn(&Value) -> Parsed<PathBuf> {
    /// Some hundred certificates; a list of roots has a few.
    const MAX_BYTES: u64 = 1024 * 1024;
    let path = path(base);
    move |value| {
        let file = path(value)?;
        let unfit = |cause: String| Refusal::new(&MISSING_FILE, format!("`{}`: {cause}", file.display()));
        let size = file.metadata().map_err(|error| unfit(error.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(unfit(format!("larger than {MAX_BYTES} bytes")));
        }
        let text = std::fs::read(&file).map_err(|error| unfit(error.to_string()))?;
        let mut found = 0_usize;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            certificate.map_err(|error| unfit(format!("no valid PEM: {error}")))?;
            found = found.saturating_add(1);
        }
        if found == 0 {
            return Err(unfit("holds no certificate in PEM form".to_owned()));
        }
        Ok(file)
    }
}

/// `path` without links and `..`, as far as it exists.
pub(super) fn resolved(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}
