//! Packer's version constraints: `>= 1.9, < 2.0`, `~> 1.9.1`, `!= 1.10.0`
//! (developer.hashicorp.com/packer/docs/templates/hcl_templates/blocks/packer#version-constraints).

/// Whether the version satisfies the constraint; `None` if the constraint is invalid.
pub(super) fn admits(constraint: &str, version: &str) -> Option<bool> {
    let version = numbers(version)?;
    let parts = constraint.split(',').map(|part| admits_one(part.trim(), &version)).collect::<Option<Vec<bool>>>()?;
    Some(parts.into_iter().all(|part| part))
}

fn admits_one(part: &str, version: &[u64; 3]) -> Option<bool> {
    let digits = part.find(|c: char| c.is_ascii_digit())?;
    let (operator, operand) = (part[..digits].trim(), part[digits..].trim());
    let least = numbers(operand)?;
    Some(match operator {
        "" | "=" => *version == least,
        "!=" => *version != least,
        ">" => *version > least,
        ">=" => *version >= least,
        "<" => *version < least,
        "<=" => *version <= least,
        // Only the last given number of the operand may be greater in the version.
        "~>" => {
            let fixed = operand.split('.').count().max(2) - 1;
            *version >= least && version[..fixed] == least[..fixed]
        }
        _ => return None,
    })
}

fn numbers(text: &str) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split('.');
    for number in &mut numbers {
        match parts.next() {
            Some(part) => *number = part.parse().ok()?,
            None => break,
        }
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_have_packers_semantics() {
        for (constraint, expected) in [
            (">= 1.9.0", Some(true)),
            (">= 1.9, < 2.0.0", Some(true)),
            ("~> 1.9", Some(true)),
            ("~> 1.9.1", Some(false)),
            ("~> 1.16.0", Some(true)),
            ("1.16.0", Some(true)),
            ("= 1.15.0", Some(false)),
            ("!= 1.16.0", Some(false)),
            ("<= 1.16", Some(true)),
            ("> 1.16", Some(false)),
            ("newest", None),
            ("=> 1.0", None),
            ("1.2.3.4", None),
            ("", None),
        ] {
            assert_eq!(admits(constraint, "1.16.0"), expected, "{constraint}");
        }
    }
}
