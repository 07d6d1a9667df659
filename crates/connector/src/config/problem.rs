//! Everything that is wrong with a settings file, by path and line.

use std::fmt;
use std::path::{Path, PathBuf};

use control_plane::ids::printable;
use policy::refusal::{Code, Refusal};

policy::refusal_codes! {
    UNREADABLE = "config/unreadable", Input,
        "the settings file cannot be read",
        "無法讀取設定檔", "无法读取配置文件",
        clause "operator's guide: settings", next "name an existing UTF-8 file of at most 1 MiB";
    SYNTAX = "config/syntax", Input,
        "the settings file is not valid TOML",
        "設定檔不是有效的 TOML", "配置文件不是有效的 TOML",
        clause "TOML 1.0", next "correct the line; strings stand in double quotes";
    UNKNOWN_KEY = "config/unknown-key", Input,
        "there is no such setting",
        "沒有此設定項", "没有此配置项",
        clause "operator's guide: settings", next "correct the name or remove the line; connector-config/ shows every setting";
    UNKNOWN_VARIABLE = "config/unknown-variable", Input,
        "no setting is taken from this environment variable",
        "此環境變數不對應任何設定項", "此环境变量不对应任何配置项",
        clause "operator's guide: settings", next "unset it, or put the setting into the file";
    MISSING = "config/missing", Input,
        "a required setting is missing",
        "缺少必需的設定項", "缺少必需的配置项",
        clause "operator's guide: settings", next "add the setting; connector-config/ shows an example";
    BAD_VALUE = "config/bad-value", Input,
        "the value does not fit the setting",
        "設定值不符合要求", "配置值不符合要求",
        clause "operator's guide: settings", next "use a value of the form that is named";
    MISSING_FILE = "config/missing-file", Input,
        "a file or folder that a setting names is missing or unfit",
        "設定所指的檔案或資料夾不存在或不適用", "配置所指的文件或文件夹不存在或不适用",
        clause "operator's guide: settings", next "create it, or correct the path; relative paths start at the settings file";
    CONFLICT = "config/conflict", Input,
        "two settings contradict each other",
        "兩項設定互相矛盾", "两项配置互相矛盾",
        clause "operator's guide: settings", next "change one of the two";
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The setting, as in `peers[2].addresses[0]`; empty where the whole file is meant.
    pub path: String,
    /// Where it stands.
    pub place: Place,
    /// Which kind of problem, and what exactly.
    pub refusal: Refusal,
}

impl ConfigProblem {
    /// The line in the file, where the problem has one.
    pub const fn line(&self) -> Option<usize> {
        match self.place {
            Place::Line(line) => Some(line),
            Place::Variable(_) | Place::Absent => None,
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable.
    Variable(&'static str),
    /// Nowhere: it is not set.
    Absent,
}

/// All that is wrong with one settings file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems {
    file: PathBuf,
    first: Box<ConfigProblem>,
    others: Vec<ConfigProblem>,
}

impl ConfigProblems {
    /// `None` where nothing is wrong.
    pub(super) fn of(file: &Path, problems: Vec<ConfigProblem>) -> Option<Self> {
        let mut problems = problems.into_iter();
        let first = problems.next()?;
        Some(Self { file: file.to_owned(), first: Box::new(first), others: problems.collect() })
    }

    /// The whole file is refused for one reason.
    pub(super) fn whole_file(file: &Path, code: &'static Code, detail: impl Into<String>) -> Self {
        let first =
            ConfigProblem { path: String::new(), place: Place::Absent, refusal: Refusal::new(code, detail) };
        Self { file: file.to_owned(), first: Box::new(first), others: Vec::new() }
    }

    /// The settings file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Every problem, in the order of the lines.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigProblem> {
        std::iter::once(self.first.as_ref()).chain(&self.others)
    }

    /// The first problem as a refusal that names its setting, for callers that can show only one.
    pub fn first(&self) -> Refusal {
        Refusal::new(self.first.refusal.code, format!("{}: {}", self.first.path, self.first.refusal.detail))
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{}", self.file.display())?;
            match problem.place {
                Place::Line(line) => write!(out, ":{line}")?,
                Place::Variable(name) => write!(out, " (environment variable {name})")?,
                Place::Absent => {}
            }
            if !problem.path.is_empty() {
                write!(out, ": {}", printable(&problem.path))?;
            }
            write!(out, ": {}", problem.refusal.code.en)?;
            if !problem.refusal.detail.is_empty() {
                write!(out, ": {}", problem.refusal.detail)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblems {}
