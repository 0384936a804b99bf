//! Asks a name server (RFC 1035): any answer shows that one is there.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for the address of a name and returns the response code: 0 if there is one, 3 if there is no such name.
pub(crate) fn ask(server: IpAddr, name: &str) -> Result<u8, String> {
    let here = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(here).map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let query = query(name);
    let mut answer = [0; 512];
    // A datagram may be lost.
    for _ in 0..3 {
        socket.send_to(&query, (server, 53)).map_err(|e| format!("{server}: {e}"))?;
        if let Ok(length @ 12..) = socket.recv(&mut answer)
            && answer[..length].starts_with(&query[..2])
        {
            return Ok(answer[3] & 0x0f);
        }
    }
    Err(format!("{server} does not answer"))
}

/// A query for an A record, with recursion.
fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0xa6, 0x11, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        query.push(u8::try_from(label.len()).unwrap_or(63));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_as_rfc_1035_has_it() {
        let query = query("example.com");
        assert_eq!(&query[12..25], b"\x07example\x03com\0");
        assert_eq!(query.len(), 12 + 13 + 4);
    }
}
