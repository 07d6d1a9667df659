//! A strict JSON reader that keeps line, column and the exact text of numbers.
//!
//! A doubled member name is an error: two readers of one signed text must not see two different policies.

/// The deepest nesting accepted: far beyond any real policy, and small enough for the stack.
pub(crate) const MAX_DEPTH: usize = 48;
/// The most members of one object: no policy node has more, and the search for doubles stays cheap.
const MAX_MEMBERS: usize = 512;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Json {
    pub line: u32,
    pub column: u32,
    pub value: JsonValue,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JsonValue {
    Null,
    Bool(bool),
    /// The number as written.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

#[derive(Debug, PartialEq)]
pub(crate) struct JsonError {
    pub line: u32,
    pub column: u32,
    pub what: &'static str,
    pub too_deep: bool,
}

pub(crate) fn parse(text: &str) -> Result<Json, JsonError> {
    let mut reader = Reader { text, at: 0, line: 1, column: 1 };
    let value = reader.value(0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.error("text after the end of the JSON value"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
}

impl Reader<'_> {
    fn error(&self, what: &'static str) -> JsonError {
        JsonError { line: self.line, column: self.column, what, too_deep: false }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn advance(&mut self, bytes: usize) {
        let end = self.at.saturating_add(bytes).min(self.text.len());
        for c in self.text.get(self.at..end).unwrap_or("").chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.at = end;
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.advance(1);
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        if found {
            self.advance(1);
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError { too_deep: true, ..self.error("nested too deeply") });
        }
        self.space();
        let (line, column) = (self.line, self.column);
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => JsonValue::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Json { line, column, value })
    }

    fn word(&mut self) -> Result<JsonValue, JsonError> {
        for (word, value) in
            [("true", JsonValue::Bool(true)), ("false", JsonValue::Bool(false)), ("null", JsonValue::Null)]
        {
            if self.rest().starts_with(word) {
                self.advance(word.len());
                return Ok(value);
            }
        }
        Err(self.error("a JSON value is expected here"))
    }

    fn number(&mut self) -> Result<JsonValue, JsonError> {
        let length = self
            .rest()
            .bytes()
            .take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
            .count();
        let token = self.rest().get(..length).unwrap_or("").to_owned();
        if serde_json::from_str::<serde_json::Number>(&token).is_err() {
            return Err(self.error("not a JSON number"));
        }
        self.advance(length);
        Ok(JsonValue::Number(token))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let mut escaped = false;
        let end = self.rest().bytes().skip(1).position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        });
        let Some(end) = end else {
            return Err(self.error("the text is not closed"));
        };
        let token = self.rest().get(..end + 2).unwrap_or("");
        let Ok(text) = serde_json::from_str::<String>(token) else {
            return Err(self.error("not a JSON text"));
        };
        self.advance(end + 2);
        Ok(text)
    }

    fn array(&mut self, depth: usize) -> Result<JsonValue, JsonError> {
        self.advance(1);
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(JsonValue::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.eat(b']') {
                return Ok(JsonValue::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.error("`,` or `]` is expected here"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<JsonValue, JsonError> {
        self.advance(1);
        let mut members: Vec<(String, Json)> = Vec::new();
        if self.eat(b'}') {
            return Ok(JsonValue::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.error("a member name is expected here"));
            }
            let name = self.string()?;
            if members.iter().any(|(known, _)| *known == name) {
                return Err(self.error("the member is given twice"));
            }
            if !self.eat(b':') {
                return Err(self.error("`:` is expected here"));
            }
            if members.len() >= MAX_MEMBERS {
                return Err(JsonError { too_deep: true, ..self.error("too many members in one object") });
            }
            members.push((name, self.value(depth + 1)?));
            if self.eat(b'}') {
                return Ok(JsonValue::Object(members));
            }
            if !self.eat(b',') {
                return Err(self.error("`,` or `}` is expected here"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_serde_json_on_validity() {
        for text in [
            "{}",
            "[]",
            "1",
            "-1.50",
            "1e3",
            "\"a\\\"b\"",
            "{\"a\":[1,{\"b\":null}]}",
            " true ",
            "01",
            "{\"a\"}",
            "[1,]",
            "\"\\u12\"",
            "nul",
            "",
            "{} {}",
            "\"a",
            "\"\\\\\"",
            "+1",
            "1.",
            "{,}",
            "\"\n\"",
        ] {
            let theirs = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(parse(text).is_ok(), theirs, "{text}");
        }
    }

    #[test]
    fn positions_doubles_and_depth() {
        let Json { value: JsonValue::Object(members), .. } = parse("{\n  \"é\": 1,\n \"b\": 1.50}").unwrap()
        else {
            panic!("an object");
        };
        assert_eq!((members[1].1.line, members[1].1.column), (3, 7));
        assert_eq!(members[1].1.value, JsonValue::Number("1.50".into()));
        assert_eq!(parse("{\"a\":1,\"a\":2}").unwrap_err().what, "the member is given twice");
        assert!(parse(&"[".repeat(100_000)).unwrap_err().too_deep);
    }
}
