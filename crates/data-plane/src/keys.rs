//! The chain of keys: data key of an object, under the key of its agreement, under the connector's
//! key-encryption key. Each is wrapped with AES-256-GCM bound to what it is for, so that rows cannot be exchanged.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_plane::ids::AgreementId;
use policy::refusal::Refusal;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::DataError;
use crate::ids::ObjectId;

policy::refusal_codes! {
    KEY_REFUSED = "use/key-refused", Ours,
        "a wrapped key does not open: it was altered, exchanged or wrapped under a destroyed key",
        "封裝的金鑰無法開啟：它已被改動、調換，或其外層金鑰已銷毀",
        "封装的密钥无法打开：它已被改动、调换，或其外层密钥已销毁",
        clause "security model: the promise, sealed", next "the copy cannot be read any more; pull it again if the agreement allows";
    MALFORMED_KEY_FILE = "use/malformed-key-file", Ours,
        "the key-encryption key file is damaged or of another version",
        "金鑰加密金鑰檔案已損壞或版本不符", "密钥加密密钥文件已损坏或版本不符",
        clause "security model: the promise, sealed", next "restore the file from its backup";
}

const KEY_BYTES: usize = 32;
const WRAPPED_PREFIX: &str = "fairlead-key/1:";
/// Extension of the next key while rows are re-wrapped.
const STAGED: &str = "next";
/// Extension of the replaced key until it is destroyed.
const REPLACED: &str = "old";
const KEK_FORMAT: &str = "fairlead-kek/1";
/// A key file is a few dozen bytes; anything above is not one.
const MAX_KEY_FILE_BYTES: u64 = 4096;

pub(crate) type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// A key under another key; its text `fairlead-key/1:<base64url>` is kept in rows.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey(Vec<u8>);

impl WrappedKey {
    /// The text to keep.
    pub fn to_text(&self) -> String {
        format!("{WRAPPED_PREFIX}{}", URL_SAFE_NO_PAD.encode(&self.0))
    }

    /// Reads the text back; `use/key-refused` if it is none.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        text.strip_prefix(WRAPPED_PREFIX)
            .and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok())
            .map(Self)
            .ok_or_else(|| Refusal::new(&KEY_REFUSED, "not a wrapped key"))
    }
}

/// The small port behind which the key-encryption key may move to a KMS or PKCS#11 token.
pub trait KeyEncryption: Send + Sync {
    /// Grows with each rotation.
    fn epoch(&self) -> u64;
    /// Wraps 32 key bytes, bound to `context`.
    fn wrap(&self, context: &[u8], key: &[u8; 32]) -> Result<WrappedKey, DataError>;
    /// Opens what [`KeyEncryption::wrap`] made with the same context; else `use/key-refused`.
    fn unwrap(&self, context: &[u8], wrapped: &WrappedKey) -> Result<Zeroizing<[u8; 32]>, DataError>;
}

/// A key-encryption key in a file of mode 0600.
pub struct FileKek {
    epoch: u64,
    key: KeyBytes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KekForm {
    epoch: u64,
    format: String,
    key: String,
}

impl FileKek {
    /// Loads the key of `path`, or makes one of epoch 1 durably if there is no file.
    pub fn load_or_create(path: &Path) -> Result<Self, DataError> {
        destroy_replaced(path)?;
        match Self::load(path) {
            Err(DataError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let kek = Self::generate()?;
                kek.save(path)?;
                Ok(kek)
            }
            other => other,
        }
    }

    /// Loads the key of `path`.
    pub fn load(path: &Path) -> Result<Self, DataError> {
        let file = std::fs::File::open(path).map_err(|error| DataError::io("open", path, error))?;
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_KEY_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| DataError::io("read", path, error))?;
        Ok(Self::from_text(&text, &format!("`{}`", path.display()))?)
    }

    /// A fresh key of epoch 1 that is in no file.
    pub fn generate() -> Result<Self, DataError> {
        Ok(Self { epoch: 1, key: random_key()? })
    }

