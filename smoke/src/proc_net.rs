//! Listening sockets from /proc/net (proc_net(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{fmt, fs};

/// A TCP socket that listens or a UDP socket without a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub address: SocketAddr,
    pub udp: bool,
}

impl Socket {
    fn protocol(&self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }

    /// Port and protocol without the address: `22/tcp`.
    pub(crate) fn port_and_protocol(&self) -> String {
        format!("{}/{}", self.address.port(), self.protocol())
    }
}

/// `127.0.0.1:25/tcp`
impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol())
    }
}

/// The sockets that listen now.
pub(crate) fn listening() -> Result<Vec<Socket>, String> {
    let mut sockets = Vec::new();
    for (file, udp) in [("tcp", false), ("tcp6", false), ("udp", true), ("udp6", true)] {
        let path = format!("/proc/net/{file}");
        match fs::read_to_string(&path) {
            Ok(text) => sockets.extend(text.lines().skip(1).filter_map(|line| read(line, udp))),
            // A kernel without IPv6 has no such file.
            Err(_) if file.ends_with('6') => {}
            Err(e) => return Err(format!("{path}: {e}")),
        }
    }
    Ok(sockets)
}

/// The socket of a line, if it is a TCP socket in state 0A (listen) or a UDP socket in state 07 (no peer).
fn read(line: &str, udp: bool) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (local, _, state) = (words.next()?, words.next()?, words.next()?);
    if state != if udp { "07" } else { "0A" } {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    Some(Socket { address: SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?), udp })
}

/// The kernel prints an address as 32-bit words, each in the byte order of the processor.
fn address(hex: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..hex.len() / 8)
        .map(|n| Some(u32::from_str_radix(hex.get(n * 8..n * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    match words?.as_slice() {
        [only] => Some(Ipv4Addr::from(*only).into()),
        [a, b, c, d] => {
            let bytes: [u8; 16] = [*a, *b, *c, *d].concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(line: &str, udp: bool) -> Option<String> {
        read(line, udp).map(|s| s.to_string())
    }

    #[test]
    fn lines_of_listening_sockets() {
        let line = "   0: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 1";
        assert_eq!(socket(line, false).unwrap(), "127.0.0.53:53/tcp");
        assert_eq!(socket(line, true), None);
        let six =
            "   1: 00000000000000000000000001000000:0143 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 2";
        assert_eq!(socket(six, true).unwrap(), "[::1]:323/udp");
        assert_eq!(socket(&line.replace(" 0A ", " 01 "), false), None, "a connection");
    }
}
