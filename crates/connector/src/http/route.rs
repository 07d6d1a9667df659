//! From a method and a path to what is asked for.

use dsp::{negotiation, transfer};
use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The version document.
    Version,
    /// A page of the catalogue.
    Catalog {
        /// Where to go on; empty for the first page.
        token: String,
    },
    /// One dataset.
    Dataset(String),
    /// The state of a negotiation.
    Negotiation(String),
    /// A message of a negotiation; without a pid it opens one.
    NegotiationMessage(negotiation::Kind, Option<String>),
    /// The state of a transfer.
    Transfer(String),
    /// A message of a transfer.
    TransferMessage(transfer::Kind, Option<String>),
    /// Bytes of a transfer.
    Data(String, Option<u32>),
}

impl Route {
    /// What `method` and `uri` ask for, below `root` (the path of our root, usually empty). Final slashes do not count.
    pub fn of(method: &Method, uri: &Uri, root: &str) -> Option<Self> {
        let path = uri.path().strip_prefix(root)?.trim_end_matches('/');
        let (get, post) = (method == Method::GET, method == Method::POST);
        if path == dsp::VERSION_PATH {
            return get.then_some(Self::Version);
        }
        if let Some(rest) = path.strip_prefix("/data/") {
            let parts: Vec<&str> = rest.split('/').collect();
            return match (get, parts.as_slice()) {
                (true, [pid]) => Some(Self::Data(decoded(pid)?, None)),
                (true, [pid, index]) => Some(Self::Data(decoded(pid)?, Some(index.parse().ok()?))),
                _ => None,
            };
        }
        let parts: Vec<&str> = path.strip_prefix(dsp::BASE_PATH)?.strip_prefix('/')?.split('/').collect();
        match (post, get, parts.as_slice()) {
            (true, _, ["catalog", "request"]) => Some(Self::Catalog { token: token(uri)? }),
            (_, true, ["catalog", "datasets", id]) => Some(Self::Dataset(decoded(id)?)),
            (_, true, ["negotiations", pid]) => Some(Self::Negotiation(decoded(pid)?)),
            (_, true, ["transfers", pid]) => Some(Self::Transfer(decoded(pid)?)),
            (true, _, ["negotiations", "request"]) => {
                Some(Self::NegotiationMessage(negotiation::Kind::Request, None))
            }
            (true, _, ["negotiations", "offers"]) => {
                Some(Self::NegotiationMessage(negotiation::Kind::Offer, None))
            }
            (true, _, ["transfers", "request"]) => Some(Self::TransferMessage(transfer::Kind::Request, None)),
            (true, _, ["negotiations", pid, what @ ..]) => {
                let what = what.join("/");
                let kind = negotiation::Kind::ALL.into_iter().find(|kind| kind.path() == what)?;
                Some(Self::NegotiationMessage(kind, Some(decoded(pid)?)))
            }
            (true, _, ["transfers", pid, what]) => {
                let kind = transfer::Kind::ALL.into_iter().find(|kind| kind.path() == *what)?;
                // Only the first request has this path, and it has no pid.
                (kind != transfer::Kind::Request).then_some(())?;
                Some(Self::TransferMessage(kind, Some(decoded(pid)?)))
            }
            _ => None,
        }
    }

    /// The area whose error object a refusal is told with.
    pub const fn area(&self) -> dsp::error::Area {
        match self {
            Self::Version | Self::Catalog { .. } | Self::Dataset(_) => dsp::error::Area::Catalog,
            Self::Negotiation(_) | Self::NegotiationMessage(..) => dsp::error::Area::Negotiation,
            Self::Transfer(_) | Self::TransferMessage(..) | Self::Data(..) => dsp::error::Area::Transfer,
        }
    }
}

fn decoded(part: &str) -> Option<String> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    (!text.is_empty()).then(|| text.into_owned())
}

/// The name under which pages go on, as peers spell it.
pub const TOKEN: &str = "continuationToken";

fn token(uri: &Uri) -> Option<String> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let found = pairs.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == TOKEN);
    match found {
        Some((_, value)) => Some(percent_decode_str(value).decode_utf8().ok()?.into_owned()),
        None => Some(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, path: &str, expected: Option<Route>) {
        assert_eq!(Route::of(method, &path.parse().unwrap(), "/root"), expected, "{method} {path}");
    }

    #[test]
    fn routes() {
        use negotiation::Kind;
        let base = "/root/dsp/2025-1";
        let (get, post) = (&Method::GET, &Method::POST);
        let of = |kind, pid: Option<&str>| Some(Route::NegotiationMessage(kind, pid.map(str::to_owned)));
        check(get, "/root/.well-known/dspace-version", Some(Route::Version));
        check(post, &format!("{base}/catalog/request"), Some(Route::Catalog { token: String::new() }));
        let page = format!("{base}/catalog/request/?x=1&continuationToken=a%2Fb");
        check(post, &page, Some(Route::Catalog { token: "a/b".into() }));
        check(
            get,
            &format!("{base}/catalog/datasets/https:%2F%2Fa%2Fb"),
            Some(Route::Dataset("https://a/b".into())),
        );
        check(
            get,
            &format!("{base}/negotiations/urn:uuid:1/"),
            Some(Route::Negotiation("urn:uuid:1".into())),
        );
        check(post, &format!("{base}/negotiations/request"), of(Kind::Request, None));
        check(post, &format!("{base}/negotiations/offers"), of(Kind::Offer, None));
        check(post, &format!("{base}/negotiations/1/request"), of(Kind::Request, Some("1")));
        check(
            post,
            &format!("{base}/negotiations/1/agreement/verification"),
            of(Kind::Verification, Some("1")),
        );
        check(post, &format!("{base}/negotiations/1/agreement"), of(Kind::Agreement, Some("1")));
        check(
            post,
            &format!("{base}/transfers/request"),
            Some(Route::TransferMessage(transfer::Kind::Request, None)),
        );
        check(
            post,
            &format!("{base}/transfers/1/suspension"),
            Some(Route::TransferMessage(transfer::Kind::Suspension, Some("1".into()))),
        );
        check(get, "/root/data/urn:uuid:1", Some(Route::Data("urn:uuid:1".into(), None)));
        check(get, "/root/data/urn:uuid:1/7", Some(Route::Data("urn:uuid:1".into(), Some(7))));
        for (method, path) in [
            (get, "/dsp/2025-1/negotiations/1"),
            (get, "/root/data/1/x"),
            (get, "/root/data/"),
            (post, "/root/data/1"),
            (post, "/root/.well-known/dspace-version"),
            (get, "/root/dsp/2025-1/negotiations"),
            (post, "/root/dsp/2025-1/negotiations/1"),
            (post, "/root/dsp/2025-1/negotiations/1/other"),
            (post, "/root/dsp/2025-1/transfers/1/request"),
            (get, "/root/dsp/2025-1/negotiations/%FF"),
        ] {
            check(method, path, None);
        }
    }
}
