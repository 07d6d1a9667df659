//! What is wrong with a policy text: all problems at once, each with its place, term and a suggestion.

use std::fmt;

use crate::refusal::{Code, Refusal};

crate::refusal_codes! {
    SYNTAX = "policy/syntax", Input,
        "the policy text is not well-formed", "政策文字格式不正確", "策略文本格式不正确",
        clause "ODRL 2.2 Information Model, 2.1", next "correct the text at the place named";
    TOO_LARGE = "policy/too-large", Limit,
        "the policy is larger or deeper than the engine accepts", "政策超出引擎接受的大小或深度", "策略超出引擎接受的大小或深度",
        clause "policy: bounds", next "split the policy, or write it with fewer rules or levels";
    UNKNOWN_MEMBER = "policy/unknown-member", Input,
        "the policy has a member that this engine does not understand", "政策含有引擎不理解的成員", "策略含有引擎不理解的成员",
        clause "RFC 8785; ODRL Information Model 2.2: offer", next "remove the member, or name the profile that defines it";
    UNKNOWN_OPERAND = "policy/unknown-operand", Input,
        "the constraint uses a left operand that no named profile defines", "限制條件使用了任何已指明設定檔都未定義的左運算元", "限制条件使用了任何已指明配置文件都未定义的左操作数",
        clause "ODRL 2.2 Information Model, 2.5.1", next "use an operand of a profile the policy names";
    UNKNOWN_ACTION = "policy/unknown-action", Input,
        "the rule uses an action that no named profile defines", "規則使用了任何已指明設定檔都未定義的動作", "规则使用了任何已指明配置文件都未定义的动作",
        clause "ODRL 2.2 Information Model, 2.4", next "use an action of a profile the policy names";
    UNKNOWN_OPERATOR = "policy/unknown-operator", Input,
        "the operator does not exist", "此運算子不存在", "该运算符不存在",
        clause "ODRL 2.2 Vocabulary, 3.17", next "use one of the twelve ODRL operators";
    OPERATOR_NOT_ALLOWED = "policy/operator-not-allowed", Input,
        "the profile does not allow this operator with this operand", "設定檔不允許此運算元使用該運算子", "配置文件不允许该操作数使用此运算符",
        clause "policy: profiles", next "use one of the operators that the profile allows";
    UNKNOWN_PROFILE = "policy/unknown-profile", Input,
        "the policy names a profile that this engine does not know", "政策指明了引擎不認識的設定檔", "策略指明了引擎不认识的配置文件",
        clause "ODRL 2.2 Information Model, 4.1", next "use a known profile, or load the profile's description";
    PROFILE_NOT_NAMED = "policy/profile-not-named", Input,
        "the policy uses a term of a profile that it does not name", "政策使用了未指明的設定檔中的詞彙", "策略使用了未指明的配置文件中的术语",
        clause "ODRL 2.2 Information Model, 4.1", next "add the profile's identifier to the policy";
    UNKNOWN_KIND = "policy/unknown-kind", Input,
        "the type is not one this engine understands", "引擎不理解此類型", "引擎不理解该类型",
        clause "ODRL 2.2 Information Model, 2.1", next "use Set, Offer or Agreement";
    BAD_VALUE = "policy/bad-value", Input,
        "a value does not fit where it stands", "值不符合其所在位置的要求", "值不符合其所在位置的要求",
        clause "ODRL 2.2 Information Model, 2.5", next "write the value in the form named";
    MISSING_MEMBER = "policy/missing-member", Input,
        "a member that must be there is missing", "缺少必需的成員", "缺少必需的成员",
        clause "ODRL 2.2 Information Model, 2.1", next "add the member";
    AMBIGUOUS_MEMBER = "policy/ambiguous-member", Input,
        "a member is given twice with different values", "同一成員給出了兩個不同的值", "同一成员给出了两个不同的值",
        clause "ODRL 2.2 Information Model, 2.7", next "give the value once";
    PARENT_UNAVAILABLE = "policy/parent-unavailable", Input,
        "the policy inherits from a policy that was not given", "政策所繼承的政策未提供", "策略所继承的策略未提供",
        clause "ODRL 2.2 Information Model, 2.8", next "provide the parent policy, or write its rules out";
    UNRESOLVED_REFERENCE = "policy/unresolved-reference", Input,
        "the policy refers to a value elsewhere, which is never fetched", "政策引用了他處的值，引擎不會擷取", "策略引用了他处的值，引擎不会获取",
        clause "ODRL 2.2 Information Model, 2.5.1", next "write the value itself into the policy";
}

/// Where something stands in the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// JSON Pointer, or for RDF the subject and property.
    pub path: String,
    /// Line from 1; 0 if unknown.
    pub line: u32,
    /// Column from 1, in characters; 0 if unknown.
    pub column: u32,
}

impl Position {
    /// The same line and column with another path below this one.
    pub(crate) fn below(&self, step: impl fmt::Display) -> Self {
        Self { path: format!("{}/{step}", self.path), line: self.line, column: self.column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(out, "{}:{} ", self.line, self.column)?;
        }
        out.write_str(if self.path.is_empty() { "/" } else { &self.path })
    }
}

/// One thing wrong (or, as a warning, doubtful) in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The stable code with its texts.
    pub code: &'static Code,
    /// Where it stands.
    pub at: Position,
    /// The term or value concerned, as written.
    pub term: String,
    /// What is expected there.
    pub expected: String,
    /// A likely correction, to be taken as it stands.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: `{}` at {}", self.code.code, self.code.en, self.term, self.at)?;
        if !self.expected.is_empty() {
            write!(out, "; expected {}", self.expected)?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(out, "; did you mean `{suggestion}`?")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with one policy; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// More problems than this are counted, not listed.
    pub const MAX_LISTED: usize = 100;

    /// `None` if there is nothing wrong.
    pub(crate) fn of(list: Vec<Problem>) -> Option<Self> {
        if list.is_empty() { None } else { Some(Self { list }) }
    }

    pub(crate) fn one(problem: Problem) -> Self {
        Self { list: vec![problem] }
    }

    /// All problems in the order of the text, at most [`Self::MAX_LISTED`].
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// The first problem as a refusal, naming place and term.
    pub fn first(&self) -> Refusal {
        match self.list.first() {
            Some(problem) => {
                let mut detail = format!("`{}` at {}", problem.term, problem.at);
                if !problem.expected.is_empty() {
                    detail.push_str("; expected ");
                    detail.push_str(&problem.expected);
                }
                if let Some(suggestion) = &problem.suggestion {
                    detail.push_str(&format!("; did you mean `{suggestion}`?"));
                }
                Refusal::new(problem.code, detail)
            }
            None => Refusal::new(&SYNTAX, ""),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The known word nearest to a misspelt one, if it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    // A third of the letters wrong, rounded up, is the most that still reads as a slip of the same word.
    let word = word.to_lowercase();
    let limit = word.chars().count().div_ceil(3);
    known
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.chars().take(64).enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let at = |list: &[usize], index: usize| list.get(index).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&previous, column) + usize::from(from != *to);
            let changed = (at(&previous, column + 1) + 1).min(at(&current, column) + 1);
            current.push(replaced.min(changed));
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(0)
}