    /// Reads the content of a key file; `use/malformed-key-file`, naming it as `name`, if it is none.
    pub fn from_text(text: &str, name: &str) -> Result<Self, Refusal> {
        let damaged = || Refusal::new(&MALFORMED_KEY_FILE, name);
        let mut form: KekForm = serde_json::from_str(text).map_err(|_| damaged())?;
        let raw = Zeroizing::new(URL_SAFE_NO_PAD.decode(&form.key).map_err(|_| damaged())?);
        form.key.zeroize();
        if form.format != KEK_FORMAT || form.epoch == 0 {
            return Err(damaged());
        }
        let key = raw.as_slice().try_into().map_err(|_| damaged())?;
        Ok(Self { epoch: form.epoch, key: Zeroizing::new(key) })
    }

    /// The content of its key file: the secret itself.
    pub fn to_text(&self) -> Result<Zeroizing<String>, DataError> {
        let mut form = KekForm {
            epoch: self.epoch,
            format: KEK_FORMAT.to_owned(),
            key: URL_SAFE_NO_PAD.encode(*self.key),
        };
        let text = serde_jcs::to_string(&form).map(Zeroizing::new);
        form.key.zeroize();
        text.map_err(|_| DataError::Crypto("encode the key-encryption key"))
    }

    /// A fresh key of the next epoch, not yet saved.
    ///
    /// Rotation, safe at any crash: [`FileKek::stage`] it, re-wrap the surviving agreement keys in one transaction that
    /// also notes the epoch, then [`FileKek::save`] it. At start, a [`FileKek::staged`] key whose epoch the rows have
    /// is saved; one whose epoch they have not is replaced by the next rotation.
    pub fn next_epoch(&self) -> Result<Self, DataError> {
        Ok(Self { epoch: self.epoch.saturating_add(1), key: random_key()? })
    }

    /// Writes the key durably beside `path`, 0600, in place of one staged before.
    pub fn stage(&self, path: &Path) -> Result<(), DataError> {
        let fresh = path.with_extension(STAGED);
        let text = self.to_text()?;
        remove_if_there(&fresh)?;
        write_private(&fresh, text.as_bytes())?;
        sync_directory(path)
    }

    /// The key staged beside `path`, if there is a readable one: a crash while staging leaves a damaged one, which no
    /// row can need.
    pub fn staged(path: &Path) -> Option<Self> {
        Self::load(&path.with_extension(STAGED)).ok()
    }

    /// Puts the key at `path` in one durable step; the key that stood there is overwritten, then unlinked.
    pub fn save(&self, path: &Path) -> Result<(), DataError> {
        // A staged key may be the only copy that the rows can be opened with: it is never written twice.
        let is_staged =
            Self::staged(path).is_some_and(|staged| staged.epoch == self.epoch && *staged.key == *self.key);
        if !is_staged {
            self.stage(path)?;
        }
        destroy_replaced(path)?;
        let old = path.with_extension(REPLACED);
        if path.exists() {
            std::fs::hard_link(path, &old).map_err(|error| DataError::io("keep", &old, error))?;
        }
        std::fs::rename(path.with_extension(STAGED), path)
            .map_err(|error| DataError::io("replace", path, error))?;
        sync_directory(path)?;
        destroy_replaced(path)
    }
}

impl KeyEncryption for FileKek {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn wrap(&self, context: &[u8], key: &[u8; 32]) -> Result<WrappedKey, DataError> {
        wrap(&self.key, &[b"kek", &self.epoch.to_be_bytes(), context], key)
    }

    fn unwrap(&self, context: &[u8], wrapped: &WrappedKey) -> Result<Zeroizing<[u8; 32]>, DataError> {
        unwrap(&self.key, &[b"kek", &self.epoch.to_be_bytes(), context], wrapped)
    }
}

/// The key of one agreement: destroying all its wrapped copies destroys every copy pulled under it.
#[derive(Clone)]
pub struct AgreementKey {
    agreement: AgreementId,
    epoch: Option<u64>,
    key: KeyBytes,
}

impl AgreementKey {
    /// A fresh key.
    pub fn generate(agreement: AgreementId) -> Result<Self, DataError> {
        Ok(Self { agreement, epoch: None, key: random_key()? })
    }

    /// The agreement it belongs to.
    pub const fn agreement(&self) -> &AgreementId {
        &self.agreement
    }

