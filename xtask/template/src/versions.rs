//! Packer's version constraints: `>= 1.9, < 2.0`, `~> 1.9.1`, `!= 1.10.0`
//! (developer.hashicorp.com/packer/docs/templates/hcl_templates/blocks/packer#version-constraints).

/// Whether the constraint admits the version; `None` if it is no constraint.
pub(super) fn admits(constraint: &str, version: &str) -> Option<bool> {
    let version = numbers(version)?;
    let parts = constraint.split(',').map(|part| admits_one(part.trim(), &version)).collect::<Option<Vec<bool>>>()?;
    Some(parts.into_iter().all(|part| part))
}

fn admits_one(part: &str, version: &[u64; 3]) -> Option<bool> {
    let digits = part.find(|c: char| c.is_ascii_digit())?;
    let (operator, wanted) = (part[..digits].trim(), part[digits..].trim());
    let least = numbers(wanted)?;
    Some(match operator {
        "" | "=" => *version == least,
        "!=" => *version != least,
        ">" => *version > least,
        ">=" => *version >= least,
        "<" => *version < least,
        "<=" => *version <= least,
        // The last number given may grow, those before it may not.
        "~>" => {
            let fixed = wanted.split('.').count().max(2) - 1;
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
    fn constraints_mean_what_packer_means() {
        for (constraint, wanted) in [
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
            assert_eq!(admits(constraint, "1.16.0"), wanted, "{constraint}");
        }
    }
}
