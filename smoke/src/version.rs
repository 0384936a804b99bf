//! Versions as tools print them, and requirements on them: `>=24.1, <25`.

/// The first version in the output of a program: digits and dots, with at least one dot.
pub fn find(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        if !bytes[start].is_ascii_digit() {
            start += 1;
            continue;
        }
        let length = bytes[start..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
        let word = text[start..start + length].trim_end_matches('.');
        if word.contains('.') {
            return Some(word);
        }
        start += length;
    }
    None
}

/// True if the version meets every comparison of the requirement. Missing components count as 0, so `24` equals `24.0.0`.
pub fn satisfies(version: &str, requirement: &str) -> bool {
    let Some(version) = numbers(version) else { return false };
    parse(requirement).is_some_and(|parts| !parts.is_empty() && parts.iter().all(|part| part.admits(&version)))
}

/// True if the requirement has valid syntax.
pub fn is_requirement(requirement: &str) -> bool {
    parse(requirement).is_some_and(|parts| !parts.is_empty())
}

/// One comparison of a requirement.
struct Part {
    operator: Operator,
    version: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Operator {
    Equal,
    AtLeast,
    Above,
    Below,
    AtMost,
}

impl Part {
    fn admits(&self, version: &[u64]) -> bool {
        let length = version.len().max(self.version.len());
        let padded = |v: &[u64]| (0..length).map(|i| v.get(i).copied().unwrap_or(0)).collect::<Vec<_>>();
        let order = padded(version).cmp(&padded(&self.version));
        match self.operator {
            Operator::Equal => order.is_eq(),
            Operator::AtLeast => order.is_ge(),
            Operator::Above => order.is_gt(),
            Operator::Below => order.is_lt(),
            Operator::AtMost => order.is_le(),
        }
    }
}

fn parse(requirement: &str) -> Option<Vec<Part>> {
    const OPERATORS: [(&str, Operator); 5] = [
        (">=", Operator::AtLeast),
        ("<=", Operator::AtMost),
        (">", Operator::Above),
        ("<", Operator::Below),
        ("=", Operator::Equal),
    ];
    let part = |text: &str| {
        let text = text.trim();
        let (operator, rest) =
            OPERATORS.iter().find_map(|(sign, op)| text.strip_prefix(sign).map(|rest| (*op, rest)))?;
        Some(Part { operator, version: numbers(rest.trim())? })
    };
    requirement.split(',').map(part).collect()
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    plain.split('.').map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_the_output_of_programs() {
        let table = [
            ("git version 2.47.3", "2.47.3"),
            ("v26.10.0", "26.10.0"),
            ("codex-cli 0.169.0", "0.169.0"),
            ("2.1.329 (Claude Code)", "2.1.329"),
            ("gpg (GnuPG) 2.4.7\nlibgcrypt 1.11.0", "2.4.7"),
            ("gcc (Debian 14.2.0-19) 14.2.0", "14.2.0"),
            ("UnZip 6.00 of 20 April 2009", "6.00"),
        ];
        for (text, expected) in table {
            assert_eq!(find(text), Some(expected), "{text}");
        }
        assert_eq!(find("no version 7 here"), None);
    }

    #[test]
    fn requirements_compare_components_as_numbers() {
        assert!(satisfies("26.10.0", ">=26.9, <27"));
        assert!(!satisfies("27.0.0", ">=26.9, <27"));
        assert!(satisfies("6.00", ">=6"));
        assert!(satisfies("1.4.5", "=1.4.5") && !satisfies("1.4.50", "=1.4.5"));
        assert!(!satisfies("1.0", "") && !satisfies("x", ">=1") && !satisfies("1.0", "~1"));
        assert!(is_requirement(">1, <=2") && !is_requirement("1.2"));
    }
}