    /// Wraps it for the agreement's row.
    pub fn wrap(&self, kek: &dyn KeyEncryption) -> Result<WrappedKey, DataError> {
        kek.wrap(&agreement_context(&self.agreement), &self.key)
    }

    /// Opens the row's key; `use/key-refused` for a key of another agreement, another epoch or an altered one.
    pub fn unwrap(
        agreement: AgreementId,
        wrapped: &WrappedKey,
        kek: &dyn KeyEncryption,
    ) -> Result<Self, DataError> {
        let key = kek.unwrap(&agreement_context(&agreement), wrapped)?;
        Ok(Self { agreement, epoch: None, key })
    }

    /// The key that a leased object's data key is wrapped under: HKDF-SHA-256 of the local key and the provider's share.
    pub fn leased(&self, object: &ObjectId, share: &LeaseShare) -> Result<Self, DataError> {
        let failed = |_| DataError::Crypto("derive the leased key");
        let epoch = share.epoch.to_be_bytes();
        let info =
            associated(&[b"lease", self.agreement.as_str().as_bytes(), object.as_str().as_bytes(), &epoch]);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, share.key.as_slice())
            .extract(self.key.as_slice())
            .expand(&[&info], hkdf::HKDF_SHA256)
            .map_err(failed)?
            .fill(key.as_mut_slice())
            .map_err(failed)?;
        Ok(Self { agreement: self.agreement.clone(), epoch: Some(share.epoch), key })
    }

    /// The lease epoch of a derived key; `None` for the agreement's own.
    pub(crate) const fn epoch(&self) -> Option<u64> {
        self.epoch
    }
}

/// The provider's part of the key of one leased object, of one epoch. Zeroised when dropped.
#[derive(Clone)]
pub struct LeaseShare {
    epoch: u64,
    key: KeyBytes,
}

impl LeaseShare {
    /// A fresh share of this epoch.
    pub fn generate(epoch: u64) -> Result<Self, DataError> {
        Ok(Self { epoch, key: random_key()? })
    }

    /// A share as it was told; `use/key-refused` unless it has 32 bytes.
    pub fn from_bytes(epoch: u64, bytes: &[u8]) -> Result<Self, Refusal> {
        let key = bytes.try_into().map_err(|_| Refusal::new(&KEY_REFUSED, "a share is not 32 bytes"))?;
        Ok(Self { epoch, key: Zeroizing::new(key) })
    }

    /// Its epoch; grows with each rotation.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The 32 bytes to tell.
    pub fn bytes(&self) -> &[u8] {
        self.key.as_slice()
    }

    /// Wraps it for its row, bound to the row's name.
    pub fn wrap(&self, row: &str, kek: &dyn KeyEncryption) -> Result<WrappedKey, DataError> {
        kek.wrap(&share_context(row), &self.key)
    }

    /// Opens a row's share; `use/key-refused` for another row's, another epoch of the key, or an altered one.
    pub fn unwrap(
        row: &str,
        epoch: u64,
        wrapped: &WrappedKey,
        kek: &dyn KeyEncryption,
    ) -> Result<Self, DataError> {
        Ok(Self { epoch, key: kek.unwrap(&share_context(row), wrapped)? })
    }
}

/// The key of one object's segments.
pub(crate) struct DataKey(KeyBytes);

impl DataKey {
    pub(crate) fn generate() -> Result<Self, DataError> {
        random_key().map(Self)
    }

    pub(crate) fn wrap(&self, object: &ObjectId, under: &AgreementKey) -> Result<WrappedKey, DataError> {
        wrap(&under.key, &data_context(&under.agreement, object), &self.0)
    }

    pub(crate) fn unwrap(
        object: &ObjectId,
        wrapped: &WrappedKey,
        under: &AgreementKey,
    ) -> Result<Self, DataError> {
        unwrap(&under.key, &data_context(&under.agreement, object), wrapped).map(Self)
    }

    pub(crate) fn aead(&self) -> Result<LessSafeKey, DataError> {
        aead(&self.0)
    }

