//! What a machine writes to its console: a file that the machine cannot make as long as it likes.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A longer console is emptied. A boot writes some 50 KiB.
const MOST: u64 = 64 << 20;
/// So much of its end is read.
const READ: u64 = 1 << 20;
/// How often its length is looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// A console's file, and the thread that watches its length as long as this lives. Who writes to the file must append (open(2),
/// `O_APPEND`): then it goes on at the beginning when the file has been emptied.
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
                if length(&watched) > MOST {
                    // A console that cannot be emptied is only longer than it should be.
                    let _ = std::fs::OpenOptions::new().write(true).open(&watched).and_then(|file| file.set_len(0));
                }
            }
        })?;
        Ok(Self { file, _stop: stop })
    }

    /// Its length in bytes: where what comes next begins.
    pub(super) fn length(&self) -> u64 {
        length(&self.file)
    }

    /// The end of it.
    pub(super) fn text(&self) -> String {
        self.since(0)
    }

    /// The end of what was written since it had this length.
    pub(super) fn since(&self, begin: u64) -> String {
        let length = self.length();
        // It has been emptied since.
        let begin = if begin > length { 0 } else { begin };
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.file).and_then(|mut file| {
            file.seek(SeekFrom::Start(begin.max(length.saturating_sub(READ))))?;
            file.take(READ).read_to_end(&mut bytes)
        });
        // The guest may write anything to its console.
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
    fn a_flood_on_the_console_fills_no_disk() {
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
        while console.length() > MOST {
            assert!(began.elapsed() < Duration::from_secs(20), "{} bytes", console.length());
            std::thread::sleep(PERIOD);
        }
        guest.write_all(b"login:").unwrap();
        assert!(console.since(second).ends_with("login:") && console.text().len() as u64 <= READ);
    }
}
