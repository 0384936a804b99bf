//! Locks of the state directory, which name their holder.

use std::io::{Read as _, Write as _};
use std::path::Path;

use fs_err as fs;

use crate::error::Result;

/// A held lock (flock(2)); released when dropped, or by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock {
    pub(super) _file: std::fs::File,
}

impl Lock {
    /// `Ok(Err(holder))` if another process has it.
    pub(super) fn take(path: &Path, what: &str) -> Result<std::result::Result<Self, String>> {
        let mut options = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(options.options_mut(), 0o600);
        let mut file = options.create(true).read(true).append(true).open(path)?.into_file();
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                return Ok(Err(holder.trim().to_owned()));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        writeln!(file, "process {}, {what}, since {}", std::process::id(), jiff::Timestamp::now().strftime("%F %TZ"))?;
        Ok(Ok(Self { _file: file }))
    }
}
