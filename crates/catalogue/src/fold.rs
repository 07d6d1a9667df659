//! Folding and splitting of texts for search: Traditional to Simplified, lower case, words and bigrams.

use std::collections::HashMap;
use std::sync::OnceLock;

use ferrous_opencc::OpenCC;
use ferrous_opencc::config::BuiltinConfig;

/// The longest word kept, in characters; longer ones are cut, in texts and queries alike.
const MAX_WORD_CHARS: usize = 64;
/// CJK Unified Ideographs, extension A and compatibility ideographs: where both scripts have characters.
const FOLDED_RANGES: [std::ops::RangeInclusive<char>; 3] =
    ['\u{3400}'..='\u{4dbf}', '\u{4e00}'..='\u{9fff}', '\u{f900}'..='\u{faff}'];

/// One unit of a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Token {
    /// A word of an alphabetic script; a query's word also finds words that begin with it.
    Word(String),
    /// Two neighbouring ideographs, or a single one.
    Gram(String),
}

/// Built once per process: every index folds alike, and the dictionary takes a moment to read.
static TABLE: OnceLock<HashMap<char, char>> = OnceLock::new();

/// The tables of folding. Characters are folded one by one, so that any part of a text folds as in the whole.
#[derive(Debug)]
pub(crate) struct Folder(&'static HashMap<char, char>);

impl Folder {
    pub fn new() -> Result<Self, ferrous_opencc::error::OpenCCError> {
        match TABLE.get() {
            Some(table) => Ok(Self(table)),
            None => {
                let table = table()?;
                Ok(Self(TABLE.get_or_init(|| table)))
            }
        }
    }

    /// The text in folded characters: Simplified, lower case, full-width forms as plain ones.
    pub fn fold(&self, text: &str) -> String {
        let plain = |c: char| match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
            '\u{3000}' => ' ',
            c => c,
        };
        text.chars()
            .map(plain)
            .flat_map(char::to_lowercase)
            .map(|c| self.0.get(&c).copied().unwrap_or(c))
            .collect()
    }

    /// Units of a text to be found: words, bigrams and single ideographs.
    pub fn index_tokens(&self, text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        for run in runs(&self.fold(text)) {
            match run {
                Run::Word(word) => tokens.push(Token::Word(word)),
                Run::Ideographs(chars) => {
                    tokens.extend(chars.iter().map(|c| Token::Gram(c.to_string())));
                    tokens.extend(bigrams(&chars));
                }
            }
        }
        tokens
    }

    /// Units that a query demands: words, and bigrams where there are two ideographs or more.
    pub fn query_tokens(&self, text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        for run in runs(&self.fold(text)) {
            match run {
                Run::Word(word) => tokens.push(Token::Word(word)),
                Run::Ideographs(chars) if chars.len() == 1 => {
                    tokens.extend(chars.iter().map(|c| Token::Gram(c.to_string())));
                }
                Run::Ideographs(chars) => tokens.extend(bigrams(&chars)),
            }
        }
        tokens.sort();
        tokens.dedup();
        tokens
    }
}

fn table() -> Result<HashMap<char, char>, ferrous_opencc::error::OpenCCError> {
    let converter = OpenCC::from_config(BuiltinConfig::T2s)?;
    let traditional: Vec<char> = FOLDED_RANGES.into_iter().flatten().collect();
    // One call for all: no phrase of the dictionary spans a line.
    let lines: String = traditional.iter().flat_map(|c| [*c, '\n']).collect();
    let converted = converter.convert(&lines);
    let single = |line: &str| {
        let mut chars = line.chars();
        chars.next().filter(|_| chars.next().is_none())
    };
    let folded = traditional.into_iter().zip(converted.lines());
    let single = folded.filter_map(|(from, line)| single(line).map(|to| (from, to)));
    Ok(single.filter(|(from, to)| from != to).collect())
}

enum Run {
    Word(String),
    Ideographs(Vec<char>),
}

fn runs(folded: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut joined = false;
    for c in folded.chars() {
        if is_ideograph(c) {
            match runs.last_mut() {
                Some(Run::Ideographs(chars)) if joined => chars.push(c),
                _ => runs.push(Run::Ideographs(vec![c])),
            }
            joined = true;
        } else if c.is_alphanumeric() {
            match runs.last_mut() {
                Some(Run::Word(word)) if joined => {
                    if word.chars().count() < MAX_WORD_CHARS {
                        word.push(c);
                    }
                }
                _ => runs.push(Run::Word(c.to_string())),
            }
            joined = true;
        } else {
            joined = false;
        }
    }
    runs
}

fn bigrams(chars: &[char]) -> impl Iterator<Item = Token> + '_ {
    chars.windows(2).map(|pair| Token::Gram(pair.iter().collect()))
}

/// Scripts written without spaces: Han, kana and their extensions.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_scripts_fold_to_one() {
        let folder = Folder::new().unwrap();
        for (text, folded) in [
            ("海港潮汐站資料集", "海港潮汐站资料集"),
            ("裡裏里", "里里里"),
            ("ＡＢＣ　Tide", "abc tide"),
            ("ÉTÉ", "été"),
            ("臺灣", "台湾"),
        ] {
            assert_eq!(folder.fold(text), folded, "{text}");
        }
    }

    #[test]
    fn tokens() {
        let folder = Folder::new().unwrap();
        let shown = |tokens: Vec<Token>| {
            let text = |token| match token {
                Token::Word(word) => word,
                Token::Gram(gram) => format!("·{gram}"),
            };
            tokens.into_iter().map(text).collect::<Vec<_>>().join(" ")
        };
        for (text, index, query) in [
            ("Tide-gauge 2010", "tide gauge 2010", "2010 gauge tide"),
            ("潮汐站", "·潮 ·汐 ·站 ·潮汐 ·汐站", "·汐站 ·潮汐"),
            ("潮", "·潮", "·潮"),
            ("GPU分區", "gpu ·分 ·区 ·分区", "gpu ·分区"),
            ("!? ", "", ""),
        ] {
            assert_eq!(shown(folder.index_tokens(text)), index);
            assert_eq!(shown(folder.query_tokens(text)), query);
        }
    }
}
