//! Compression (RFC 9110, 8.4). Only catalogues are compressed: they are large, and hold nothing that the length of a
//! compressed answer could betray.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use control_plane::Refusal;
use control_plane::ids::printable;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use hyper::HeaderMap;
use hyper::header::{ACCEPT_ENCODING, AsHeaderName, CONTENT_ENCODING};

use super::client::BAD_ANSWER;

/// The only coding that is spoken.
pub const GZIP: &str = "gzip";

/// Whether the sender of these headers takes gzip.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any) = (None, None);
    for listed in listed(headers, ACCEPT_ENCODING) {
        let (coding, weight) = listed.split_once(';').unwrap_or((&listed, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        let wanted = weight.is_some_and(|weight| weight > 0.0);
        match coding.trim() {
            "*" => any = Some(wanted),
            coding if is_gzip(coding) => gzip = Some(wanted),
            _ => {}
        }
    }
    gzip.or(any).unwrap_or(false)
}

/// Compresses a whole answer.
///
/// # Errors
/// None that memory gives.
pub fn compressed(answer: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(answer)?;
    encoder.finish()
}

/// The body as it was before it was compressed, if that is no longer than `max`: never more than that is unpacked.
///
/// # Errors
/// [`BAD_ANSWER`].
pub fn decoded(headers: &HeaderMap, body: Bytes, max: usize) -> Result<Bytes, Refusal> {
    let codings: Vec<String> =
        listed(headers, CONTENT_ENCODING).filter(|coding| coding != "identity").collect();
    match codings.as_slice() {
        [] => return Ok(body),
        [one] if is_gzip(one) => {}
        several => {
            let codings = several.join(", ");
            return Err(Refusal::new(&BAD_ANSWER, format!("the coding is `{}`", printable(&codings))));
        }
    }
    if body.is_empty() {
        return Ok(body);
    }
    let mut plain = Vec::new();
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(body.as_ref())
        .take(bound)
        .read_to_end(&mut plain)
        .map_err(|error| Refusal::new(&BAD_ANSWER, error.to_string()))?;
    if plain.len() > max {
        return Err(Refusal::new(&BAD_ANSWER, format!("it decodes to more than {max} bytes")));
    }
    Ok(plain.into())
}

fn is_gzip(coding: &str) -> bool {
    matches!(coding, GZIP | "x-gzip")
}

/// The members of a list that may be spread over several headers, in lower case.
fn listed(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let members = values.flat_map(|value| value.split(',')).map(|member| member.trim().to_ascii_lowercase());
    members.filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: hyper::header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn who_takes_gzip() {
        for (values, expected) in [
            (&[][..], false),
            (&["identity"], false),
            (&["gzip"], true),
            (&["br, GZIP;q=0.5"], true),
            (&["br", "x-gzip"], true),
            (&["*"], true),
            (&["*;q=0, gzip"], true),
            (&["gzip;q=0, *"], false),
            (&["gzip; q=0.000"], false),
            (&["gzip;q=much"], false),
            (&["gzipped"], false),
        ] {
            assert_eq!(accepts_gzip(&headers(ACCEPT_ENCODING, values)), expected, "{values:?}");
        }
    }

    #[track_caller]
    fn check(coding: &[&str], body: &[u8], max: usize, expected: Option<&[u8]>) {
        let read = decoded(&headers(CONTENT_ENCODING, coding), Bytes::copy_from_slice(body), max);
        match (read, expected) {
            (Ok(read), expected) => assert_eq!(Some(read.as_ref()), expected, "{coding:?}"),
            (Err(refusal), expected) => {
                assert_eq!((refusal.code, expected), (&BAD_ANSWER, None), "{coding:?}");
            }
        }
    }

    #[test]
    fn answers_are_unpacked_up_to_their_bound() {
        let packed = compressed(b"{}").unwrap();
        check(&[], b"{}", 2, Some(b"{}"));
        check(&["identity"], b"{}", 2, Some(b"{}"));
        check(&["gzip"], &packed, 2, Some(b"{}"));
        check(&["X-Gzip"], &packed, 2, Some(b"{}"));
        check(&["gzip"], &[packed.clone(), packed.clone()].concat(), 4, Some(b"{}{}"));
        check(&["gzip"], &packed, 1, None);
        check(&["gzip"], b"", 2, Some(b""));
        check(&["gzip"], b"{}", 2, None);
        check(&["gzip"], &packed[..packed.len() - 1], 2, None);
        check(&["gzip, gzip"], &packed, 2, None);
        check(&["gzip", "br"], &packed, 2, None);
        check(&["br"], &packed, 2, None);
        // A thousandth of what it pretends to be.
        let bomb = compressed(&vec![b' '; 64 * 1024 * 1024]).unwrap();
        check(&["gzip"], &bomb, 1024 * 1024, None);
    }
}
