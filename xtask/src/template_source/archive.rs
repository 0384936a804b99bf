//! Unpacks `.zip` and `.tar.gz`. Entries that are neither files nor directories are refused, as are names that lead out of the tree.

use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use fs_err as fs;

use super::FileKind;
use super::tree::{MAX_BYTES, Names, too_large};
use crate::error::{Exit, Result};

/// Unpacks an archive into an empty directory.
pub(super) fn unpack(archive: &Path, kind: FileKind, to: &Path) -> Result<()> {
    match kind {
        FileKind::Zip => unpack_zip(archive, to),
        FileKind::TarGz => unpack_tar(archive, to),
        FileKind::Template => Ok(()),
    }
}

/// Writes entries, up to the limits of a tree.
struct Writer<'a> {
    to: &'a Path,
    names: Names,
    left: u64,
}

impl<'a> Writer<'a> {
    fn new(to: &'a Path) -> Self {
        Self { to, names: Names::default(), left: MAX_BYTES }
    }

    fn dir(&mut self, name: &str) -> Result<()> {
        let path = self.names.add(name, true)?;
        Ok(fs::create_dir_all(self.to.join(path))?)
    }

    fn file(&mut self, name: &str, executable: bool, content: impl Read) -> Result<()> {
        let path = self.to.join(self.names.add(name, false)?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = fs::File::create(&path)?;
        // One byte more than allowed, so that a truncated file is not taken for a whole one.
        let mut content = content.take(self.left + 1);
        let (mut buffer, mut written) = (vec![0; 1 << 16], 0);
        loop {
            let read = content.read(&mut buffer);
            let read = read.map_err(|e| damaged(&format!("`{}` cannot be unpacked: {e}", name.escape_default())))?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read])?;
            written += read as u64;
        }
        self.left = self
            .left
            .checked_sub(written)
            .ok_or_else(|| too_large(&format!("has more than {} MiB when it is unpacked", MAX_BYTES >> 20)))?;
        let mode = if executable { 0o755 } else { 0o644 };
        Ok(fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?)
    }
}

fn unpack_zip(archive: &Path, to: &Path) -> Result<()> {
    let file = fs::File::open(archive)?;
    let listed = entries_of(&file)?;
    let mut zip = zip::ZipArchive::new(std::io::BufReader::new(file)).map_err(|e| damaged(&e.to_string()))?;
    // The library takes the last one of entries with the same name.
    if listed != zip.len() {
        return Err(damaged("two of its entries have the same name"));
    }
    let mut writer = Writer::new(to);
    for i in 0..zip.len() {
        let entry = zip.by_index(i).map_err(|e| damaged(&e.to_string()))?;
        let name = std::str::from_utf8(entry.name_raw()).map_err(|_| damaged("a file name is not UTF-8"))?.to_owned();
        let mode = entry.unix_mode().unwrap_or(0o644);
        // The type of a Unix mode (inode(7)): directory, regular file, or none, as Windows writes it.
        match mode & 0o170_000 {
            _ if name.ends_with('/') => writer.dir(&name)?,
            0 | 0o100_000 => writer.file(&name, mode & 0o100 != 0, entry)?,
            _ => return Err(special(&name)),
        }
    }
    Ok(())
}

fn unpack_tar(archive: &Path, to: &Path) -> Result<()> {
    let read = |e: std::io::Error| damaged(&e.to_string());
    // More is not read, even if the archive consists of headers only.
    let unpacked = MultiGzDecoder::new(fs::File::open(archive)?).take(4 * MAX_BYTES);
    let mut tar = tar::Archive::new(unpacked);
    let mut writer = Writer::new(to);
    for entry in tar.entries().map_err(read)? {
        let mut entry = entry.map_err(read)?;
        let extensions = entry.pax_extensions().map_err(read)?.into_iter().flatten().flatten();
        if extensions.into_iter().any(|extension| extension.key_bytes().starts_with(b"GNU.sparse.")) {
            return Err(damaged("it has sparse files; create it without --sparse"));
        }
        let name =
            String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| damaged("a file name is not UTF-8"))?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            writer.dir(&name)?;
        } else if kind.is_file() || kind.is_contiguous() {
            let executable = entry.header().mode().unwrap_or(0o644) & 0o100 != 0;
            writer.file(&name, executable, entry)?;
        } else if !kind.is_pax_global_extensions() {
            // `git archive` writes the commit as a global extension.
            return Err(special(&name));
        }
    }
    if tar.into_inner().limit() == 0 {
        return Err(too_large(&format!("has more than {} MiB with its headers", (4 * MAX_BYTES) >> 20)));
    }
    Ok(())
}

/// The number of entries by the end record of a zip file (APPNOTE.TXT, 4.3.16), which is in its last 64 KiB.
fn entries_of(file: &fs::File) -> Result<usize> {
    let mut file = file.file();
    let size = file.metadata()?.len();
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(22 + 0xffff)))?;
    file.read_to_end(&mut end)?;
    file.rewind()?;
    let at = end.windows(4).rposition(|bytes| bytes == b"PK\x05\x06");
    let count = at.and_then(|at| end.get(at + 10..at + 12)).and_then(|bytes| bytes.try_into().ok());
    count.map(|bytes| usize::from(u16::from_le_bytes(bytes))).ok_or_else(|| damaged("it has no end record"))
}

fn damaged(why: &str) -> crate::error::Error {
    Exit::Usage
        .error(format_args!("the template's archive cannot be read: {why}"), "create the archive again with tar or zip")
}

fn special(name: &str) -> crate::error::Error {
    Exit::Usage.error(
        format_args!(
            "the template's archive contains `{}`, which is neither a file nor a directory",
            name.escape_default()
        ),
        "replace links by the files that they point to; `tar --dereference` and `zip` do so",
    )
}
