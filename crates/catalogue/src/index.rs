//! Finding datasets: the live descriptions in memory, searched by text and filtered by statement.
//!
//! A cache of the log: [`Index::rebuild`] makes it, [`Index::apply`] follows each admitted envelope. One writer
//! (`&mut`), many readers. Statements are held by oxigraph, texts by postings of folded words and bigrams.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_plane::ids::{DatasetId, ParticipantId};
use control_plane::{Refusal, UnixMillis};
use oxrdf::{NamedNode, Quad};
use serde::{Deserialize, Serialize};

use crate::description::SelfDescription;
use crate::hash::Digest;
use crate::log::{
    Admitted, Entry, EntryState, Head, LogError, LogReader, UNKNOWN_DATASET, expires_at, state_at,
};
use crate::text::Language;
use crate::vocabulary as v;

mod build;
mod postings;
mod statements;

use postings::Postings;
use statements::StatementStore;

policy::refusal_codes! {
    BAD_QUERY = "catalogue/bad-query", Input,
        "the search is empty of words, too long, or a filter is not an IRI", "搜尋沒有字詞、過長，或篩選值不是 IRI", "搜索没有字词、过长，或筛选值不是 IRI",
        clause "catalogue: reading", next "search for at most 32 words in 256 characters, and filter by IRIs";
    BAD_PAGE_TOKEN = "catalogue/bad-page-token", Input,
        "the page token does not belong to this search", "分頁標記不屬於此次搜尋", "分页标记不属于此次搜索",
        clause "catalogue: reading", next "begin again with the first page";
}

/// The longest search text, in characters.
pub const MAX_TEXT_CHARS: usize = 256;
/// The most words and bigrams of a search.
pub const MAX_TOKENS: usize = 256;
/// The most filters, and the most purposes, of a search.
pub const MAX_FILTERS: usize = 32;
/// The largest page.
pub const MAX_PAGE_SIZE: usize = 100;
/// The page size where none is given.
pub const DEFAULT_PAGE_SIZE: usize = 20;
/// The longest summary of a hit, in characters.
pub const MAX_SUMMARY_CHARS: usize = 300;

/// A search: everything given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Words in titles, descriptions and keywords; all of them, in either Chinese script. Empty: no condition.
    pub text: String,
    /// A whole keyword, in either Chinese script and any case.
    pub keyword: Option<String>,
    /// A theme IRI.
    pub theme: Option<String>,
    /// Whose datasets.
    pub publisher: Option<ParticipantId>,
    /// Purposes of which an offer must name one, or not limit the purpose. The caller adds the broader ones.
    pub purposes: Vec<String>,
    /// Statements that must stand in the description: predicate IRI and value IRI, e.g. `dct:license`.
    pub statements: Vec<(String, String)>,
    /// The language of the reader; chooses the texts shown, not the hits. English where none is given.
    pub language: Option<Language>,
    /// Hits of one page, at most [`MAX_PAGE_SIZE`]; 0 means [`DEFAULT_PAGE_SIZE`].
    pub page_size: usize,
    /// Where to go on: `next` of the page before; empty for the first.
    pub page_token: String,
}

/// One page of hits, best first.
#[derive(Clone, Debug)]
pub struct Page {
    /// The hits.
    pub hits: Vec<Hit>,
    /// How many there are in all at this moment.
    pub total: usize,
    /// The token of the next page, if there is one.
    pub next: Option<String>,
}

/// A dataset that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The dataset with its place in the log.
    pub listed: Listed,
    /// Its title in the language nearest to the reader's.
    pub title: (Language, String),
    /// The beginning of its description in the language nearest to the reader's.
    pub summary: (Language, String),
    /// How well it fits; comparable within one search only.
    pub score: u32,
}

/// A live dataset.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What its publisher says about it.
    pub description: Arc<SelfDescription>,
    /// Epoch of its envelope.
    pub epoch: u32,
    /// Sequence number of its envelope, see [`crate::log::envelope_at`].
    pub seq: u64,
    /// When the envelope was issued.
    pub issued: UnixMillis,
    /// Until when it is shown, renewals included.
    pub expires: UnixMillis,
}

