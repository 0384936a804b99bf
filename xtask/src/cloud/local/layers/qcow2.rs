//! Reads the backing file's name from the header of a qcow2 file (QEMU: docs/interop/qcow2.txt).

use std::io::{Error, ErrorKind, Read as _, Result, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"QFI\xfb";
/// The format's limit for the length of the name, in bytes.
const LONGEST: u32 = 1023;

/// The backing file's name in the header; `None` for a disk without a backing file.
pub(super) fn backing(disk: &Path) -> Result<Option<PathBuf>> {
    let mut file = std::fs::File::open(disk)?;
    let mut header = [0; 20];
    file.read_exact(&mut header)?;
    let [m0, m1, m2, m3, _, _, _, _, offset @ .., l0, l1, l2, l3] = header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(Error::new(ErrorKind::InvalidData, "not a qcow2 file"));
    }
    let (offset, length) = (u64::from_be_bytes(offset), u32::from_be_bytes([l0, l1, l2, l3]));
    if offset == 0 {
        return Ok(None);
    }
    if length == 0 || length > LONGEST {
        return Err(Error::new(ErrorKind::InvalidData, "the length of the backing file's name is invalid"));
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut name = vec![0; length as usize];
    file.read_exact(&mut name)?;
    match String::from_utf8(name) {
        Ok(name) => Ok(Some(name.into())),
        Err(_) => Err(Error::new(ErrorKind::InvalidData, "the backing file's name is not UTF-8")),
    }
}

/// The smallest file that [`backing`] accepts, with `below` as its backing file. QEMU could not open it.
#[cfg(test)]
pub(super) fn stub(below: &str) -> Vec<u8> {
    let mut bytes = [MAGIC, &3u32.to_be_bytes(), &20u64.to_be_bytes()].concat();
    bytes.extend(u32::try_from(below.len()).unwrap().to_be_bytes());
    bytes.extend(below.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backing_file_is_read_and_other_formats_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let read = |bytes: &[u8]| {
            std::fs::write(&disk, bytes).unwrap();
            backing(&disk).map_err(|e| e.to_string())
        };
        assert_eq!(read(&stub("../below/disk.qcow2")), Ok(Some("../below/disk.qcow2".into())));
        let mut alone = stub("x");
        alone[8..16].fill(0);
        assert_eq!(read(&alone), Ok(None));
        assert_eq!(read(&[b'x'; 64]).unwrap_err(), "not a qcow2 file");
        assert!(read(&stub("x")[..10]).is_err(), "truncated in the header");
        assert!(read(&stub("../below")[..24]).is_err(), "truncated in the name");
        assert!(read(&stub("")).is_err() && read(&stub(&"x".repeat(2000))).is_err());
    }
}
