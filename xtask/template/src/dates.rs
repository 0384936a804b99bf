//! The function `formatdate` (developer.hashicorp.com/packer/docs/templates/hcl_templates/functions/datetime/formatdate).

/// Formats an RFC 3339 time. A sequence of the same letter is one directive; text in single quotes is copied.
pub(super) fn format(spec: &str, time: &str) -> Result<String, String> {
    let stamp: jiff::Timestamp = time.parse().map_err(|e| format!("`{time}` is not an RFC 3339 time: {e}"))?;
    let zoned = stamp.to_zoned(jiff::tz::TimeZone::UTC);
    let mut out = String::new();
    let mut rest = spec;
    while let Some(c) = rest.chars().next() {
        if c == '\'' {
            let (quoted, after) = rest[1..].split_once('\'').ok_or("a quote is not closed")?;
            out.push_str(quoted);
            rest = after;
            continue;
        }
        let run = rest.len() - rest.trim_start_matches(c).len();
        let word = &rest[..run];
        rest = &rest[run..];
        let strftime = match word {
            "YYYY" => "%Y",
            "YY" => "%y",
            "MMMM" => "%B",
            "MMM" => "%b",
            "MM" => "%m",
            "M" => "%-m",
            "DD" => "%d",
            "D" => "%-d",
            "EEEE" => "%A",
            "EEE" => "%a",
            "hh" => "%H",
            "h" => "%-H",
            "HH" => "%I",
            "H" => "%-I",
            "AA" => "%p",
            "aa" => "%P",
            "mm" => "%M",
            "m" => "%-M",
            "ss" => "%S",
            "s" => "%-S",
            "ZZZZZ" => "+00:00",
            "ZZZZ" => "+0000",
            "ZZZ" | "Z" => {
                if word == "Z" {
                    "Z"
                } else {
                    "UTC"
                }
            }
            _ if c.is_ascii_alphabetic() => {
                return Err(format!("`{word}` is not a date directive; put text in single quotes"));
            }
            _ => {
                out.push_str(word);
                continue;
            }
        };
        out.push_str(&zoned.strftime(strftime).to_string());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn directives_quotes_and_errors() {
        let at = "2026-02-03T04:05:06Z";
        assert_eq!(format("YYYY-MM-DD'T'hh:mm:ssZ", at).unwrap(), "2026-02-03T04:05:06Z");
        assert_eq!(format("EEE, D MMM YY", at).unwrap(), "Tue, 3 Feb 26");
        assert!(format("QQ", at).unwrap_err().contains("not a date directive"));
        assert!(format("YYYY", "yesterday").is_err());
    }
}
