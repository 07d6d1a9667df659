//! Texts for people in several languages, cleaned of what could deceive a reader.

use std::collections::BTreeMap;
use std::fmt;

/// The language of a text. The three that every screen of ours offers have names of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// English.
    En,
    /// Chinese in Traditional script, also `zh-HK`, `zh-MO` and `zh-TW`.
    ZhHant,
    /// Chinese in Simplified script, also `zh-CN` and `zh-SG`.
    ZhHans,
    /// Any other tag, in lower case.
    Other(String),
}

impl Language {
    /// Reads a BCP 47 tag.
    pub fn of_tag(tag: &str) -> Self {
        let tag = tag.to_ascii_lowercase();
        let is = |primary: &str| {
            tag == primary || tag.strip_prefix(primary).is_some_and(|rest| rest.starts_with('-'))
        };
        if is("en") {
            Self::En
        } else if ["zh-hant", "zh-hk", "zh-mo", "zh-tw"].into_iter().any(is) {
            Self::ZhHant
        } else if ["zh-hans", "zh-cn", "zh-sg"].into_iter().any(is) {
            Self::ZhHans
        } else {
            Self::Other(tag)
        }
    }

    /// The tag as we write it.
    pub fn tag(&self) -> &str {
        match self {
            Self::En => "en",
            Self::ZhHant => "zh-Hant",
            Self::ZhHans => "zh-Hans",
            Self::Other(tag) => tag,
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.tag())
    }
}

/// One text per language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(BTreeMap<Language, String>);

impl Texts {
    /// Adds a text after [`clean`]ing it; `false` if the language has one already, which then stays.
    pub fn insert(&mut self, language: Language, text: &str) -> bool {
        if self.0.contains_key(&language) {
            return false;
        }
        self.0.insert(language, clean(text));
        true
    }

    /// The text in exactly this language.
    pub fn get(&self, language: &Language) -> Option<&str> {
        self.0.get(language).map(String::as_str)
    }

    /// The text a reader of `language` gets: that language, the other Chinese script, English, anything.
    pub fn best(&self, language: &Language) -> Option<(&Language, &str)> {
        let other_script = match language {
            Language::ZhHant => Language::ZhHans,
            Language::ZhHans => Language::ZhHant,
            Language::En | Language::Other(_) => Language::En,
        };
        [language, &other_script, &Language::En]
            .into_iter()
            .find_map(|wanted| self.0.get_key_value(wanted))
            .or_else(|| self.0.iter().next())
            .map(|(language, text)| (language, text.as_str()))
    }

    /// All texts in the order of their languages.
    pub fn iter(&self) -> impl Iterator<Item = (&Language, &str)> {
        self.0.iter().map(|(language, text)| (language, text.as_str()))
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A text without control and bidirectional characters; line breaks and tabs become spaces.
pub fn clean(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\n' | '\r' | '\t' => Some(' '),
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            c if c.is_control() => None,
            c => Some(c),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for (tag, language) in [
            ("en", Language::En),
            ("EN-gb", Language::En),
            ("zh-HK", Language::ZhHant),
            ("zh-Hant-MO", Language::ZhHant),
            ("zh-hans", Language::ZhHans),
            ("zh-CN", Language::ZhHans),
            ("pt", Language::Other("pt".into())),
            ("zh", Language::Other("zh".into())),
            ("enm", Language::Other("enm".into())),
        ] {
            assert_eq!(Language::of_tag(tag), language, "{tag}");
        }
    }

    #[test]
    fn readers_get_the_nearest_text() {
        let mut texts = Texts::default();
        assert!(texts.insert(Language::ZhHant, "潮汐"));
        assert!(texts.insert(Language::En, "a\u{202e}b\nc\u{7}"));
        assert!(!texts.insert(Language::En, "again"));
        for (language, expected) in [
            (Language::En, "ab c"),
            (Language::ZhHans, "潮汐"),
            (Language::ZhHant, "潮汐"),
            (Language::Other("pt".into()), "ab c"),
        ] {
            assert_eq!(texts.best(&language).unwrap().1, expected, "{language}");
        }
        assert!(Texts::default().best(&Language::En).is_none());
    }
}
