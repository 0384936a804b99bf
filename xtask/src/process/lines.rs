//! Reads output line by line. Lengths are limited, because a guest may write any number of lines of any length.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

use super::TAIL;

/// Maximum length of a line in bytes; the rest is discarded. A guest that writes no line feed must not fill the memory. A smoke report of
/// about 20 KiB is one line.
const LINE: usize = 1 << 20;
/// Maximum length in characters of a line in an error message.
const TAIL_LINE: usize = 2000;

/// The last [`TAIL`] lines of an output.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
}

impl Tail {
    /// Adds a line. Removes the oldest one if there are [`TAIL`] already.
    pub fn push(&mut self, line: &str) {
        if self.lines.len() == TAIL {
            self.lines.pop_front();
        }
        self.lines.push_back(line.chars().take(TAIL_LINE).collect());
    }

    /// Removes all lines.
    pub fn clear(&mut self) {
        self.lines.clear();
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, line) in self.lines.iter().enumerate() {
            write!(f, "{}{line}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// Calls `each` for each line. Of a line with `\r`, with which progress bars overwrite themselves, only the last part is passed.
pub(super) fn for_each_line(pipe: impl Read, mut each: impl FnMut(String)) {
    let mut reader = BufReader::new(pipe);
    let mut buffer = Vec::new();
    while matches!(read_line(&mut reader, &mut buffer), Ok(true)) {
        let text = String::from_utf8_lossy(&buffer);
        let text = text.trim_end_matches(['\n', '\r']);
        each(text.rsplit('\r').next().unwrap_or_default().to_owned());
        buffer.clear();
    }
}

/// Reads up to the next line feed into `line`, at most [`LINE`] bytes; the rest is discarded. False at the end of the output.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut read = false;
    loop {
        let bytes = match reader.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            return Ok(read);
        }
        read = true;
        let end = bytes.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let capacity = LINE.saturating_sub(line.len());
        line.extend_from_slice(&part[..capacity.min(part.len())]);
        let length = part.len();
        reader.consume(length);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for_each_line(bytes, |line| lines.push(line));
        lines
    }

    #[test]
    fn a_long_line_is_truncated_and_the_next_is_complete() {
        let mut bytes = vec![b'x'; 3 * LINE];
        bytes.extend_from_slice(b"\nnext\roverwritten\r\nlast");
        let lines = lines(&bytes);
        assert_eq!((lines[0].len(), &lines[1..]), (LINE, &["overwritten".to_owned(), "last".to_owned()][..]));
    }

    #[test]
    fn a_tail_has_the_last_lines_truncated() {
        let mut tail = Tail::default();
        (0..1000).for_each(|n| tail.push(&format!("{n} {}", "y".repeat(10_000))));
        let text = tail.to_string();
        assert_eq!(text.lines().count(), TAIL);
        assert!(text.starts_with("960 y") && text.len() <= TAIL * (TAIL_LINE + 1));
    }
}
