//! Log lines for people or machines: each event once, with the fields of the spans it happened in.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

use super::TelemetryError;
use crate::config::{LogFormat, LogLevel, Logging};

/// Our own code; what libraries say at levels below warnings may hold bytes of the wire.
const OUR_CRATES: &[&str] = &[
    "catalogue",
    "connector",
    "control_plane",
    "data_plane",
    "fairlead",
    "identity",
    "ledger",
    "policy",
    "proto",
    "store",
];

/// The longest value of a field: enough for a refusal with its cause, too little for a dataset.
const MAX_VALUE_CHARS: usize = 2_000;

/// Sends the process's logs to standard error; once in a process.
pub fn init_logs(logging: &Logging) -> Result<Logs, TelemetryError> {
    let lines = LogLines::new(logging.format, |line| {
        // Where standard error is closed there is nobody left to tell.
        drop(std::io::stderr().lock().write_all(line));
    });
    let (filter, level) = reload::Layer::new(targets(logging.level));
    // The default is set without the bridge from the `log` crate, through which libraries would speak.
    tracing::subscriber::set_global_default(Registry::default().with(lines.with_filter(filter)))
        .map_err(|_| TelemetryError::AlreadyInstalled("logs"))?;
    Ok(Logs { level })
}

/// The installed logs.
pub struct Logs {
    level: reload::Handle<Targets, Registry>,
}

impl Logs {
    /// Changes how much is logged from here on.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only once the subscriber is gone, with the process.
        drop(self.level.reload(targets(level)));
    }
}

fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    OUR_CRATES.iter().fold(Targets::new().with_default(ours.min(LevelFilter::WARN)), |targets, name| {
        targets.with_target(*name, ours)
    })
}

/// Writes each event as one line that ends in a line feed.
pub struct LogLines<W> {
    format: LogFormat,
    write: W,
}

impl<W: Fn(&[u8]) + Send + Sync + 'static> LogLines<W> {
    /// Lines of `format`, each given whole to `write`.
    pub const fn new(format: LogFormat, write: W) -> Self {
        Self { format, write }
    }
}

impl<S, W> Layer<S> for LogLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&[u8]) + Send + Sync + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = SpanFields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = SpanFields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(of_span) = span.extensions().get::<SpanFields>() {
                fields.0.extend(of_span.0.clone());
            }
        }
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(message)) => message,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let time = format!("{:.3}", jiff::Timestamp::now());
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let line = match self.format {
            LogFormat::Json => json_line(&time, level.as_str(), target, message, fields.0),
            LogFormat::Text => text_line(&time, level.as_str(), target, &message, &fields.0),
        };
        (self.write)(line.as_bytes());
    }
}

/// Fields by name, cleaned; the innermost value of a name wins.
#[derive(Clone, Default)]
pub(super) struct SpanFields(Map<String, Value>);

impl SpanFields {
    /// A field that is a text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for SpanFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Clean::default();
        let _ = text.write_str(value);
        self.put(field, text.finish());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = Clean::default();
        let _ = write!(text, "{value}");
        let mut source = value.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.put(field, text.finish());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Clean::default();
        let _ = write!(text, "{value:?}");
        self.put(field, text.finish());
    }
}

/// Collects a bounded text without characters that could forge a line or turn its direction.
///
/// Writing fails at the bound, which ends the formatting of an oversized value early.
#[derive(Default)]
struct Clean {
    text: String,
    chars: usize,
}

impl Clean {
    fn finish(mut self) -> String {
        if self.chars > MAX_VALUE_CHARS {
            self.text.push('…');
        }
        self.text
    }
}

impl fmt::Write for Clean {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for character in piece.chars() {
            self.chars = self.chars.saturating_add(1);
            if self.chars > MAX_VALUE_CHARS {
                return Err(fmt::Error);
            }
            let shown = if character.is_control() || is_direction(character) { '?' } else { character };
            self.text.push(shown);
        }
        Ok(())
    }
}

