//! What is wrong with a description: every problem at once, each with its place, its rule and three texts.

use std::fmt;

use control_plane::{Code, Refusal};

policy::refusal_codes! {
    TOO_LARGE = "catalogue/too-large", Limit,
        "a description has at most 1 MiB and 5,000 statements",
        "描述最多 1 MiB、5,000 條陳述", "描述最多 1 MiB、5,000 条陈述",
        clause "catalogue: bounds", next "describe one dataset per file and leave its records out";
    SYNTAX = "catalogue/syntax", Input,
        "the text does not follow the syntax of Turtle or N-Quads",
        "文本不符合 Turtle 或 N-Quads 語法", "文本不符合 Turtle 或 N-Quads 语法",
        clause "W3C RDF 1.1 Turtle", next "correct the place named";
    NOT_CANONICAL = "catalogue/not-canonical", Input,
        "the content is not in canonical form: sorted, distinct N-Quads lines of one graph",
        "內容不是規範形式：須為同一圖中已排序且不重複的 N-Quads 行", "内容不是规范形式：须为同一图中已排序且不重复的 N-Quads 行",
        clause "catalogue: canonical form", next "publish again with a connector that writes the canonical form";
    BLANK_NODE = "catalogue/blank-node", Input,
        "blank nodes cannot be signed: every node needs an IRI",
        "空白節點無法簽署：每個節點都須有 IRI", "空白节点无法签署：每个节点都须有 IRI",
        clause "catalogue: canonical form", next "give the node an IRI under your subject base instead of [ ] or ( )";
    ALIEN_SUBJECT = "catalogue/alien-subject", Input,
        "a publisher describes only subjects under its own subject base",
        "發布者只能描述其主體基底之下的主體", "发布者只能描述其主体基底之下的主体",
        clause "operator's guide 1: the authority, subject base", next "move the subject under your subject base, or leave the statement out";
    ONE_DATASET = "catalogue/one-dataset", Input,
        "a description holds exactly one dcat:Dataset",
        "一份描述須恰好包含一個 dcat:Dataset", "一份描述须恰好包含一个 dcat:Dataset",
        clause "DCAT 3, 6.6", next "write one file per dataset";
    MISSING_VALUE = "catalogue/missing-value", Input,
        "a required property has no value", "必填屬性缺少值", "必填属性缺少值",
        clause "catalogue: required properties", next "add the property named";
    TOO_MANY_VALUES = "catalogue/too-many-values", Input,
        "the property takes one value", "此屬性只可有一個值", "此属性只可有一个值",
        clause "catalogue: required properties", next "keep one value";
    BAD_VALUE = "catalogue/bad-value", Input,
        "the value is not of the kind that the property takes", "值的類型不符合此屬性的要求", "值的类型不符合此属性的要求",
        clause "DCAT 3, 6", next "use the kind of value named";
    NO_LANGUAGE_TAG = "catalogue/no-language-tag", Input,
        "a text for people needs a language tag", "供人閱讀的文字須有語言標籤", "供人阅读的文字须有语言标签",
        clause "catalogue: texts", next "write \"...\"@en, \"...\"@zh-Hant or \"...\"@zh-Hans";
    REPEATED_LANGUAGE = "catalogue/repeated-language", Input,
        "there is one title and one description per language", "每種語言只可有一個標題和一個說明", "每种语言只可有一个标题和一个说明",
        clause "catalogue: texts", next "join the texts or remove one";
    TEXT_TOO_LONG = "catalogue/text-too-long", Limit,
        "the text is longer than permitted", "文字超出長度上限", "文字超出长度上限",
        clause "catalogue: bounds", next "shorten the text";
    WRONG_PUBLISHER = "catalogue/wrong-publisher", Input,
        "dct:publisher and the offer's assigner are the participant that publishes",
        "dct:publisher 與要約的 assigner 須為發布的參與者", "dct:publisher 与要约的 assigner 须为发布的参与者",
        clause "operator's guide 1: the authority, subject base", next "name your own participant URI";
    WRONG_TARGET = "catalogue/wrong-target", Input,
        "an offer's target is the dataset that it stands in", "要約的標的須為其所屬的資料集", "要约的标的须为其所属的数据集",
        clause "ODRL 2.2, 2.1.1", next "set odrl:target to the dataset";
    OFFER_TEXT_DIFFERS = "catalogue/offer-text-differs", Input,
        "the offer's canonical text is not canonical, not of this offer, or does not match its hash",
        "要約的規範文本不規範、不屬於此要約，或與其雜湊值不符", "要约的规范文本不规范、不属于此要约，或与其哈希值不符",
        clause "RFC 8785; ODRL Information Model 2.2: offer", next "the publisher must publish the dataset again";
    OBJECT_DIFFERS = "catalogue/object-differs", Input,
        "size or checksum as written differ from the object that would be published",
        "所寫的大小或校驗值與將要發布的物件不符", "所写的大小或校验值与将要发布的对象不符",
        clause "proto/fairlead/data: GetManifest", next "leave size and checksum out: publication adds them";
    NO_KEYWORD = "catalogue/no-keyword", Input,
        "a dataset without keywords is hard to find", "沒有關鍵詞的資料集難以被找到", "没有关键词的数据集难以被找到",
        clause "DCAT-AP 3.0, Dataset: keyword (recommended)", next "add dcat:keyword, best in every script";
    NO_CONTACT = "catalogue/no-contact", Input,
        "nobody is named to whom questions can go", "未指明可供查詢的聯絡人", "未指明可供查询的联系人",
        clause "DCAT-AP 3.0, Dataset: contact point (recommended)", next "add dcat:contactPoint";
    NO_LICENCE = "catalogue/no-licence", Input,
        "the distribution names neither licence nor rights", "此分發未註明授權條款或權利", "此分发未注明许可条款或权利",
        clause "DCAT-AP 3.0, Distribution: licence (recommended)", next "add dct:license or dct:rights";
    MISSING_SCRIPT = "catalogue/missing-script", Input,
        "the title lacks one of the three scripts en, zh-Hant, zh-Hans", "標題缺少 en、zh-Hant、zh-Hans 三者之一", "标题缺少 en、zh-Hant、zh-Hans 三者之一",
        clause "catalogue: texts", next "add the title in the script named";
}

