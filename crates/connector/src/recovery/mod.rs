//! Backups that another machine can use: state, keys and sealed copies in one file that only the recovery key opens.
//!
//! The operator makes a recovery key once and keeps its private part away from the connector. A backup holds its own
//! one-time key-encryption key, under which every key of the copied state is wrapped anew; restoring wraps them once
//! more, under the key of the new machine. The participant's own key is never in it: an identity is enrolled anew.

mod backup;
mod key;
mod restore;
mod stream;

use std::path::Path;

pub use backup::{Asked, DEFAULT_KEEP_DAYS, MAX_KEEP_DAYS, Report, require_writable, sweep, write};
pub use key::{PublicKey, SecretKey};
pub use restore::{Found, Options, Restored, is_recoverable, restore};

use control_plane::Refusal;

use crate::error::Error;

control_plane::refusal_codes! {
    NO_RECOVERY_KEY = "backup/no-recovery-key", State,
        "this connector has no recovery key, so nobody could open its keys on another machine",
        "此連接器沒有復原金鑰，因此無法在另一部機器上開啟其金鑰", "此连接器没有恢复密钥，因此无法在另一台机器上打开其密钥",
        clause "operator's guide 5: backup and restore", next "`fairlead recovery init FILE` makes one; keep FILE away from this machine";
    KEY_EXISTS = "backup/recovery-key-exists", State,
        "this connector has a recovery key already", "此連接器已有復原金鑰", "此连接器已有恢复密钥",
        clause "operator's guide 5: backup and restore", next "keep it, or say `--replace`: older backups then still need the older key";
    KEY_NEEDED = "backup/recovery-key-needed", Input,
        "only the recovery key opens this backup", "僅復原金鑰可開啟此備份", "仅恢复密钥可打开此备份",
        clause "operator's guide 5: backup and restore", next "name the private part with `--recovery-key FILE`";
    NO_KEYS_INSIDE = "backup/no-keys-inside", Input,
        "this backup is a plain copy of the state: no recovery key belongs to it", "此備份僅為狀態副本，不對應任何復原金鑰",
        "此备份只是状态副本，不对应任何恢复密钥",
        clause "operator's guide 5: backup and restore", next "restore it without `--recovery-key`, on the machine whose `keys/` it belongs to";
    WRONG_KEY = "backup/wrong-recovery-key", Input,
        "this backup was made for another recovery key", "此備份是為另一復原金鑰製作的", "此备份是为另一恢复密钥制作的",
        clause "RFC 9180 section 5", next "find the private part whose id the detail names";
    MALFORMED_KEY = "backup/malformed-recovery-key", Input,
        "the file is not a recovery key, or it was altered", "此檔案並非復原金鑰，或已被改動", "此文件不是恢复密钥，或已被改动",
        clause "RFC 9180 section 4", next "name the file that `fairlead recovery init` wrote, or another copy of it";
    TRUNCATED = "backup/truncated", Input,
        "the backup ends before its last frame", "備份在最後一段之前中斷", "备份在最后一段之前中断",
        clause "operator's guide 5: backup and restore", next "copy the file again, or take an older backup; nothing was restored";
    ALTERED = "backup/altered", Input,
        "the backup is not what was written", "備份與寫入時不符", "备份与写入时不符",
        clause "RFC 9180 section 5.2", next "copy the file again, or take an older backup; nothing was restored";
    UNKNOWN_FORMAT = "backup/unknown-format", Input,
        "the file is no backup that this version knows", "此檔案並非此版本所能識別的備份", "此文件不是此版本所能识别的备份",
        clause "operator's guide 5: backup and restore", next "name a file that `fairlead backup` wrote, or use a newer release";
    EXPIRED = "backup/expired", Policy,
        "this backup was to be kept until an instant that has passed", "此備份的保留期限已過", "此备份的保留期限已过",
        clause "usage control: delete", next "take a newer backup and delete this file: copies in it may have been due for deletion since";
    TARGET_EXISTS = "backup/target-exists", Input,
        "something is there already, and nothing is overwritten", "目標已存在，不會覆寫任何內容", "目标已存在，不会覆盖任何内容",
        clause "operator's guide 5: backup and restore", next "move away what the detail names, or name another place";
    NO_FOLDER = "backup/no-such-folder", Input,
        "the folder to write to does not exist or is not a folder", "要寫入的資料夾不存在或並非資料夾", "要写入的文件夹不存在或不是文件夹",
        clause "operator's guide 5: backup and restore", next "make the folder that the detail names, writable for the connector's user";
    NOT_WRITTEN = "backup/not-written", Unavailable,
        "the backup could not be written", "備份無法寫入", "备份无法写入",
        clause "operator's guide 5: backup and restore", next "check free space and permissions of the place that the detail names";
    NOT_RESTORED = "store/not-restored", Input,
        "the backup was not restored; nothing was changed", "備份未還原，未作任何變更", "备份未恢复，未作任何更改",
        clause "operator's guide 5: backup and restore", next "stop the connector, move the old state.db away, and name a file that `fairlead backup` wrote";
}

/// Where the public part lies in the data directory.
pub const PUBLIC_KEY_FILE: &str = "keys/recovery.json";

/// The key-encryption key's file in the data directory.
const KEK_FILE: &str = "keys/kek.json";

/// Names of what a backup holds, in their order; sealed copies follow below their folder.
const KEYS_ENTRY: &str = "keys";
const STATE_ENTRY: &str = "state.db";
const SEALED_FOLDER: &str = "sealed/";

/// A file operation that failed, with its path.
fn failed(code: &'static control_plane::Code, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |error| match error.downcast::<Refusal>() {
        Ok(refusal) => refusal.into(),
        Err(error) => Refusal::new(code, format!("`{path}`: {error}")).into(),
    }
}
