//! Which files of the instance are a package's, unchanged: dpkg's own lists of MD5 sums (deb-md5sums(5), and `Conffiles` of dpkg-query(1)).

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::checks::Host;

/// The packages' files with their MD5 sums.
pub(crate) struct Packages {
    sums: HashMap<String, String>,
}

impl Packages {
    /// Reads dpkg's lists; `conffiles` is what dpkg-query(1) prints as `${Conffiles}`.
    pub(crate) fn read(conffiles: &str) -> Result<Self, String> {
        let mut sums = HashMap::new();
        for entry in fs::read_dir("/var/lib/dpkg/info").map_err(|e| format!("/var/lib/dpkg/info: {e}"))?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "md5sums") {
                let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                sums.extend(text.lines().filter_map(shipped));
            }
        }
        sums.extend(conffiles.lines().filter_map(conffile));
        Ok(Self { sums })
    }

    /// Those of the files that no package brought, or that are not as it brought them. A link counts as what it leads to.
    pub(crate) fn foreign(&self, host: &Host, files: &[String]) -> Result<Vec<String>, String> {
        let mut foreign = Vec::new();
        let mut known = Vec::new();
        for file in files {
            let real = fs::canonicalize(file).ok().filter(|real| real.is_file());
            match real.map(|real| real.to_string_lossy().into_owned()) {
                Some(real) if self.sums.contains_key(&real) => known.push(real),
                Some(real) => foreign.push(real),
                // /dev/null and links to nowhere do nothing.
                None if fs::metadata(file).map_or(true, |m| !m.is_dir()) => {}
                None => foreign.push(file.clone()),
            }
        }
        for some in known.chunks(200) {
            let mut line = vec!["md5sum", "--"];
            line.extend(some.iter().map(String::as_str));
            let said = host.ask(&line)?;
            for (real, found) in some.iter().zip(said.lines()) {
                if found.split_whitespace().next() != self.sums.get(real).map(String::as_str) {
                    foreign.push(real.clone());
                }
            }
        }
        foreign.sort();
        foreign.dedup();
        Ok(foreign)
    }
}

/// `SUM  usr/bin/x`, with the path as it is since /bin, /lib and /sbin are links into /usr.
fn shipped(line: &str) -> Option<(String, String)> {
    let (sum, path) = line.split_once("  ")?;
    Some((real(path), sum.to_owned()))
}

/// ` /etc/x SUM`, maybe with `obsolete` behind it.
fn conffile(line: &str) -> Option<(String, String)> {
    let mut words = line.strip_prefix(' ')?.split_whitespace();
    let (path, sum) = (words.next()?, words.next()?);
    Some((real(path.trim_start_matches('/')), sum.to_owned()))
}

fn real(path: &str) -> String {
    let merged = ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|start| path.starts_with(start));
    if merged && Path::new("/bin").is_symlink() { format!("/usr/{path}") } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_of_dpkg_are_read() {
        let sum = "d41d8cd98f00b204e9800998ecf8427e".to_owned();
        assert_eq!(
            shipped("d41d8cd98f00b204e9800998ecf8427e  usr/bin/x y"),
            Some(("/usr/bin/x y".to_owned(), sum.clone()))
        );
        let found = conffile(" /etc/cron.daily/dpkg d41d8cd98f00b204e9800998ecf8427e obsolete");
        assert_eq!(found, Some(("/etc/cron.daily/dpkg".to_owned(), sum)));
        assert_eq!(conffile(""), None);
    }
}
