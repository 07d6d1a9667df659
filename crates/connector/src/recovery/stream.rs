//! The encrypted file: a readable header, then frames of one HPKE context, so that none can be changed, moved or left
//! out, and the last one says that it is the last.
//!
//! `FLBACKUP1\n`, length of the header (u32, big-endian), header (RFC 8785 JSON), encapsulated key (32 bytes), frames.
//! Frame: last flag (u8), length of the ciphertext (u32, big-endian), ciphertext. The context's `info` is everything
//! before the encapsulated key; a frame's associated data is its last flag; the order is the context's sequence.

use std::io::{self, Read, Write};

use control_plane::Refusal;
use rustls::crypto::hpke::{EncapsulatedSecret, HpkeOpener, HpkeSealer};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::key::{PublicKey, SecretKey, suite};
use super::{ALTERED, TRUNCATED, UNKNOWN_FORMAT, WRONG_KEY};

pub(super) const MAGIC: &[u8] = b"FLBACKUP1\n";
const FORMAT: &str = "fairlead-backup/1";
/// Plaintext of a frame: tags cost nothing, and memory holds one.
const FRAME_BYTES: usize = 1 << 20;
const TAG_BYTES: usize = 16;
/// An encapsulated key of DHKEM(X25519, HKDF-SHA256).
const ENCAPSULATED_BYTES: usize = 32;
/// The header names a participant, a key and two instants.
const MAX_HEADER_BYTES: u32 = 4096;

/// What everybody who has the file can read; authenticated with the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    format: String,
    /// Whose state it is.
    pub participant: String,
    /// When it was written, RFC 3339.
    pub created: String,
    /// Until when it may be restored, RFC 3339.
    pub keep_until: String,
    /// The id of the recovery key that opens it.
    pub recovery_key: String,
}

impl Header {
    /// The header of a backup to `key`.
    pub fn new(participant: String, created: String, keep_until: String, key: &PublicKey) -> Self {
        Self { format: FORMAT.to_owned(), participant, created, keep_until, recovery_key: key.id() }
    }
}

/// Encrypts what is written to it.
pub struct Sealing<W> {
    out: W,
    context: Box<dyn HpkeSealer>,
    frame: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealing<W> {
    /// Writes the header and begins.
    pub fn begin(mut out: W, header: &Header, key: &PublicKey) -> io::Result<Self> {
        let head = head(header)?;
        let (encapsulated, context) = suite().setup_sealer(&head, &key.hpke()).map_err(io::Error::other)?;
        out.write_all(&head)?;
        out.write_all(&encapsulated.0)?;
        Ok(Self { out, context, frame: Zeroizing::new(Vec::with_capacity(FRAME_BYTES)) })
    }

    /// Writes the last frame and gives back what is below.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let flag = [u8::from(last)];
        let sealed = self.context.seal(&flag, &self.frame).map_err(io::Error::other)?;
        self.frame.as_mut_slice().zeroize();
        self.frame.clear();
        self.out.write_all(&flag)?;
        self.out.write_all(&u32::try_from(sealed.len()).map_err(io::Error::other)?.to_be_bytes())?;
        self.out.write_all(&sealed)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.frame.len() >= FRAME_BYTES {
            self.seal(false)?;
        }
        let taken = bytes.len().min(FRAME_BYTES.saturating_sub(self.frame.len()));
        self.frame.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts; ends only behind the last frame, where nothing may follow.
pub struct Opening<R> {
    from: R,
    context: Box<dyn HpkeOpener>,
    frame: Zeroizing<Vec<u8>>,
    read: usize,
    last: bool,
}

/// Reads the header of a backup; what is `None` does not begin like one.
pub fn read_header(from: &mut impl Read) -> Result<Option<Header>, Refusal> {
    let mut magic = [0; MAGIC.len()];
    match from.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => {}
        Ok(()) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(Refusal::new(&UNKNOWN_FORMAT, error.to_string())),
    }
    let cut = |_| Refusal::new(&TRUNCATED, "within the header");
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(cut)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(Refusal::new(&ALTERED, "the header's length"));
    }
    let mut text = vec![0; length as usize];
    from.read_exact(&mut text).map_err(cut)?;
    let header: Header =
        serde_json::from_slice(&text).map_err(|error| Refusal::new(&UNKNOWN_FORMAT, error.to_string()))?;
    if header.format != FORMAT {
        return Err(Refusal::new(&UNKNOWN_FORMAT, format!("`{}`", header.format)));
    }
    Ok(Some(header))
}

