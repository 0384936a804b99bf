//! Cleans text that a guest controls before a page shows it. `live.js` does the same to the lines that it adds.
//!
//! HTML is escaped by maud. This module removes terminal sequences (ECMA-48) and makes control characters visible.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

/// Longest line that a page shows, in characters.
pub const LONGEST: usize = 4096;
/// The end of a line that was longer.
pub const MARK: &str = "… [truncated]";

/// Cleans a text of several lines. Line feeds and tabs remain. Cleaning a clean text does not change it.
pub fn text(text: &str) -> String {
    let visible = visible(text);
    let lines: Vec<String> = visible.split('\n').map(shorten).collect();
    lines.join("\n")
}

/// Cleans a text and joins its lines with ` | `, so that no text looks like several lines or rows.
pub fn line(text: &str) -> String {
    let visible = visible(text);
    let lines: Vec<&str> = visible.split('\n').map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    shorten(&lines.join(" | "))
}

fn shorten(line: &str) -> String {
    if line.len() <= LONGEST || line.chars().count() <= LONGEST {
        return line.to_owned();
    }
    let kept = LONGEST - MARK.chars().count();
    line.chars().take(kept).chain(MARK.chars()).collect()
}

/// The text without terminal sequences, and with escapes for other control characters.
fn visible(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => escape(&mut chars, &mut clean),
            '\u{9b}' => skip_csi(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut chars),
            c if is_hidden(c) => _ = write!(clean, "\\u{{{:x}}}", u32::from(c)),
            c => clean.push(c),
        }
    }
    clean
}

/// Reads what follows an ESC. One that starts no sequence is made visible.
fn escape(chars: &mut Peekable<Chars<'_>>, clean: &mut String) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_csi(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_string(chars);
        }
        _ => {
            let mut rest = chars.clone();
            while rest.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            if rest.next_if(|c| matches!(c, '0'..='~')).is_some() {
                *chars = rest;
            } else {
                clean.push_str("\\u{1b}");
            }
        }
    }
}

/// Skips the parameters and the final byte of a control sequence (ECMA-48, 5.4).
fn skip_csi(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| matches!(c, '0'..='?')).is_some() {}
    while chars.next_if(|c| matches!(c, ' '..='/')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// Skips a control string (ECMA-48, 5.6) up to its terminator, or up to the end of the line if it has none.
fn skip_string(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| !matches!(c, '\u{7}' | '\u{1b}' | '\u{9c}' | '\n')).is_some() {}
    match chars.peek() {
        Some('\u{7}' | '\u{9c}') => _ = chars.next(),
        Some('\u{1b}') => {
            let mut rest = chars.clone();
            rest.next();
            if rest.next_if_eq(&'\\').is_some() {
                *chars = rest;
            }
        }
        _ => {}
    }
}

/// True for control characters, and for those that change the direction or the lines of the text around them (Unicode Standard Annex 9).
fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_sequences_are_removed() {
        assert_eq!(text("\x1b[1;31mred\x1b[0m \u{9b}2Jx"), "red x");
        assert_eq!(text("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c\u{9d}1\u{9c}d"), "abcd");
        assert_eq!(text("a\x1b]0;never closed\nnext"), "a\nnext");
        assert_eq!(text("a\x1b]0;aborted\x1b[1mb"), "ab");
        assert_eq!(text("\x1bPdcs\x1b\\a\x1b(Bb\x1bcd\x1b7e"), "abde");
        assert_eq!(text("end\x1b[31"), "end");
    }

    #[test]
    fn other_control_characters_are_visible() {
        assert_eq!(text("\x1b"), "\\u{1b}");
        assert_eq!(text("\x1b\x1b[m[31m"), "\\u{1b}[31m");
        assert_eq!(text("a\0b\rc\x7f\u{85}"), "a\\u{0}b\\u{d}c\\u{7f}\\u{85}");
        assert_eq!(text("\u{202e}gpj.exe\u{2069}"), "\\u{202e}gpj.exe\\u{2069}");
        assert_eq!(text("a\tb\nc ä → 🦀"), "a\tb\nc ä → 🦀");
    }

    #[test]
    fn long_lines_are_shortened_each_by_itself() {
        let long = "ä".repeat(LONGEST + 1);
        let clean = text(&format!("{long}\nshort"));
        let lines: Vec<&str> = clean.lines().collect();
        assert_eq!(lines[0].chars().count(), LONGEST);
        assert!(lines[0].ends_with(MARK) && lines[1] == "short");
        assert_eq!(text(&"x".repeat(LONGEST)).len(), LONGEST);
    }

    #[test]
    fn one_line_remains_one() {
        assert_eq!(line("a\n\n  b\r\n"), "a |   b\\u{d}");
    }

    /// Xorshift: a different text for each seed, the same in each run.
    fn random(seed: u64) -> String {
        let alphabet =
            ['\x1b', '[', ']', '\\', '\x07', 'm', '3', ';', '\n', '\u{9b}', '\u{202e}', ' ', 'a', '\0', '<', '\u{9c}'];
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut bytes = Vec::new();
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..next() % 64 {
            let n = next();
            if n % 4 == 0 {
                bytes.push(u8::try_from(n >> 8 & 0xff).unwrap());
            } else {
                let c = alphabet[usize::try_from(n >> 16).unwrap() % alphabet.len()];
                bytes.extend(c.to_string().bytes());
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn any_text_becomes_clean_and_remains_so() {
        for seed in 0..50_000 {
            let dirty = random(seed);
            let (several, one) = (text(&dirty), line(&dirty));
            assert!(!several.contains(is_hidden) && !one.contains(is_hidden) && !one.contains('\n'), "{dirty:?}");
            assert_eq!(text(&several), several, "{dirty:?}");
            assert_eq!(line(&one), one, "{dirty:?}");
        }
    }
}
