//! The pages in headless Chromium: login, live state and log, escaping, keyboard, narrow windows, and without scripts.
//!
//! With `AGENT_AMI_SCREENSHOT=FILE` the first test writes the screenshot of the documentation.

mod support;

use serde_json::json;
use support::browser::Browser;
use support::{Project, Server};

/// Logs in with the keyboard alone.
fn log_in(browser: &mut Browser, server: &Server) {
    browser.open(&server.url);
    assert_eq!(browser.text("location.pathname"), "/login");
    assert_eq!(browser.text("document.activeElement.name"), "token", "the field has the focus");
    browser.call("Input.insertText", &json!({ "text": server.token }));
    browser.press("Enter", 13);
    browser.until("location.pathname === '/' && document.readyState === 'complete'");
}

/// What every page must have.
#[track_caller]
fn is_accessible(browser: &mut Browser) {
    let expected = json!([1, "en", true, 0, 0, 0, true]);
    let found = browser.eval(
        "[document.querySelectorAll('h1').length, document.documentElement.lang, document.title.length > 5,
          document.querySelectorAll('[style], [onclick], style').length,
          [...document.querySelectorAll('th')].filter(th => !th.scope).length,
          [...document.querySelectorAll('input:not([hidden]), select')].filter(field => !field.labels.length).length,
          [...document.querySelectorAll('table')].every(table => table.caption)]",
    );
    assert_eq!(found, expected, "{}", browser.text("document.documentElement.outerHTML"));
}

#[test]
fn a_build_is_followed_to_its_end_on_the_page() {
    let project = Project::new("");
    let server = project.start();
    let mut browser = Browser::start();
    browser.look(1200, 900, "light");
    log_in(&mut browser, &server);
    is_accessible(&mut browser);
    assert!(browser.text("document.body.innerText").contains("/api/v1/images/build"), "an empty list has the command");
    // Longer than the time between two updates of the table.
    let build = server.build("7000");
    // The table is updated without a reload.
    browser.until("document.querySelector('#build-rows .building')");
    browser.open(&format!("{}/builds/{build}", server.url));
    is_accessible(&mut browser);
    browser.until("document.querySelector('main').innerText.includes('[work] step 20')");
    let html = browser.text("document.querySelector('main').innerHTML");
    assert!(html.contains("&lt;b&gt;") && !html.contains("<b>") && !html.contains('\u{1b}'), "the log is escaped");
    let (image, fails) = (server.wait(&build, &["succeeded"])["image_id"].clone(), server.build("fail"));
    browser.until("document.querySelector('[data-status=succeeded]')");
    let announced = browser.text("document.querySelector('[aria-live]').innerText");
    assert!(announced.contains("succeeded"), "{announced}");
    let lines = browser
        .eval("[...document.querySelector('main').innerText.matchAll(/\\[work\\] step (\\d+)/g)].map(m => +m[1])");
    assert_eq!(lines, json!((0..350).collect::<Vec<_>>()), "each line once, in order");
    server.wait(&fails, &["failed"]);
    browser.open(&format!("{}/builds/{fails}", server.url));
    assert!(browser.text("document.body.innerText").contains("the step `work` failed"));
    browser.open(&format!("{}/images/{}", server.url, image.as_str().unwrap()));
    is_accessible(&mut browser);
    assert!(browser.text("document.body.innerText").contains("not tested"));
    browser.open(&server.url);
    if let Ok(file) = std::env::var("AGENT_AMI_SCREENSHOT") {
        server.build("20000");
        browser.until("document.querySelector('#build-rows .building')");
        let png = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, browser.screenshot()).unwrap();
        std::fs::write(file, png).unwrap();
    }
    for width in [320, 1200] {
        browser.look(width, 900, "dark");
        let overflow = browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(overflow, json!(0), "the page is wider than a window of {width} pixels");
    }
    assert!(browser.problems.is_empty(), "{:?}", browser.problems);
}