impl<R: Read> Opening<R> {
    /// Begins behind the header; `backup/wrong-recovery-key` if it was written to another key.
    pub fn begin(mut from: R, header: &Header, key: &SecretKey) -> Result<Self, Refusal> {
        if header.recovery_key != key.public().id() {
            let detail = format!("made for {}, this is {}", header.recovery_key, key.public().id());
            return Err(Refusal::new(&WRONG_KEY, detail));
        }
        let mut encapsulated = vec![0; ENCAPSULATED_BYTES];
        from.read_exact(&mut encapsulated).map_err(|_| Refusal::new(&TRUNCATED, "within the header"))?;
        let altered = |why: &dyn std::fmt::Display| Refusal::new(&ALTERED, why.to_string());
        let head = head(header).map_err(|error| altered(&error))?;
        let context = suite()
            .setup_opener(&EncapsulatedSecret(encapsulated), &head, &key.hpke())
            .map_err(|error| altered(&error))?;
        Ok(Self { from, context, frame: Zeroizing::new(Vec::new()), read: 0, last: false })
    }

    fn next_frame(&mut self) -> io::Result<()> {
        let mut head = [0; 5];
        self.exact(&mut head)?;
        let [flag, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if flag > 1 || !(TAG_BYTES..=FRAME_BYTES.saturating_add(TAG_BYTES)).contains(&length) {
            return Err(refused(&ALTERED, "a frame's head"));
        }
        let mut sealed = vec![0; length];
        self.exact(&mut sealed)?;
        let opened = self.context.open(&[flag], &sealed).map_err(|_| refused(&ALTERED, "a frame"))?;
        self.frame = Zeroizing::new(opened);
        self.read = 0;
        self.last = flag == 1;
        if self.last && self.from.read(&mut [0])? != 0 {
            return Err(refused(&ALTERED, "bytes behind the last frame"));
        }
        Ok(())
    }

    fn exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => refused(&TRUNCATED, "no last frame"),
            _ => error,
        })
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read >= self.frame.len() {
            if self.last {
                return Ok(0);
            }
            self.next_frame()?;
        }
        let rest = self.frame.get(self.read..).unwrap_or_default();
        let given = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..given), rest.get(..given)) {
            to.copy_from_slice(from);
        }
        self.read = self.read.saturating_add(given);
        Ok(given)
    }
}

/// A refusal on its way through `io`.
pub(super) fn refused(code: &'static control_plane::Code, detail: &str) -> io::Error {
    io::Error::other(Refusal::new(code, detail))
}

fn head(header: &Header) -> io::Result<Vec<u8>> {
    let text = serde_jcs::to_vec(header).map_err(io::Error::other)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    if length > MAX_HEADER_BYTES {
        return Err(io::Error::other("the backup's header is too long"));
    }
    Ok([MAGIC, &length.to_be_bytes(), &text].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_plane::{Code, UnixMillis};

    fn sealed(bytes: &[u8], key: &SecretKey) -> Vec<u8> {
        let header = Header::new(
            "https://p.example/id".into(),
            "2026-01-01T00:00:00Z".into(),
            "2026-02-01T00:00:00Z".into(),
            key.public(),
        );
        let mut sealing = Sealing::begin(Vec::new(), &header, key.public()).unwrap();
        sealing.write_all(bytes).unwrap();
        sealing.finish().unwrap()
    }

    fn open(file: &[u8], key: &SecretKey) -> Result<Vec<u8>, &'static Code> {
        let mut from = file;
        let header = read_header(&mut from).map_err(|refusal| refusal.code)?.ok_or(&UNKNOWN_FORMAT)?;
        let mut opening = Opening::begin(from, &header, key).map_err(|refusal| refusal.code)?;
        let mut out = Vec::new();
        opening
            .read_to_end(&mut out)
            .map_err(|error| error.downcast::<Refusal>().map_or(&UNKNOWN_FORMAT, |refusal| refusal.code))?;
        Ok(out)
    }

    #[test]
    fn every_size_reads_back() {
        let key = SecretKey::generate(UnixMillis(0)).unwrap();
        for size in [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES] {
            let bytes: Vec<u8> = (0..size).map(|at| at as u8).collect();
            assert!(open(&sealed(&bytes, &key), &key).unwrap() == bytes, "{size}");
        }
    }

    #[test]
    fn what_is_not_what_was_written_is_refused() {
        let (key, other) =
            (SecretKey::generate(UnixMillis(0)).unwrap(), SecretKey::generate(UnixMillis(0)).unwrap());
        let file = sealed(&vec![7; FRAME_BYTES + 10], &key);
        assert_eq!(open(&file, &other).unwrap_err(), &WRONG_KEY);
        let check = |file: &[u8], codes: &[&Code], what: &str| {
            let refused = open(file, &key).unwrap_err();
            assert!(codes.contains(&refused), "{what}: {}", refused.code);
        };
        for cut in [MAGIC.len() + 2, 40, file.len() - 1, file.len() - 30, file.len() - FRAME_BYTES / 2] {
            check(&file[..cut], &[&TRUNCATED], &format!("cut at {cut}"));
        }
        check(&[&file[..], b"x"].concat(), &[&ALTERED], "longer");
        let any = [&ALTERED, &UNKNOWN_FORMAT, &WRONG_KEY, &TRUNCATED];
        for at in (0..400).chain([file.len() - 1, file.len() / 2]) {
            let mut altered = file.clone();
            altered[at] ^= 1;
            check(&altered, &any, &format!("altered at {at}"));
        }
    }
}
