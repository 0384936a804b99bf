//! The console output of a machine: a file whose size is limited, because the guest may write any amount.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Size in bytes above which the file is truncated to zero. A boot writes about 50 KiB.
const MAX_LENGTH: u64 = 64 << 20;
/// Maximum number of bytes that are read, from the end of the file.
const READ: u64 = 1 << 20;
/// Interval between checks of the file's size.
const PERIOD: Duration = Duration::from_millis(250);

/// The file of a console, and a thread that limits its size until this is dropped. The writer must open the file with `O_APPEND`
/// (open(2)), so that it continues at the beginning after the file was truncated.
#[derive(Debug)]
pub(super) struct Console {
    file: PathBuf,
    _stop: Sender<()>,
}

impl Console {
    pub(super) fn watch(file: PathBuf) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let watched = file.clone();
        std::thread::Builder::new().name("console".to_owned()).spawn(move || {
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                if length(&watched) > MAX_LENGTH {
                    // Best effort: if truncating fails, the file is only longer than intended.
                    let _ = std::fs::OpenOptions::new().write(true).open(&watched).and_then(|file| file.set_len(0));
                }
            }
        })?;
        Ok(Self { file, _stop: stop })
    }

    /// The current length in bytes, to be passed to [`Console::since`] later.
    pub(super) fn length(&self) -> u64 {
        length(&self.file)
    }

    /// The last [`READ`] bytes.
    pub(super) fn text(&self) -> String {
        self.since(0)
    }

    /// The last [`READ`] bytes of what was written since the file had the length `begin`.
    pub(super) fn since(&self, begin: u64) -> String {
        let length = self.length();
        // A shorter file was truncated in the meantime.
        let begin = if begin > length { 0 } else { begin };
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.file).and_then(|mut file| {
            file.seek(SeekFrom::Start(begin.max(length.saturating_sub(READ))))?;
            file.take(READ).read_to_end(&mut bytes)
        });
        // The guest's output need not be UTF-8.
        read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |about| about.len())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_console_file_is_truncated_when_a_guest_floods_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut guest = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let console = Console::watch(path).unwrap();
        guest.write_all(b"booting\n").unwrap();
        let second = console.length();
        guest.write_all(b"panic\n").unwrap();
        assert_eq!((console.text().as_str(), console.since(second).as_str()), ("booting\npanic\n", "panic\n"));
        let flood = vec![b'y'; 8 << 20];
        (0..9).for_each(|_| guest.write_all(&flood).unwrap());
        let began = Instant::now();
        while console.length() > MAX_LENGTH {
            assert!(began.elapsed() < Duration::from_secs(20), "{} bytes", console.length());
            std::thread::sleep(PERIOD);
        }
        guest.write_all(b"login:").unwrap();
        assert!(console.since(second).ends_with("login:") && console.text().len() as u64 <= READ);
    }
}
