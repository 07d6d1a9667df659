//! The recovery key pair: HPKE (RFC 9180) over X25519. The public part lies with the connector, the private part does
//! not.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_plane::digest::Digest;
use control_plane::{Refusal, UnixMillis};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{KEY_EXISTS, MALFORMED_KEY, NOT_WRITTEN, PUBLIC_KEY_FILE, TARGET_EXISTS, failed};
use crate::error::Error;

const PUBLIC_FORMAT: &str = "fairlead-recovery-key/1";
const SECRET_FORMAT: &str = "fairlead-recovery-secret/1";
/// An X25519 key, public or private.
const KEY_BYTES: usize = 32;
/// A key file is a few hundred bytes; anything above is not one.
const MAX_FILE_BYTES: u64 = 4096;

/// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
pub(super) fn suite() -> &'static dyn Hpke {
    DH_KEM_X25519_HKDF_SHA256_AES_256
}

/// What a backup is encrypted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    bytes: Vec<u8>,
    created: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PublicForm {
    created: String,
    format: String,
    public_key: String,
}

impl PublicKey {
    /// What names it: the digest of its bytes, which is no secret.
    pub fn id(&self) -> String {
        Digest::of(&self.bytes).to_string()
    }

    /// When it was made, RFC 3339.
    pub fn created(&self) -> &str {
        &self.created
    }

    pub(super) fn hpke(&self) -> HpkePublicKey {
        HpkePublicKey(self.bytes.clone())
    }

    /// The public part of this data directory's recovery key, if it has one; `backup/malformed-recovery-key`.
    pub fn load(data: &Path) -> Result<Option<Self>, Error> {
        let path = data.join(PUBLIC_KEY_FILE);
        let Some(text) = read(&path)? else { return Ok(None) };
        let refuse = || Refusal::new(&MALFORMED_KEY, format!("`{}`", path.display()));
        let form: PublicForm = serde_json::from_str(&text).map_err(|_| refuse())?;
        let bytes = URL_SAFE_NO_PAD.decode(&form.public_key).map_err(|_| refuse())?;
        if form.format != PUBLIC_FORMAT || bytes.len() != KEY_BYTES {
            return Err(refuse().into());
        }
        Ok(Some(Self { bytes, created: form.created }))
    }

    /// Puts it into a data directory; with `replace` in place of another one, else `backup/recovery-key-exists`.
    pub fn save(&self, data: &Path, replace: bool) -> Result<(), Error> {
        let path = data.join(PUBLIC_KEY_FILE);
        let form = PublicForm {
            created: self.created.clone(),
            format: PUBLIC_FORMAT.to_owned(),
            public_key: URL_SAFE_NO_PAD.encode(&self.bytes),
        };
        let text = serde_jcs::to_string(&form).map_err(Error::ours)?;
        let folder = path.parent().unwrap_or(data);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed(&NOT_WRITTEN, folder))?;
        if !replace && path.exists() {
            return Err(Refusal::new(&KEY_EXISTS, format!("`{}`", path.display())).into());
        }
        let fresh = path.with_extension("next");
        let _ = std::fs::remove_file(&fresh);
        write_new(&fresh, text.as_bytes())?;
        std::fs::rename(&fresh, &path).map_err(failed(&NOT_WRITTEN, &path))?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(&NOT_WRITTEN, folder))
    }
}

/// What opens backups. Zeroised when dropped.
pub struct SecretKey {
    public: PublicKey,
    secret: Zeroizing<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SecretForm {
    created: String,
    format: String,
    private_key: String,
    public_key: String,
}

impl Drop for SecretForm {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

impl SecretKey {
    /// A fresh pair.
    pub fn generate(now: UnixMillis) -> Result<Self, Error> {
        let (public, secret) = suite().generate_key_pair().map_err(Error::ours)?;
        let public = PublicKey { bytes: public.0, created: now.to_string() };
        Ok(Self { public, secret: Zeroizing::new(secret.secret_bytes().to_vec()) })
    }

    /// Its public part.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn hpke(&self) -> HpkePrivateKey {
        HpkePrivateKey::from(self.secret.to_vec())
    }

    /// The content of its file: the secret itself.
    pub fn to_text(&self) -> Result<Zeroizing<String>, Error> {
        let form = SecretForm {
            created: self.public.created.clone(),
            format: SECRET_FORMAT.to_owned(),
            private_key: URL_SAFE_NO_PAD.encode(&*self.secret),
            public_key: URL_SAFE_NO_PAD.encode(&self.public.bytes),
        };
        serde_jcs::to_string(&form).map(Zeroizing::new).map_err(Error::ours)
    }

    /// Writes it to a new file that only its owner reads; `backup/target-exists`, never over another file.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(Refusal::new(&TARGET_EXISTS, format!("`{}`", path.display())).into());
        }
        write_new(path, self.to_text()?.as_bytes())
    }

    /// Reads its file; `backup/malformed-recovery-key` if it is none.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let refuse = |why: &str| Refusal::new(&MALFORMED_KEY, format!("`{}`: {why}", path.display()));
        let text = read(path)?.ok_or_else(|| refuse("no such file"))?;
        let form: SecretForm =
            serde_json::from_str(&text).map_err(|_| refuse("not the form that is written"))?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse("not base64url"));
        let secret = Zeroizing::new(decode(&form.private_key)?);
        let bytes = decode(&form.public_key)?;
        if form.format != SECRET_FORMAT || secret.len() != KEY_BYTES || bytes.len() != KEY_BYTES {
            return Err(refuse("another format").into());
        }
        let key = Self { public: PublicKey { bytes, created: form.created.clone() }, secret };
        key.require_pair().map_err(|_| refuse("its two parts do not belong together"))?;
        Ok(key)
    }

    /// Whether what is sealed to the public part opens with the private one.
    fn require_pair(&self) -> Result<(), rustls::Error> {
        let (enc, sealed) = suite().seal(b"pair", b"", b"", &self.public.hpke())?;
        suite().open(&enc, b"pair", b"", &sealed, &self.hpke()).map(drop)
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, Error> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&MALFORMED_KEY, path)(error)),
    };
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed(&MALFORMED_KEY, path))?;
    Ok(Some(text))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(failed(&NOT_WRITTEN, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_read_back_and_altered_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = SecretKey::generate(UnixMillis(0)).unwrap();
        let path = folder.path().join("recovery.key");
        key.save(&path).unwrap();
        assert!(key.save(&path).is_err(), "never over another file");
        assert_eq!(SecretKey::load(&path).unwrap().public(), key.public());
        key.public().save(folder.path(), false).unwrap();
        assert_eq!(PublicKey::load(folder.path()).unwrap().as_ref(), Some(key.public()));
        let code = |error: Error| error.into_refusal().code;
        let other = SecretKey::generate(UnixMillis(0)).unwrap();
        assert_eq!(code(other.public().save(folder.path(), false).unwrap_err()), &KEY_EXISTS);
        other.public().save(folder.path(), true).unwrap();

        let text = std::fs::read_to_string(&path).unwrap();
        let mixed = text.replace(
            &URL_SAFE_NO_PAD.encode(&key.public().bytes),
            &URL_SAFE_NO_PAD.encode(&other.public().bytes),
        );
        for bad in ["", "{}", &text.replace("secret/1", "secret/2"), &mixed] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(code(SecretKey::load(&path).err().unwrap()), &MALFORMED_KEY, "{bad}");
        }
    }
}
