//! A source over HTTP that a test holds back and lets go on: a stream that is as slow as the test wants.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::wait::until;

/// Bytes written at once, so that the gate is looked at often enough.
const PIECE: usize = 64 * 1024;

/// A web server with one resource, whose bytes flow only as far as the gate is open.
pub struct Web {
    address: SocketAddr,
    gate: Arc<Gate>,
}

struct Gate {
    open_to: Mutex<usize>,
    changed: Condvar,
    /// The furthest byte that was sent.
    sent_to: AtomicUsize,
    /// Where each request began.
    began_at: Mutex<Vec<usize>>,
}

impl Web {
    /// Serves `content` at every path; the gate is open.
    pub fn serve(content: Vec<u8>) -> Self {
        let listener = TcpListener::bind("[::1]:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound address");
        let gate = Arc::new(Gate {
            open_to: Mutex::new(usize::MAX),
            changed: Condvar::new(),
            sent_to: AtomicUsize::new(0),
            began_at: Mutex::default(),
        });
        let (content, theirs) = (Arc::new(content), gate.clone());
        // Ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), content, gate) = (stream, content.clone(), theirs.clone()) else { return };
                // A reader that goes away is the test's business.
                std::thread::spawn(move || drop(answer(stream, &content, &gate)));
            }
        });
        Self { address, gate }
    }

    /// The settings that allow this source.
    pub fn settings(&self) -> String {
        format!("[[sources.http]]\naddress = \"{}\"\nprivate_addresses = true\n", self.address)
    }

    /// The resource.
    pub fn url(&self) -> String {
        format!("http://{}/slow.bin", self.address)
    }

    /// Lets bytes before `offset` flow, and none behind it.
    pub fn open_to(&self, offset: usize) {
        *self.gate.open_to.lock().expect("no writer panics") = offset;
        self.gate.changed.notify_all();
    }

    /// Lets bytes before `offset` flow and forgets what was sent, for a reading that begins anew.
    pub fn hold_at(&self, offset: usize) {
        self.open_to(offset);
        self.gate.sent_to.store(0, Ordering::SeqCst);
        self.gate.began_at.lock().expect("no writer panics").clear();
    }

    /// Waits until bytes before `offset` were sent.
    pub fn sent(&self, offset: usize) {
        let sent = || (self.gate.sent_to.load(Ordering::SeqCst) >= offset).then_some(());
        until(&format!("the source has sent {offset} bytes"), sent);
    }

    /// Where the requests since [`Web::hold_at`] began.
    pub fn began_at(&self) -> Vec<usize> {
        self.gate.began_at.lock().expect("no writer panics").clone()
    }
}

impl Gate {
    fn wait_for(&self, offset: usize) {
        let open = self.open_to.lock().expect("no writer panics");
        drop(self.changed.wait_while(open, |open| *open <= offset).expect("no writer panics"));
    }
}

fn answer(mut stream: TcpStream, content: &[u8], gate: &Gate) -> std::io::Result<()> {
    let mut from = 0;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().unwrap_or(0);
        }
    }
    gate.began_at.lock().expect("no writer panics").push(from);
    let (size, length) = (content.len(), content.len() - from);
    let status = if from == 0 {
        "200 OK".to_owned()
    } else {
        format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}", size - 1)
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nETag: \"one\"\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    while from < size {
        gate.wait_for(from);
        let until = (from + PIECE).min(size).min(*gate.open_to.lock().expect("no writer panics"));
        stream.write_all(&content[from..until])?;
        from = until;
        gate.sent_to.fetch_max(from, Ordering::SeqCst);
    }
    Ok(())
}