/// More problems than this are counted, not listed: nobody reads them and a hostile file could make millions.
pub const MAX_PROBLEMS: usize = 200;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The description is not accepted.
    Violation,
    /// The description is accepted and would be better without it.
    Warning,
}

/// One problem, in the form of a SHACL result: focus node, path, value, rule, severity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The rule, with its texts in three scripts.
    pub code: &'static Code,
    /// The node that it is about; empty if it is about the whole text.
    pub focus: String,
    /// The property, e.g. `dct:title`, or a place in the text such as `line 3, column 7`.
    pub path: String,
    /// What exactly: the value found or the kind expected.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code.code, self.code.en)?;
        for part in [&self.focus, &self.path, &self.detail] {
            if !part.is_empty() {
                write!(out, ": {part}")?;
            }
        }
        Ok(())
    }
}

/// All problems of one description, violations first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    problems: Vec<Problem>,
    unlisted: usize,
}

impl Report {
    /// The problems listed, violations first, otherwise in the order found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many more there are beyond [`MAX_PROBLEMS`].
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// Whether something stands against accepting the description.
    pub fn has_violation(&self) -> bool {
        self.problems.first().is_some_and(|problem| problem.severity == Severity::Violation)
    }

    /// The first problem as a refusal; a report is only handed out as an error when it has one.
    pub fn first(&self) -> Refusal {
        match self.problems.first() {
            Some(problem) => {
                let parts = [&problem.focus, &problem.path, &problem.detail];
                let named: Vec<&str> =
                    parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
                Refusal::new(problem.code, named.join(": "))
            }
            None => Refusal::new(&SYNTAX, "no problem recorded"),
        }
    }

    pub(crate) fn violation(
        &mut self,
        code: &'static Code,
        focus: &str,
        path: &str,
        detail: impl Into<String>,
    ) {
        self.add(Severity::Violation, code, focus, path, detail.into());
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static Code,
        focus: &str,
        path: &str,
        detail: impl Into<String>,
    ) {
        self.add(Severity::Warning, code, focus, path, detail.into());
    }

    fn add(&mut self, severity: Severity, code: &'static Code, focus: &str, path: &str, detail: String) {
        // A violation must never be crowded out by warnings: it decides whether the description is accepted.
        let place = self.problems.partition_point(|problem| problem.severity <= severity);
        if self.problems.len() >= MAX_PROBLEMS {
            self.unlisted += 1;
            if place == self.problems.len() {
                return;
            }
            self.problems.pop();
        }
        let shown = |text: &str| shorten(text);
        let problem =
            Problem { severity, code, focus: shown(focus), path: shown(path), detail: shown(&detail) };
        self.problems.insert(place, problem);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(out, "{problem}")?;
        }
        if self.unlisted > 0 {
            writeln!(out, "and {} more", self.unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

fn shorten(text: &str) -> String {
    const MAX_SHOWN_CHARS: usize = 300;
    let mut shown: String = crate::text::clean(text).chars().take(MAX_SHOWN_CHARS).collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_come_first_and_are_never_crowded_out() {
        let mut report = Report::default();
        for _ in 0..MAX_PROBLEMS + 5 {
            report.warning(&NO_KEYWORD, "a", "b", "");
        }
        assert!(!report.has_violation());
        report.violation(&SYNTAX, "", "line 1", "x\u{202e}y");
        assert!(report.has_violation());
        assert_eq!((report.problems().len(), report.unlisted()), (MAX_PROBLEMS, 6));
        assert_eq!(
            report.first().to_string(),
            "catalogue/syntax: the text does not follow the syntax of Turtle or N-Quads: line 1: xy"
        );
    }
}
