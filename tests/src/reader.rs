//! A program that reads held data at a connector's use endpoint, as curl does: over a plain socket, at its own pace.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// A session as `fairlead session open` printed it.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What was printed.
    pub shown: Value,
    /// Its name.
    pub id: String,
    /// Its token.
    pub token: String,
    /// Where its first object is read.
    pub url: String,
}

impl Opened {
    /// Reads what was printed.
    #[track_caller]
    pub fn of(shown: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
        let (id, token, url) = (text(&shown["id"]), text(&shown["token"]), text(&shown["objects"][0]["url"]));
        Self { id, token, url, shown }
    }

    /// The endpoint.
    pub fn address(&self) -> SocketAddr {
        let host = self.url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL").0;
        host.parse().expect("an address")
    }

    /// The path of the first object.
    pub fn path(&self) -> &str {
        let rest = self.url.strip_prefix("http://").expect("a URL");
        &rest[rest.find('/').expect("a path")..]
    }

    /// Asks for the first object with this further header line.
    pub fn get(&self, more: &[&str]) -> Reading {
        self.ask("GET", self.path(), &[&[self.bearer().as_str()][..], more].concat())
    }

    /// Asks with these header lines, and `Host` where none of them gives it.
    pub fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Reading {
        let mut stream = TcpStream::connect(self.address()).expect("the use endpoint listens");
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
            head.push_str(&format!("Host: {}\r\n", self.address()));
        }
        for line in headers {
            head.push_str(line);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).expect("the request is sent");
        Reading::begin(stream)
    }

    /// The header line that shows the token.
    pub fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }
}

/// An answer whose body is still to be read.
pub struct Reading {
    /// Status.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<String>,
    body: BufReader<TcpStream>,
}

impl Reading {
    fn begin(stream: TcpStream) -> Self {
        let mut body = BufReader::new(stream);
        let mut line = String::new();
        body.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("`{line}`"));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            body.read_line(&mut line).expect("a header line");
            let line = line.trim_end();
            if line.is_empty() {
                return Self { status, headers, body };
            }
            let (name, value) = line.split_once(':').expect("a header");
            headers.push(format!("{}:{}", name.to_ascii_lowercase(), value));
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(&format!("{name}:")).map(str::trim))
    }

    /// Reads so many bytes of the body.
    #[track_caller]
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut taken = vec![0; bytes];
        self.body.read_exact(&mut taken).expect("so many bytes come");
        taken
    }

    /// Reads the rest; how many bytes came, and whether that is all that was announced.
    pub fn rest(mut self) -> (Vec<u8>, bool) {
        let announced = self.header("content-length").and_then(|text| text.parse::<usize>().ok());
        let mut rest = Vec::new();
        // A reset is an end, too.
        let whole = self.body.read_to_end(&mut rest).is_ok() && announced == Some(rest.len());
        (rest, whole)
    }

    /// The whole body of an answer that is not cut.
    #[track_caller]
    pub fn body(self) -> Vec<u8> {
        let (body, whole) = self.rest();
        assert!(whole, "{} bytes and no more", body.len());
        body
    }

    /// The refusal in the body.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) {
        let found = self.status;
        let body: Value = serde_json::from_slice(&self.body()).expect("a refusal is JSON");
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{body}");
    }
}