const fn is_direction(character: char) -> bool {
    matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn json_line(time: &str, level: &str, target: &str, message: String, fields: Map<String, Value>) -> String {
    let mut line = Map::new();
    // Our own four come last, so that no field can take their place.
    line.extend(fields);
    line.insert("time".to_owned(), time.into());
    line.insert("level".to_owned(), level.into());
    line.insert("target".to_owned(), target.into());
    line.insert("message".to_owned(), message.into());
    format!("{}\n", Value::Object(line))
}

fn text_line(time: &str, level: &str, target: &str, message: &str, fields: &Map<String, Value>) -> String {
    let mut line = format!("{time} {level:>5} {target}: {message}");
    for (name, value) in fields {
        let plain = |text: &str| !text.is_empty() && !text.contains([' ', '"', '=']);
        // Writing to a text cannot fail.
        let _ = match value {
            Value::String(text) if plain(text) => write!(line, " {name}={text}"),
            other => write!(line, " {name}={other}"),
        };
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::telemetry::RequestId;

    /// What `work` logs.
    fn logged(format: LogFormat, level: LogLevel, work: impl FnOnce()) -> Vec<String> {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = written.clone();
        let lines = LogLines::new(format, move |line| {
            sink.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap());
        });
        let subscriber = Registry::default().with(lines.with_filter(targets(level)));
        tracing::subscriber::with_default(subscriber, work);
        let lines = written.lock().unwrap().clone();
        assert!(
            lines.iter().all(|line| line.ends_with('\n') && line.matches('\n').count() == 1),
            "{lines:?}"
        );
        lines
    }

    #[test]
    fn the_request_id_is_one_field_of_every_line_within_the_request() {
        let id = RequestId::carried_or_fresh(Some("r-1"));
        let lines = logged(LogFormat::Json, LogLevel::Info, || {
            assert_eq!(RequestId::current(), None);
            id.span("negotiate").in_scope(|| {
                let inner =
                    tracing::info_span!("step", peer = "https://a.example/id", state = tracing::field::Empty);
                inner.record("state", "AGREED");
                inner.in_scope(|| {
                    assert_eq!(RequestId::current(), Some(id.clone()));
                    tracing::info!(bytes = 3, "agreed");
                });
            });
            tracing::warn!("outside");
        });
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["request_id"], "r-1");
        assert_eq!(
            (&lines[0]["peer"], &lines[0]["state"]),
            (&"https://a.example/id".into(), &"AGREED".into())
        );
        assert_eq!((&lines[0]["message"], &lines[0]["bytes"]), (&"agreed".into(), &3.into()));
        assert_eq!((&lines[0]["level"], &lines[0]["what"]), (&"INFO".into(), &"negotiate".into()));
        assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(lines[1].get("request_id"), None);
    }

    #[test]
    fn the_request_is_known_even_where_only_errors_are_logged() {
        let id = RequestId::fresh();
        let lines = logged(LogFormat::Text, LogLevel::Error, || {
            id.span("pull").in_scope(|| {
                assert_eq!(RequestId::current(), Some(id.clone()));
                tracing::warn!("not written");
                tracing::error!("written");
            });
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(&format!("written request_id={id} what=pull\n")), "{lines:?}");
    }

    #[test]
    fn values_cannot_forge_lines_and_are_bounded() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = logged(format, LogLevel::Info, || {
                let peer_says = "a\n2026 ERROR forged\u{202e}\u{1b}[31m";
                tracing::info!(peer_says, time = "now", shown = %peer_says, debug = ?peer_says, "{peer_says}");
                tracing::info!(long = "x".repeat(100_000));
                tracing::info!(error = &std::io::Error::other("cause") as &dyn std::error::Error, "failed");
            });
            assert_eq!(lines.len(), 3);
            assert!(!lines[0].trim_end().contains(|c: char| c.is_control() || is_direction(c)), "{lines:?}");
            assert!(lines[0].contains("a?2026 ERROR forged??[31m"), "{lines:?}");
            assert!(lines[1].len() < 2 * MAX_VALUE_CHARS && lines[1].contains('…'), "{}", lines[1].len());
            assert!(lines[2].contains("cause"), "{lines:?}");
        }
    }

    #[test]
    fn libraries_never_say_more_than_warnings() {
        let lines = logged(LogFormat::Text, LogLevel::Trace, || {
            tracing::trace!(target: "h2::codec", "frame");
            tracing::info!(target: "rustls", "handshake");
            tracing::warn!(target: "hyper", "closed");
            tracing::trace!(target: "store::writer", "commit");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains(" WARN hyper: closed") && lines[1].contains("TRACE store::writer: commit"),
            "{lines:?}"
        );
    }
}
