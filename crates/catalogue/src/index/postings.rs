//! Which datasets contain which words, bigrams and keywords.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use control_plane::ids::DatasetId;

use crate::description::SelfDescription;
use crate::fold::{Folder, Token};

/// A word found in a title counts more than one in a keyword, and that more than one in a description.
const TITLE_WEIGHT: u32 = 8;
const KEYWORD_WEIGHT: u32 = 4;
const DESCRIPTION_WEIGHT: u32 = 1;
/// A whole word counts more than the beginning of one.
const WHOLE_WORD_FACTOR: u32 = 2;
/// Shorter words find only themselves: beginnings of one or two letters fit half the dictionary.
const MIN_PREFIX_CHARS: usize = 3;
/// The most words that one beginning stands for.
const MAX_EXPANSIONS: usize = 512;

#[derive(Debug)]
pub(super) struct Postings {
    folder: Folder,
    tokens: BTreeMap<Token, BTreeMap<DatasetId, u32>>,
    keywords: BTreeMap<String, BTreeSet<DatasetId>>,
}

impl Postings {
    pub fn new() -> Result<Self, ferrous_opencc::error::OpenCCError> {
        Ok(Self { folder: Folder::new()?, tokens: BTreeMap::new(), keywords: BTreeMap::new() })
    }

    pub fn query_tokens(&self, text: &str) -> Vec<Token> {
        self.folder.query_tokens(text)
    }

    pub fn add(&mut self, description: &SelfDescription) {
        for (token, weight) in self.weights(description) {
            self.tokens.entry(token).or_default().insert(description.dataset.clone(), weight);
        }
        for (_, keyword) in &description.keywords {
            self.keywords.entry(self.folder.fold(keyword)).or_default().insert(description.dataset.clone());
        }
    }

    pub fn remove(&mut self, description: &SelfDescription) {
        for token in self.weights(description).into_keys() {
            if let Some(datasets) = self.tokens.get_mut(&token) {
                datasets.remove(&description.dataset);
                if datasets.is_empty() {
                    self.tokens.remove(&token);
                }
            }
        }
        for (_, keyword) in &description.keywords {
            let folded = self.folder.fold(keyword);
            if let Some(datasets) = self.keywords.get_mut(&folded) {
                datasets.remove(&description.dataset);
                if datasets.is_empty() {
                    self.keywords.remove(&folded);
                }
            }
        }
    }

    pub fn with_keyword(&self, keyword: &str) -> BTreeSet<DatasetId> {
        self.keywords.get(&self.folder.fold(keyword)).cloned().unwrap_or_default()
    }

    /// The datasets that have every token, with the sum of the weights.
    pub fn scores(&self, tokens: &[Token]) -> BTreeMap<DatasetId, u32> {
        let mut scores: Option<BTreeMap<DatasetId, u32>> = None;
        for token in tokens {
            let found = self.found(token);
            scores = Some(match scores {
                None => found,
                Some(mut scores) => {
                    scores.retain(|dataset, score| match found.get(dataset) {
                        Some(weight) => {
                            *score = score.saturating_add(*weight);
                            true
                        }
                        None => false,
                    });
                    scores
                }
            });
        }
        scores.unwrap_or_default()
    }

    fn found(&self, token: &Token) -> BTreeMap<DatasetId, u32> {
        let exact = self.tokens.get(token);
        let mut found: BTreeMap<DatasetId, u32> = BTreeMap::new();
        match token {
            Token::Gram(_) => {
                found.extend(exact.into_iter().flatten().map(|(dataset, weight)| (dataset.clone(), *weight)))
            }
            Token::Word(word) => {
                let mut take = |datasets: &BTreeMap<DatasetId, u32>, factor: u32| {
                    for (dataset, weight) in datasets {
                        let weight = weight.saturating_mul(factor);
                        let best = found.entry(dataset.clone()).or_insert(weight);
                        *best = weight.max(*best);
                    }
                };
                if let Some(datasets) = exact {
                    take(datasets, WHOLE_WORD_FACTOR);
                }
                if word.chars().count() >= MIN_PREFIX_CHARS {
                    let longer = self.tokens.range((Bound::Excluded(token), Bound::Unbounded));
                    let begins =
                        |held: &Token| matches!(held, Token::Word(held) if held.starts_with(word.as_str()));
                    longer
                        .take_while(|(held, _)| begins(held))
                        .take(MAX_EXPANSIONS)
                        .for_each(|(_, datasets)| take(datasets, 1));
                }
            }
        }
        found
    }

    /// Every token of a description with the greatest weight of the places where it stands.
    fn weights(&self, description: &SelfDescription) -> BTreeMap<Token, u32> {
        let mut weights = BTreeMap::new();
        let titles = description.titles.iter().map(|(_, text)| (text, TITLE_WEIGHT));
        let keywords = description.keywords.iter().map(|(_, text)| (text.as_str(), KEYWORD_WEIGHT));
        let descriptions = description.descriptions.iter().map(|(_, text)| (text, DESCRIPTION_WEIGHT));
        for (text, weight) in titles.chain(keywords).chain(descriptions) {
            for token in self.folder.index_tokens(text) {
                let best = weights.entry(token).or_insert(weight);
                *best = weight.max(*best);
            }
        }
        weights
    }
}
