//! Every page with hostile texts in every field: nothing that a guest controls becomes markup, an attribute, or a control character.

use jiff::Timestamp;
use maud::Markup;
use serde_json::json;
use uuid::Uuid;

use super::view::*;
use super::*;

/// Ends elements and attributes, and has terminal sequences and characters that change the direction of text.
const HOSTILE: &str =
    "</pre></title><script>alert(1)</script>\" onclick='alert(2)' \u{1b}[31mred\u{1b}]0;t\u{7}\0\u{202e}\r\nnext&";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_764_345_600 + second).unwrap()
}

fn hostile_build(status: Status) -> Build {
    let text = || HOSTILE.to_owned();
    Build {
        id: Uuid::from_u128(0x1f3a_2b3c << 96),
        status,
        provider: Some(text()),
        region: text(),
        template: text(),
        requested_by: text(),
        image_id: Some(text()),
        run: Some(text()),
        created_at: at(0),
        started_at: Some(at(60)),
        completed_at: status.is_ended().then(|| at(600)),
        error: Some(text()),
    }
}

fn hostile_image(smoke: Smoke) -> Image {
    let text = || HOSTILE.to_owned();
    Image {
        image_id: text(),
        name: text(),
        version: text(),
        provider: Some(text()),
        region: text(),
        created_at: Some(at(0)),
        build_id: Some(Uuid::nil()),
        channels: vec![text(), "staging".to_owned()],
        smoke,
    }
}

fn hostile_home() -> Home {
    Home {
        user: HOSTILE.to_owned(),
        now: at(100),
        origin: HOSTILE.to_owned(),
        status: None,
        is_later: true,
        next_cursor: Some(HOSTILE.to_owned()),
        builds: Status::ALL.map(hostile_build).to_vec(),
        images: Ok([Smoke::Passed, Smoke::Failed, Smoke::NotTested].map(hostile_image).to_vec()),
    }
}

fn hostile_build_page(status: Status) -> BuildPage {
    let mut progress = Progress::default();
    let mut log = Vec::new();
    for (seq, event) in [
        json!({"event": "run-started", "run": HOSTILE, "command": HOSTILE}),
        json!({"event": "phase-started", "phase": HOSTILE, "subject": HOSTILE}),
        json!({"event": "step-started", "index": 1, "total": 2, "name": HOSTILE}),
        json!({"event": "step-output", "name": HOSTILE, "line": HOSTILE}),
        json!({"event": "step-finished", "index": 1, "total": 2, "name": HOSTILE, "outcome": HOSTILE, "seconds": 1.0}),
        json!({"event": "phase-finished", "phase": HOSTILE, "outcome": "done", "seconds": 1.0, "summary": HOSTILE}),
    ]
    .iter()
    .enumerate()
    {
        progress.add(event);
        let seq = i64::try_from(seq).unwrap() + 1;
        log.extend(log::line(event).map(|text| LogLine { seq, text }));
    }
    log.push(LogLine { seq: 7, text: HOSTILE.to_owned() });
    let build = hostile_build(status);
    BuildPage { user: HOSTILE.to_owned(), now: at(100), build, progress, log, is_cut: true, last_seq: 7 }
}

fn hostile_image_page() -> ImagePage {
    let text = || HOSTILE.to_owned();
    let check = |outcome: &str| Check {
        pass: text(),
        name: text(),
        outcome: outcome.to_owned(),
        seconds: 0.5,
        message: text(),
    };
    let checks = ["pass", "fail", "skipped", "quarantined", HOSTILE].map(check).to_vec();
    let smoke = Some(SmokeReport { at: Some(at(0)), checks });
    ImagePage { user: text(), image: hostile_image(Smoke::Failed), smoke, contents: vec![(text(), text())] }
}

/// Each page in each of its forms, with a name for messages.
fn pages() -> Vec<(&'static str, String)> {
    let none =
        Home { builds: Vec::new(), images: Ok(Vec::new()), is_later: false, next_cursor: None, ..hostile_home() };
    let pages: Vec<(&str, Markup)> = vec![
        ("home", home(&hostile_home())),
        ("empty home", home(&none)),
        ("filtered home", home(&Home { status: Some(Status::Failed), ..none.clone() })),
        ("home without images", home(&Home { images: Err(HOSTILE.to_owned()), ..none })),
        ("queued build", build(&hostile_build_page(Status::Queued))),
        ("running build", build(&hostile_build_page(Status::Building))),
        ("failed build", build(&hostile_build_page(Status::Failed))),
        ("succeeded build", build(&hostile_build_page(Status::Succeeded))),
        ("image", image(&hostile_image_page())),
        ("image without a report", image(&ImagePage { smoke: None, ..hostile_image_page() })),
        ("login", login(None)),
        ("failed login", login(Some(HOSTILE))),
        ("error", error(404, HOSTILE, Some(HOSTILE))),
        ("error without a session", error(500, HOSTILE, None)),
    ];
    pages.into_iter().map(|(name, page)| (name, page.into_string())).collect()
}

/// The tags of a page. Attribute values have no unescaped `>`, because maud escapes it.
fn tags(html: &str) -> Vec<&str> {
    html.split('<').skip(1).filter_map(|rest| rest.split('>').next()).collect()
}

/// The names of a tag's attributes.
fn attributes(tag: &str) -> Vec<&str> {
    let outside = tag.split('"').step_by(2);
    outside.flat_map(str::split_whitespace).skip(1).map(|name| name.trim_end_matches('=')).collect()
}