#[test]
fn every_control_is_reached_with_the_keyboard_and_shows_the_focus() {
    let project = Project::new("");
    let server = project.start();
    let build = server.build("20");
    server.wait(&build, &["succeeded"]);
    let mut browser = Browser::start();
    log_in(&mut browser, &server);
    browser.until("document.querySelector('#build-rows a')");
    let controls =
        browser.eval("[...document.querySelectorAll('a[href], button:not([hidden]), select, input')].length");
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..controls.as_u64().unwrap() + 2 {
        browser.press("Tab", 9);
        let focused = browser.text("document.activeElement.outerHTML.slice(0, 200)");
        if focused.starts_with("<body") {
            continue;
        }
        let outline = browser.text("getComputedStyle(document.activeElement).outlineStyle");
        assert_ne!(outline, "none", "{focused}");
        reached.insert(focused);
    }
    assert!(reached.iter().any(|html| html.contains("skip")), "{reached:?}");
    assert!(reached.iter().any(|html| html.contains(&build)), "{reached:?}");
    assert!(reached.iter().any(|html| html.contains("Log out")), "{reached:?}");
    browser.eval("document.querySelector('.session button').focus()");
    browser.press("Enter", 13);
    browser.until("location.pathname === '/login'");
    browser.open(&server.url);
    assert_eq!(browser.text("location.pathname"), "/login", "the session has ended");
}

#[test]
fn the_pages_work_without_scripts() {
    let project = Project::new("");
    let server = project.start();
    let build = server.build("300");
    server.wait(&build, &["succeeded"]);
    let mut browser = Browser::start();
    browser.call("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    log_in(&mut browser, &server);
    assert!(browser.text("document.querySelector('#build-rows').innerText").contains("succeeded"));
    browser.open(&format!("{}/builds/{build}", server.url));
    assert!(browser.text("document.querySelector('main').innerText").contains("[work] step 3"));
    assert_eq!(
        browser.text("[...document.querySelectorAll('a')].find(a => a.innerText === 'Refresh').pathname"),
        format!("/builds/{build}")
    );
    browser.open(&format!("{}/?status=failed", server.url));
    assert!(!browser.text("document.querySelector('main').innerText").contains(&build[..8]));
}

#[test]
fn pages_require_a_session_with_the_scope() {
    let project = Project::new("");
    let server = project.start();
    let get = |path: &str, cookie: &str| server.request("GET", path, &[("cookie", cookie)], None);
    let page = get("/", "");
    assert_eq!((page.status, page.header("location")), (303, "/login"));
    let form = |token: &str, headers: &[(&str, &str)]| {
        let all = [&[("content-type", "application/x-www-form-urlencoded")], headers].concat();
        server.request("POST", "/login", &all, Some(&format!("token={token}")))
    };
    let wrong = form("wrong", &[]);
    assert!(wrong.status == 401 && wrong.text.contains("role=\"alert\""), "{}", wrong.text);
    form(&server.token, &[("origin", "https://evil.example.com")]).assert_problem(403, "evil.example.com");
    let right = form(&server.token, &[]);
    let cookie = right.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(right.header("set-cookie").contains("HttpOnly; SameSite=Strict"), "{}", right.header("set-cookie"));
    let home = get("/", &cookie);
    assert_eq!(home.status, 200, "{}", home.text);
    let policy = home.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(get("/builds/x", &cookie).status, 404);
    assert!(get("/builds/x", &cookie).header("content-type").starts_with("text/html"));
    // The cookie reads, and changes nothing.
    let body = [("cookie", cookie.as_str()), ("content-type", "application/json")];
    server
        .request("POST", "/api/v1/images/build", &body, Some("{\"provider\":\"codex\"}"))
        .assert_problem(401, "token");
    let deletes = project.token("deletes", "delete");
    let cookie = form(&deletes, &[]).header("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!(get("/", &cookie).status, 403);
    // A revoked token ends its sessions.
    assert!(project.command().args(["serve", "token", "revoke", "deletes"]).output().unwrap().status.success());
    assert_eq!(get("/", &cookie).status, 303);
}
