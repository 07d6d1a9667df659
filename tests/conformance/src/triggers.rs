//! The two addresses at which the kit asks the connector to begin something; each becomes a command.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use federation_tests::connector::Connector;
use serde_json::Value;

use crate::{KIT, seed};

/// A listener for the kit.
pub struct Triggers<'a> {
    /// Where it listens.
    pub address: String,
    listener: TcpListener,
    connector: &'a Connector,
}

/// The path that ends [`Triggers::answer`].
const END: &str = "/end";

/// Listens.
pub fn serve(connector: &Connector) -> Triggers<'_> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a bound address").to_string();
    Triggers { address, listener, connector }
}

/// Ends the listener at this address when dropped.
pub struct Ending(pub String);

impl Drop for Ending {
    fn drop(&mut self) {
        // A listener that is gone already has ended.
        drop(
            TcpStream::connect(&self.0).and_then(|mut stream| write!(stream, "POST {END} HTTP/1.1\r\n\r\n")),
        );
    }
}

impl Triggers<'_> {
    /// Answers one request after the other: the kit asks one thing at a time.
    pub fn answer(&self) {
        for stream in self.listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (path, body) = request(&stream);
            match path.as_str() {
                END => return,
                "/negotiations" => self.negotiate(&body),
                "/transfers" => self.transfer(&body),
                other => panic!("the kit asked for `{other}`"),
            }
            // A kit that went away is told by its own test.
            drop(write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
        }
    }

    fn negotiate(&self, asked: &Value) {
        let [offer, dataset, url] =
            ["offerId", "datasetId", "connectorAddress"].map(|name| text(asked, name));
        let dataset = format!("{KIT}/{dataset}");
        let terms = seed::terms(&format!("{KIT}/{offer}"), &dataset);
        seed::negotiate(self.connector, &dataset, &terms, url);
    }

    fn transfer(&self, asked: &Value) {
        let [agreement, format, url] =
            ["agreementId", "format", "connectorAddress"].map(|name| text(asked, name));
        let agreement = format!("{KIT}/{agreement}");
        let start = ["transfer", "start", &agreement, "--format", format, "--peer-url", url, "--no-wait"];
        self.connector.run(&start).done();
    }
}

fn text<'a>(asked: &'a Value, name: &str) -> &'a str {
    asked[name].as_str().unwrap_or_else(|| panic!("the kit's request has no `{name}`: {asked}"))
}

fn request(stream: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a first line");
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header line");
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(told) = header.strip_prefix("content-length:") {
            length = told.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    (path, serde_json::from_slice(&body).unwrap_or(Value::Null))
}
