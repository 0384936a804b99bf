//! Files of the installed Debian packages with their MD5 sums, from dpkg's lists (deb-md5sums(5), and `Conffiles` of dpkg-query(1)).

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::exec;

/// MD5 sums by path.
pub(crate) struct Packages {
    sums: HashMap<String, String>,
}

impl Packages {
    /// Reads dpkg's lists.
    pub(crate) fn read(deadline: Instant) -> Result<Self, String> {
        let conffiles = exec::root_stdout(&["dpkg-query", "-W", "-f", "${Conffiles}\\n"], deadline)?;
        let mut sums = HashMap::new();
        for entry in fs::read_dir("/var/lib/dpkg/info").map_err(|e| format!("/var/lib/dpkg/info: {e}"))?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "md5sums") {
                let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                sums.extend(text.lines().filter_map(md5sums_line));
            }
        }
        sums.extend(conffiles.lines().filter_map(conffiles_line));
        Ok(Self { sums })
    }

    /// Those of the files that belong to no package, or differ from the file in the package. Symbolic links are followed; the result has
    /// the paths of their targets.
    pub(crate) fn unpackaged_or_modified(&self, files: &[String], deadline: Instant) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let mut packaged = Vec::new();
        for file in files {
            let real = fs::canonicalize(file).ok().filter(|real| real.is_file());
            match real.map(|real| real.to_string_lossy().into_owned()) {
                Some(real) if self.sums.contains_key(&real) => packaged.push(real),
                Some(real) => found.push(real),
                // Links to /dev/null (masked units) and dangling links have no effect.
                None if fs::metadata(file).map_or(true, |m| !m.is_dir()) => {}
                None => found.push(file.clone()),
            }
        }
        for some in packaged.chunks(200) {
            let mut line = vec!["md5sum", "--"];
            line.extend(some.iter().map(String::as_str));
            let output = exec::root_stdout(&line, deadline)?;
            for (real, sum) in some.iter().zip(output.lines()) {
                if sum.split_whitespace().next() != self.sums.get(real).map(String::as_str) {
                    found.push(real.clone());
                }
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// A line of `PACKAGE.md5sums`: `SUM  usr/bin/x`.
fn md5sums_line(line: &str) -> Option<(String, String)> {
    let (sum, path) = line.split_once("  ")?;
    Some((merged_path(path), sum.to_owned()))
}

/// A line of `Conffiles`: ` /etc/x SUM`, with `obsolete` after it for some.
fn conffiles_line(line: &str) -> Option<(String, String)> {
    let mut words = line.strip_prefix(' ')?.split_whitespace();
    let (path, sum) = (words.next()?, words.next()?);
    Some((merged_path(path.trim_start_matches('/')), sum.to_owned()))
}

/// The absolute path. On a system with merged /usr, /bin, /lib and /sbin are links into /usr, but dpkg's lists may have the old paths.
fn merged_path(path: &str) -> String {
    let merged = ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|start| path.starts_with(start));
    if merged && Path::new("/bin").is_symlink() { format!("/usr/{path}") } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_lists() {
        let sum = "d41d8cd98f00b204e9800998ecf8427e".to_owned();
        assert_eq!(
            md5sums_line("d41d8cd98f00b204e9800998ecf8427e  usr/bin/x y"),
            Some(("/usr/bin/x y".to_owned(), sum.clone()))
        );
        let found = conffiles_line(" /etc/cron.daily/dpkg d41d8cd98f00b204e9800998ecf8427e obsolete");
        assert_eq!(found, Some(("/etc/cron.daily/dpkg".to_owned(), sum)));
        assert_eq!(conffiles_line(""), None);
    }
}