#[test]
fn hostile_texts_are_only_text() {
    for (name, html) in pages() {
        for tag in tags(&html) {
            let is_event = |attribute: &&str| attribute.starts_with("on") || *attribute == "style";
            assert!(!attributes(tag).iter().any(is_event), "{name}: <{tag}>");
        }
        let scripts: Vec<&str> = tags(&html).into_iter().filter(|tag| tag.starts_with("script")).collect();
        assert!(scripts.iter().all(|tag| *tag == "script src=\"/assets/live.js\" defer"), "{name}: {scripts:?}");
        assert!(!html.contains("<style") && !html.contains("javascript:"), "{name}");
        let hidden = |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!html.contains(hidden), "{name}");
        assert!(!html.contains("[31m"), "{name}: a terminal sequence");
    }
}

#[test]
fn hostile_texts_are_shown() {
    for (name, html) in pages() {
        if name != "login" {
            assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("red\\u{0}\\u{202e}"), "{name}: {html}");
        }
    }
}

#[test]
fn every_page_has_the_structure_that_screen_readers_use() {
    for (name, html) in pages() {
        let count = |start: &str| tags(&html).iter().filter(|tag| tag.split(' ').next() == Some(start)).count();
        assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{name}");
        assert_eq!((count("h1"), count("main"), count("title"), count("header")), (1, 1, 1, 1), "{name}");
        assert!(html.contains("<a class=\"skip\" href=\"#main\">"), "{name}");
        assert_eq!(count("table"), count("caption"), "{name}");
        assert!(tags(&html).iter().all(|tag| !tag.starts_with("th ") || tag.contains("scope=")), "{name}");
        let labelled = tags(&html).into_iter().filter(|tag| tag.starts_with("input") || tag.starts_with("select"));
        for field in labelled.filter(|field| !field.ends_with(" hidden")) {
            let id = field.split("id=\"").nth(1).unwrap().split('"').next().unwrap();
            assert!(html.contains(&format!("<label for=\"{id}\">")), "{name}: {field}");
        }
    }
}

#[test]
fn ids_are_unique_and_references_to_them_exist() {
    for (name, html) in pages() {
        // The hostile builds have the same id.
        let html =
            if name == "home" { home(&Home { builds: Vec::new(), ..hostile_home() }).into_string() } else { html };
        let values = |attribute: &str| -> Vec<String> {
            let start = format!(" {attribute}=\"");
            let found = tags(&html).into_iter().filter_map(|tag| tag.split(&start).nth(1).map(str::to_owned));
            found.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
        };
        let mut ids = values("id");
        let all = ids.len();
        for reference in values("aria-labelledby").into_iter().chain(values("for")).chain(values("aria-describedby")) {
            assert!(ids.contains(&reference), "{name}: {reference}");
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "{name}: {ids:?}");
    }
}

#[test]
fn only_pages_that_change_have_the_script() {
    for (name, html) in pages() {
        let is_live = name.contains("home") || name == "queued build" || name == "running build";
        assert_eq!(html.contains("/assets/live.js"), is_live, "{name}");
    }
    let html = build(&hostile_build_page(Status::Building)).into_string();
    let id = hostile_build(Status::Building).id;
    assert!(html.contains(&format!("data-events=\"/api/v1/images/builds/{id}/events\" data-after=\"7\"")), "{html}");
}

#[test]
fn links_encode_ids_and_cursors() {
    let mut page = hostile_home();
    page.builds[0].image_id = Some("../a?b#c%".to_owned());
    page.status = Some(Status::Failed);
    page.next_cursor = Some("a&status=queued".to_owned());
    let html = home(&page).into_string();
    assert!(html.contains("href=\"/images/..%2Fa%3Fb%23c%25\""), "{html}");
    assert!(html.contains("href=\"/?status=failed&amp;cursor=a%26status%3Dqueued\""), "{html}");
}

#[test]
fn commands_quote_hostile_ids() {
    let mut page = hostile_image_page();
    page.image.image_id = "$(reboot)'; x".to_owned();
    let html = image(&page).into_string();
    assert!(html.contains("cargo xtask ami report '$(reboot)'\\''; x'"), "{html}");
}

#[test]
fn failed_checks_come_first() {
    let html = image(&hostile_image_page()).into_string();
    let place = |outcome: &str| html.find(&format!(">{outcome}</span></td>")).unwrap();
    assert!(place("fail") < place("quarantined") && place("quarantined") < place("skipped"));
    assert!(place("skipped") < place("pass"));
}

#[test]
fn a_failed_build_names_its_run() {
    let mut page = hostile_build_page(Status::Failed);
    page.build.run = Some("run-20261128-084010-e8eec9".to_owned());
    let html = build(&page).into_string();
    assert!(html.contains("cargo xtask ami report run-20261128-084010-e8eec9"), "{html}");
    assert!(html.contains("<strong class=\"bad\">") || html.contains("class=\"outcome failed\">failed"), "{html}");
}

#[test]
fn an_empty_server_shows_what_to_do() {
    let html = pages().into_iter().find(|(name, _)| *name == "empty home").unwrap().1;
    assert!(html.contains("curl -X POST") && html.contains("cargo xtask ami build"), "{html}");
    let filtered = pages().into_iter().find(|(name, _)| *name == "filtered home").unwrap().1;
    assert!(filtered.contains("No builds with the status failed") && !filtered.contains("curl"), "{filtered}");
}

#[test]
fn the_assets_load_nothing_from_elsewhere() {
    for text in [STYLE, SCRIPT] {
        for word in
            ["http://", "https://", "@import", "url(", "innerHTML", "eval(", "insertAdjacentHTML", "document.write"]
        {
            assert!(!text.contains(word), "{word}");
        }
    }
    assert!(CSP.starts_with("default-src 'none'") && !CSP.contains("unsafe"), "{CSP}");
}