    #[cfg(test)]
    pub(crate) fn fixed(byte: u8) -> Self {
        Self(Zeroizing::new([byte; KEY_BYTES]))
    }
}

pub(crate) fn random_bytes(bytes: &mut [u8]) -> Result<(), DataError> {
    SystemRandom::new().fill(bytes).map_err(|_| DataError::Crypto("draw random bytes"))
}

/// Makes a rename or unlink in the directory of `path` durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), DataError> {
    let directory: PathBuf = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    std::fs::File::open(&directory)
        .and_then(|handle| handle.sync_all())
        .map_err(|error| DataError::io("sync", &directory, error))
}

fn random_key() -> Result<KeyBytes, DataError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    random_bytes(key.as_mut_slice())?;
    Ok(key)
}

fn agreement_context(agreement: &AgreementId) -> Vec<u8> {
    [b"agreement\n", agreement.as_str().as_bytes()].concat()
}

fn share_context(row: &str) -> Vec<u8> {
    [b"lease-share\n", row.as_bytes()].concat()
}

fn data_context<'a>(agreement: &'a AgreementId, object: &'a ObjectId) -> [&'a [u8]; 3] {
    [b"data", agreement.as_str().as_bytes(), object.as_str().as_bytes()]
}

fn aead(key: &KeyBytes) -> Result<LessSafeKey, DataError> {
    UnboundKey::new(&AES_256_GCM, key.as_slice())
        .map(LessSafeKey::new)
        .map_err(|_| DataError::Crypto("load an AES-256 key"))
}

/// Random nonces suffice: a wrapping key wraps a few thousand keys in its life, far below 2^32.
fn wrap(under: &KeyBytes, context: &[&[u8]], key: &[u8; 32]) -> Result<WrappedKey, DataError> {
    let mut nonce = [0; NONCE_LEN];
    random_bytes(&mut nonce)?;
    let mut sealed = Zeroizing::new(key.to_vec());
    aead(under)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated(context)),
            &mut *sealed,
        )
        .map_err(|_| DataError::Crypto("wrap a key"))?;
    Ok(WrappedKey([nonce.as_slice(), &sealed].concat()))
}

fn unwrap(under: &KeyBytes, context: &[&[u8]], wrapped: &WrappedKey) -> Result<KeyBytes, DataError> {
    let refused = || Refusal::new(&KEY_REFUSED, "");
    let (nonce, sealed) = wrapped.0.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let opened = aead(under)?
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(associated(context)),
            sealed.as_mut_slice(),
        )
        .map_err(|_| refused())?;
    let key: &[u8] = opened;
    Ok(Zeroizing::new(key.try_into().map_err(|_| refused())?))
}

/// Length-prefixed, so that no two contexts give the same bytes.
fn associated(context: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"fairlead-wrap/1\n".to_vec();
    for part in context {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| DataError::io("create", path, error))?;
    write_synced(file, path, bytes)
}

fn write_synced(mut file: std::fs::File, path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| DataError::io("write", path, error))
}

/// Overwrites and unlinks the key that a rotation replaced, also one that a crash left behind.
fn destroy_replaced(path: &Path) -> Result<(), DataError> {
    use std::os::unix::fs::MetadataExt as _;
    let old = path.with_extension(REPLACED);
    let Ok(metadata) = std::fs::symlink_metadata(&old) else { return Ok(()) };
    // Still the key in use if the crash came before it was replaced: then only the second name goes.
    let in_use = std::fs::metadata(path)
        .is_ok_and(|live| live.ino() == metadata.ino() && live.dev() == metadata.dev());
    if !in_use {
        let file = OpenOptions::new()
            .write(true)
            .open(&old)
            .map_err(|error| DataError::io("overwrite", &old, error))?;
        let zeroes = vec![0; usize::try_from(metadata.len().min(MAX_KEY_FILE_BYTES)).unwrap_or(0)];
        write_synced(file, &old, &zeroes)?;
    }
    remove_if_there(&old)?;
    sync_directory(path)
}

