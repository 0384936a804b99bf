//! Every text of a guest, a tool or a client is escaped on every page, and no page has a script or a style of its own.

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::view::{Build, BuildPage, Check, Home, Image, ImagePage, LogLine, Smoke, SmokeReport, Status};
use super::{clean, log, progress};

/// HTML, an attribute's end, ANSI sequences, control and bidirectional characters.
const HOSTILE: &str = "\"><script>alert(1)</script>' onload=x \u{1b}[31mred\u{1b}]0;title\u{7} \u{0} \u{202e}txt.exe";

fn build(status: Status) -> Build {
    let at = Timestamp::UNIX_EPOCH;
    let hostile = || Some(HOSTILE.to_owned());
    Build {
        id: Uuid::nil(),
        status,
        provider: hostile(),
        region: HOSTILE.to_owned(),
        template: HOSTILE.to_owned(),
        requested_by: HOSTILE.to_owned(),
        image_id: hostile(),
        run: hostile(),
        created_at: at,
        started_at: Some(at),
        completed_at: status.is_ended().then_some(at),
        error: hostile(),
    }
}

fn image() -> Image {
    Image {
        image_id: HOSTILE.to_owned(),
        name: HOSTILE.to_owned(),
        version: HOSTILE.to_owned(),
        provider: Some(HOSTILE.to_owned()),
        region: HOSTILE.to_owned(),
        created_at: None,
        build_id: Some(Uuid::nil()),
        channels: vec![HOSTILE.to_owned()],
        smoke: Smoke::Failed,
    }
}

/// Every page with hostile texts everywhere.
fn pages() -> Vec<String> {
    let (user, now) = (HOSTILE.to_owned(), Timestamp::UNIX_EPOCH);
    let home = |builds: Vec<Build>, images| Home {
        user: user.clone(),
        now,
        origin: HOSTILE.to_owned(),
        status: Some(Status::Failed),
        is_later: true,
        next_cursor: Some(HOSTILE.to_owned()),
        builds,
        images,
    };
    let mut progress = progress::Progress::default();
    for event in [
        json!({ "event": "phase-started", "phase": "build", "subject": HOSTILE }),
        json!({ "event": "step-started", "index": 1, "total": 2, "name": HOSTILE }),
        json!({ "event": "phase-finished", "phase": "build", "outcome": HOSTILE, "seconds": 1.5, "summary": HOSTILE }),
    ] {
        progress.add(&event);
    }
    let line = LogLine { seq: 1, text: HOSTILE.to_owned() };
    let build_page = |status| BuildPage {
        user: user.clone(),
        now,
        build: build(status),
        progress: progress.clone(),
        log: vec![line.clone()],
        is_cut: true,
        last_seq: 1,
    };
    let hostile = || HOSTILE.to_owned();
    let check = Check { pass: hostile(), name: hostile(), outcome: hostile(), seconds: 0.1, message: hostile() };
    let image_page = ImagePage {
        user: user.clone(),
        image: image(),
        smoke: Some(SmokeReport { at: None, checks: vec![check] }),
        contents: vec![(hostile(), hostile())],
    };
    let all = Status::ALL.map(build).to_vec();
    vec![
        super::home(&home(all, Ok(vec![image()]))).into_string(),
        super::home(&home(Vec::new(), Err(hostile()))).into_string(),
        super::build(&build_page(Status::Building)).into_string(),
        super::build(&build_page(Status::Failed)).into_string(),
        super::image(&image_page).into_string(),
        super::login(Some(HOSTILE)).into_string(),
        super::error(409, HOSTILE, Some(HOSTILE)).into_string(),
    ]
}

#[test]
fn hostile_texts_are_escaped_on_every_page() {
    for page in pages() {
        let lower = page.to_lowercase();
        assert!(lower.contains("alert(1)"), "the text is shown: {page}");
        assert!(!lower.contains("<script>"), "{page}");
        assert_eq!(
            lower.matches("<script").count(),
            lower.matches("<script src=\"/assets/live.js\" defer>").count(),
            "{page}"
        );
        for character in page.chars().filter(|c| *c != '\n') {
            assert!(!character.is_control() && character != '\u{202e}', "{character:?} in {page}");
        }
        assert!(!page.contains("[31m") && !page.contains("0;title"), "an ANSI sequence is left: {page}");
    }
}

#[test]
fn every_page_has_one_heading_and_no_style_or_handler_of_its_own() {
    for page in pages() {
        assert_eq!(page.matches("<h1").count(), 1, "{page}");
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{page}");
        for part in [" style=\"", " onclick=\"", "<style", "javascript:", "http-equiv=\"refresh\""] {
            assert!(!page.contains(part), "{part} in {page}");
        }
    }
}

#[test]
fn random_bytes_never_leave_a_control_character() {
    let mut random = fastrand::Rng::with_seed(18);
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
        let text = clean::line(&String::from_utf8_lossy(&bytes));
        assert!(text.chars().all(|c| !c.is_control() || c == '\t'), "{bytes:?}: {text:?}");
    }
    assert!(clean::line(&"x".repeat(100_000)).chars().count() <= 4096);
}

#[test]
fn events_become_lines_and_what_is_not_one_becomes_none() {
    let output = json!({ "event": "step-output", "name": "agents", "stream": "stdout", "line": "added 3 packages" });
    assert_eq!(log::line(&output).as_deref(), Some("[agents] added 3 packages"));
    for none in [json!(null), json!([]), json!({}), json!({ "event": "document" }), json!({ "event": 7 })] {
        assert_eq!(log::line(&none), None, "{none}");
    }
}
