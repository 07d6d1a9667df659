//! Which user of this host holds the other end of a loopback connection, as the kernel lists its sockets.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Lines read of one list: more sockets than a host of ours has.
const MAX_SOCKETS: usize = 100_000;

/// The user whose socket is at `remote` and talks to `local`; `None` if the kernel does not list it.
pub fn of(remote: SocketAddr, local: SocketAddr) -> Option<u32> {
    let lists = ["/proc/net/tcp6", "/proc/net/tcp"];
    lists.iter().find_map(|list| {
        let lines = BufReader::new(File::open(list).ok()?).lines();
        // Theirs: what is remote to us is local to them.
        lines.take(MAX_SOCKETS).map_while(Result::ok).find_map(|line| owner(&line, remote, local))
    })
}

/// The user in one line of the list, if it is the socket from `here` to `there`.
fn owner(line: &str, here: SocketAddr, there: SocketAddr) -> Option<u32> {
    let mut fields = line.split_whitespace();
    let (local, remote) = (address(fields.nth(1)?)?, address(fields.next()?)?);
    let same = |left: SocketAddr, right: SocketAddr| {
        left.port() == right.port() && left.ip().to_canonical() == right.ip().to_canonical()
    };
    if !same(local, here) || !same(remote, there) {
        return None;
    }
    // state, queues, timer, retransmissions, then the user.
    fields.nth(4)?.parse().ok()
}

/// `00000000000000000000000001000000:1D24`: 32-bit words in the machine's byte order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<[u8; 4]> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<_>>()?;
    let ip = match *words.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(word)),
        [first, second, third, fourth] => {
            let mut bytes = [0_u8; 16];
            for (to, from) in bytes.iter_mut().zip([first, second, third, fourth].concat()) {
                *to = from;
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn our_own_connections_are_ours() {
        for bind in ["[::1]:0", "127.0.0.1:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let program = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, remote) = listener.accept().unwrap();
            let found = of(remote, accepted.local_addr().unwrap());
            assert_eq!(found, Some(rustix::process::geteuid().as_raw()), "{bind}");
            let (other, port) = (remote, remote.port() ^ 1);
            assert_eq!(of(SocketAddr::new(other.ip(), port), accepted.local_addr().unwrap()), None, "{bind}");
            drop(program);
        }
    }

    #[test]
    fn lines() {
        let line = "   3: 00000000000000000000000001000000:B2A8 00000000000000000000000001000000:1D24 01 00000000:00000000 00:00000000 00000000  1000        0 34041 1 0 20 4 30 10 -1";
        let at = |port| SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
        let little_endian = cfg!(target_endian = "little");
        assert_eq!(owner(line, at(0xB2A8), at(0x1D24)), little_endian.then_some(1000));
        assert_eq!(owner(line, at(0x1D24), at(0xB2A8)), None, "the other end is another socket");
        for bad in ["", "sl local_address", "0: zz:1 yy:2", "0: 0100007F:0050"] {
            assert_eq!(owner(bad, at(1), at(2)), None, "{bad}");
        }
    }
}