fn remove_if_there(path: &Path) -> Result<(), DataError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(DataError::io("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn agreement(name: &str) -> AgreementId {
        AgreementId::parse(name).unwrap()
    }

    fn refused<T>(result: Result<T, DataError>) {
        match result {
            Err(DataError::Refused(refusal)) => assert_eq!(refusal.code, &KEY_REFUSED),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("the key opened"),
        }
    }

    #[test]
    fn a_wrapped_key_opens_only_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let kek = FileKek::load_or_create(&dir.path().join("kek.json")).unwrap();
        let key = AgreementKey::generate(agreement("urn:a")).unwrap();
        let wrapped = WrappedKey::parse(&key.wrap(&kek).unwrap().to_text()).unwrap();
        assert_eq!(*AgreementKey::unwrap(agreement("urn:a"), &wrapped, &kek).unwrap().key, *key.key);
        refused(AgreementKey::unwrap(agreement("urn:b"), &wrapped, &kek));
        refused(AgreementKey::unwrap(agreement("urn:a"), &wrapped, &kek.next_epoch().unwrap()));
        for position in 0..wrapped.0.len() {
            let mut altered = wrapped.clone();
            altered.0[position] ^= 1;
            refused(AgreementKey::unwrap(agreement("urn:a"), &altered, &kek));
        }

        let (one, two) = (ObjectId::parse("one").unwrap(), ObjectId::parse("two").unwrap());
        let data = DataKey::generate().unwrap();
        let wrapped = data.wrap(&one, &key).unwrap();
        assert_eq!(*DataKey::unwrap(&one, &wrapped, &key).unwrap().0, *data.0);
        refused(DataKey::unwrap(&two, &wrapped, &key));

        let (first, second) = (LeaseShare::generate(1).unwrap(), LeaseShare::generate(2).unwrap());
        let leased = key.leased(&one, &first).unwrap();
        refused(DataKey::unwrap(&one, &wrapped, &leased));
        let wrapped = data.wrap(&one, &leased).unwrap();
        let told = LeaseShare::from_bytes(1, first.bytes()).unwrap();
        assert_eq!(*DataKey::unwrap(&one, &wrapped, &key.leased(&one, &told).unwrap()).unwrap().0, *data.0);
        let late = LeaseShare::from_bytes(2, first.bytes()).unwrap();
        let other = AgreementKey::generate(agreement("urn:a")).unwrap();
        let others = [
            key.clone(),
            key.leased(&one, &second).unwrap(),
            key.leased(&one, &late).unwrap(),
            key.leased(&two, &first).unwrap(),
            other.leased(&one, &first).unwrap(),
        ];
        for key in others {
            refused(DataKey::unwrap(&one, &wrapped, &key));
        }
        let kept = first.wrap("row 1", &kek).unwrap();
        assert_eq!(LeaseShare::unwrap("row 1", 1, &kept, &kek).unwrap().bytes(), first.bytes());
        refused(LeaseShare::unwrap("row 2", 1, &kept, &kek));
        assert!(LeaseShare::from_bytes(1, b"short").is_err());
    }

    #[test]
    fn the_key_file_is_private_rotates_and_refuses_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek.json");
        let first = FileKek::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*FileKek::load_or_create(&path).unwrap().key, *first.key);
        let second = first.next_epoch().unwrap();
        second.save(&path).unwrap();
        let loaded = FileKek::load(&path).unwrap();
        assert_eq!((loaded.epoch(), *loaded.key), (2, *second.key));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no old key is left");

        // A crash between staging, replacing and destroying loses neither key that rows may need.
        let third = second.next_epoch().unwrap();
        third.stage(&path).unwrap();
        assert_eq!(FileKek::load_or_create(&path).unwrap().epoch(), 2);
        assert_eq!(FileKek::staged(&path).unwrap().epoch(), 3);
        let old = path.with_extension(REPLACED);
        std::fs::hard_link(&path, &old).unwrap();
        assert_eq!(*FileKek::load_or_create(&path).unwrap().key, *second.key, "only a second name");
        std::fs::copy(&path, &old).unwrap();
        third.save(&path).unwrap();
        assert_eq!(*FileKek::load(&path).unwrap().key, *third.key);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no old key is left");
        std::fs::write(&path, "{}").unwrap();
        assert!(FileKek::load_or_create(&path).is_err(), "a damaged key is never replaced");
    }
}