/// The index cannot go on; rebuild it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The statement store failed.
    #[error("the statement store failed")]
    Statements(#[from] oxigraph::store::StorageError),
    /// The tables of folding are not there.
    #[error("the folding tables cannot be read")]
    Folding(#[from] ferrous_opencc::error::OpenCCError),
    /// Admitted content does not parse.
    #[error("admitted content does not parse: {0}")]
    Content(crate::report::Report),
}

/// Rebuilding failed.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError<E: std::error::Error + 'static> {
    /// In the log.
    #[error(transparent)]
    Log(#[from] LogError<E>),
    /// In the index.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// The live descriptions of all publishers.
#[derive(Debug)]
pub struct Index {
    heads: BTreeMap<ParticipantId, Head>,
    documents: BTreeMap<DatasetId, Document>,
    postings: Postings,
    statements: StatementStore,
}

#[derive(Debug)]
struct Document {
    description: Arc<SelfDescription>,
    entry: Entry,
}

impl Index {
    /// An empty index.
    pub fn new() -> Result<Self, IndexError> {
        Ok(Self {
            heads: BTreeMap::new(),
            documents: BTreeMap::new(),
            postings: Postings::new()?,
            statements: StatementStore::new()?,
        })
    }

    /// The index of everything that the log holds.
    pub fn rebuild<R: LogReader>(reader: &R) -> Result<Self, RebuildError<R::Error>> {
        build::rebuild(reader)
    }

    /// Follows an admitted envelope. After an error the index must be rebuilt.
    pub fn apply(&mut self, admitted: &Admitted) -> Result<(), IndexError> {
        build::apply(self, admitted)
    }

    /// How many datasets it holds, expired ones included.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// An active dataset.
    pub fn get(&self, dataset: &DatasetId, now: UnixMillis) -> Result<Listed, Refusal> {
        self.documents
            .get(dataset)
            .and_then(|document| self.listed(document, now))
            .ok_or_else(|| Refusal::new(&UNKNOWN_DATASET, dataset.to_string()))
    }

    /// The statements of a dataset's description, active or not; empty if it is not here.
    pub fn statements(&self, dataset: &DatasetId) -> Result<Vec<Quad>, IndexError> {
        Ok(self.statements.graph(&NamedNode::new_unchecked(dataset.as_str()))?)
    }

    /// The active datasets that fit `query` at `now`: best score first, then last modified, then by IRI.
    pub fn search(&self, query: &Query, now: UnixMillis) -> Result<Page, Refusal> {
        let tokens = self.check(query)?;
        let after = Position::parse(query)?;
        let scores = if query.text.is_empty() { None } else { Some(self.postings.scores(&tokens)) };
        let sets = self.filter_sets(query)?;
        let fits = |dataset: &DatasetId| sets.iter().all(|set| set.contains(dataset));
        let mut found = Vec::new();
        let mut consider = |dataset: &DatasetId, score: u32| {
            if fits(dataset)
                && let Some(document) = self.documents.get(dataset)
                && document.fits(query)
                && let Some(listed) = self.listed(document, now)
            {
                found.push((Position::of(&listed, score), listed, score));
            }
        };
        let smallest = sets.iter().min_by_key(|set| set.len());
        match (&scores, smallest) {
            (Some(scores), _) => scores.iter().for_each(|(dataset, score)| consider(dataset, *score)),
            (None, Some(set)) => set.iter().for_each(|dataset| consider(dataset, 0)),
            (None, None) => self.documents.keys().for_each(|dataset| consider(dataset, 0)),
        }
        found.sort_by(|(left, ..), (right, ..)| left.cmp(right));
        let total = found.len();
        let page_size = if query.page_size == 0 { DEFAULT_PAGE_SIZE } else { query.page_size };
        let begin = after.map_or(0, |after| found.partition_point(|(position, ..)| *position <= after));
        let rest = found.len().saturating_sub(begin);
        let language = query.language.clone().unwrap_or(Language::En);
        let mut last = None;
        let mut hits = Vec::new();
        for (position, listed, score) in found.into_iter().skip(begin).take(page_size) {
            last = Some(position);
            hits.push(Hit::new(listed, score, &language));
        }
        let next = last.filter(|_| rest > page_size).map(|position| position.token(query));
        Ok(Page { hits, total, next })
    }

    fn check(&self, query: &Query) -> Result<Vec<crate::fold::Token>, Refusal> {
        let bad = |what: &str| Err(Refusal::new(&BAD_QUERY, what));
        if query.text.chars().count() > MAX_TEXT_CHARS
            || query.keyword.as_ref().is_some_and(|keyword| keyword.chars().count() > MAX_TEXT_CHARS)
        {
            return bad("text too long");
        }
        if query.page_size > MAX_PAGE_SIZE {
            return bad("page size");
        }
        if query.statements.len() > MAX_FILTERS || query.purposes.len() > MAX_FILTERS {
            return bad("too many filters");
        }
        let tokens = self.postings.query_tokens(&query.text);
        if tokens.len() > MAX_TOKENS || (tokens.is_empty() && !query.text.is_empty()) {
            return bad("words");
        }
        Ok(tokens)
    }

    fn filter_sets(&self, query: &Query) -> Result<Vec<BTreeSet<DatasetId>>, Refusal> {
        let mut sets = Vec::new();
        if let Some(keyword) = &query.keyword {
            sets.push(self.postings.with_keyword(keyword));
        }
        let theme = query.theme.iter().map(|theme| (v::DCAT_THEME, theme.as_str()));
        let publisher = query.publisher.iter().map(|publisher| (v::DCT_PUBLISHER, publisher.as_str()));
        let statements =
            query.statements.iter().map(|(predicate, value)| (predicate.as_str(), value.as_str()));
        for (predicate, value) in theme.chain(publisher).chain(statements) {
            let node = |iri: &str| {
                let bad = |_| Refusal::new(&BAD_QUERY, control_plane::ids::printable(iri));
                NamedNode::new(iri).map_err(bad)
            };
            let found = self.statements.graphs_with(&node(predicate)?, &node(value)?);
            sets.push(found.map_err(|error| Refusal::new(&BAD_QUERY, error.to_string()))?);
        }
        Ok(sets)
    }

    fn listed(&self, document: &Document, now: UnixMillis) -> Option<Listed> {
        let head = self.heads.get(&document.description.publisher)?;
        let entry = &document.entry;
        (state_at(head, entry, now) == EntryState::Active).then(|| Listed {
            description: Arc::clone(&document.description),
            epoch: entry.epoch,
            seq: entry.seq,
            issued: entry.issued,
            expires: expires_at(head, entry),
        })
    }
}

impl Document {
    fn fits(&self, query: &Query) -> bool {
        let mut offers = self.description.offers.iter();
        query.purposes.is_empty()
            || offers.any(|offer| {
                offer.any_purpose || query.purposes.iter().any(|wanted| offer.purposes.contains(wanted))
            })
    }
}

impl Hit {
    fn new(listed: Listed, score: u32, language: &Language) -> Self {
        let shown = |texts: &crate::text::Texts, max: usize| {
            texts.best(language).map_or((Language::En, String::new()), |(language, text)| {
                (language.clone(), text.chars().take(max).collect())
            })
        };
        let title = shown(&listed.description.titles, crate::description::MAX_TITLE_CHARS);
        let summary = shown(&listed.description.descriptions, MAX_SUMMARY_CHARS);
        Self { listed, title, summary, score }
    }
}

/// A hit's place in the order of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    score: u32,
    modified: UnixMillis,
    dataset: String,
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.score, other.modified, &self.dataset).cmp(&(self.score, self.modified, &other.dataset))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a page token says. It is no secret and proves nothing: any position is one that the caller may ask for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    query: String,
    score: u32,
    modified: i64,
    dataset: String,
}

