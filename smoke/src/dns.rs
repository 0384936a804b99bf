//! Queries a name server over UDP (RFC 1035).

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

/// Timeout of each of the three attempts.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Queries the A record of a name and returns the response code: 0 if the name exists, 3 (NXDOMAIN) if it does not.
pub(crate) fn query(server: IpAddr, name: &str) -> Result<u8, String> {
    let here = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(here).map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(TIMEOUT)).map_err(|e| e.to_string())?;
    let message = message(name);
    let mut answer = [0; 512];
    // UDP may lose a datagram.
    for _ in 0..3 {
        socket.send_to(&message, (server, 53)).map_err(|e| format!("{server}: {e}"))?;
        if let Ok(length @ 12..) = socket.recv(&mut answer)
            && answer[..length].starts_with(&message[..2])
        {
            return Ok(answer[3] & 0x0f);
        }
    }
    Err(format!("{server} does not answer"))
}

/// A query for an A record, with recursion desired.
fn message(name: &str) -> Vec<u8> {
    let mut message = vec![0xa6, 0x11, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_message_as_in_rfc_1035() {
        let message = message("example.com");
        assert_eq!(&message[12..25], b"\x07example\x03com\0");
        assert_eq!(message.len(), 12 + 13 + 4);
    }
}
