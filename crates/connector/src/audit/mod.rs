//! Audit: what an auditor is handed of the ledger, how a stranger checks it, and who holds which copies of ours.
//!
//! An export is two files. The first has one record a line, each with its salt and its path to one tree head, as JSON or
//! CSV. The second is a statement about the first, signed with the participant's key and carrying its chain: digest of
//! the file, number of records, tree head, what was asked for. With both and the roots anybody can check them offline.

pub mod copies;
pub mod export;
mod file;
pub mod period;
mod statement;
pub mod verify;

use control_plane::UnixMillis;
use control_plane::ids::{AgreementId, ParticipantId};

control_plane::refusal_codes! {
    MALFORMED_EXPORT = "audit/malformed-export", Input,
        "the file or its statement is not an export of this version", "檔案或其聲明並非此版本的匯出", "文件或其声明并非此版本的导出",
        clause "audit export", next "take both files unchanged from whoever exported them";
    FILE_ALTERED = "audit/file-altered", Policy,
        "the file is not the one that was signed", "檔案並非已簽署的檔案", "文件并非已签署的文件",
        clause "audit export: digest", next "ask for the export again; somebody changed it, or it is another file's statement";
    RECORD_NOT_IN_LEDGER = "audit/record-not-in-ledger", Policy,
        "a record does not stand in the ledger that the statement names", "某項記錄不在聲明所述的帳本中", "某项记录不在声明所述的账本中",
        clause "RFC 9162, 2.1.3", next "treat the export as forged";
    OUTSIDE_SCOPE = "audit/outside-scope", Policy,
        "a record lies outside what the statement says was exported", "某項記錄超出聲明所述的匯出範圍", "某项记录超出声明所述的导出范围",
        clause "audit export: scope", next "treat the export as forged";
    OTHER_LEDGER = "audit/other-ledger", Policy,
        "the ledger's head is another one than you know of", "帳本的樹頭與你所知的不同", "账本的树头与你所知的不同",
        clause "RFC 9162, 2.1.4", next "the exporter shows two histories: compare with what other peers remember of its ledger";
    BAD_PERIOD = "audit/bad-period", Input,
        "a period is a day, a month, a year, or two of these joined by a slash", "期間為日、月、年，或以斜線相連的兩者",
        "期间为日、月、年，或以斜线相连的两者",
        clause "ISO 8601", next "write e.g. 2026-11, 2026-11-03 or 2026-10/2026-12";
}

/// Records of one read from the store: their paths fit a message many times.
const PAGE: usize = 100;

/// The form of the exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// RFC 4180, with a header.
    Csv,
}

/// What is exported: everything, unless narrowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only what concerns this participant.
    pub peer: Option<ParticipantId>,
    /// Only what concerns this agreement.
    pub agreement: Option<AgreementId>,
    /// Only from this instant on.
    pub from: Option<UnixMillis>,
    /// Only before this instant.
    pub until: Option<UnixMillis>,
}

impl Scope {
    /// Whether a record of this instant lies in the period.
    fn covers(&self, at: UnixMillis) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }

    /// Whether every record of the ledger was asked for, so that a missing one shows.
    fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}