impl Position {
    fn of(listed: &Listed, score: u32) -> Self {
        let SelfDescription { modified, dataset, .. } = listed.description.as_ref();
        Self { score, modified: *modified, dataset: dataset.to_string() }
    }

    fn token(self, query: &Query) -> String {
        let Self { score, modified, dataset } = self;
        let token = Token { query: query_digest(query), score, modified: modified.0, dataset };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    fn parse(query: &Query) -> Result<Option<Self>, Refusal> {
        const MAX_TOKEN_BYTES: usize = 1024;
        if query.page_token.is_empty() {
            return Ok(None);
        }
        let refuse = || Refusal::new(&BAD_PAGE_TOKEN, "");
        if query.page_token.len() > MAX_TOKEN_BYTES {
            return Err(refuse());
        }
        let bytes = URL_SAFE_NO_PAD.decode(&query.page_token).map_err(|_| refuse())?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| refuse())?;
        if token.query != query_digest(query) {
            return Err(refuse());
        }
        Ok(Some(Self { score: token.score, modified: UnixMillis(token.modified), dataset: token.dataset }))
    }
}

/// Binds a page token to everything that decides hits and order; language and page size may change between pages.
fn query_digest(query: &Query) -> String {
    let Query {
        text,
        keyword,
        theme,
        publisher,
        purposes,
        statements,
        language: _,
        page_size: _,
        page_token: _,
    } = query;
    let publisher = publisher.as_ref().map(ParticipantId::as_str);
    let value = serde_json::json!([text, keyword, theme, publisher, purposes, statements]);
    Digest::of(value.to_string().as_bytes()).to_string()
}
