//! The HTTP API: who may do what, what is refused, and the forms of answers.

mod support;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Project, events, wait};

#[test]
fn every_operation_requires_a_token_with_its_scope() {
    let project = Project::new("");
    let server = project.start();
    let document = server.get("/api/v1/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let scopes = ["read", "build", "promote", "delete"].map(|scope| (scope, project.token(scope, scope)));
    let mut checked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation["security"] == json!([{}]) {
                continue;
            }
            let path =
                path.replace("{build_id}", "00000000-0000-0000-0000-000000000000").replace("{image_id}", "ami-x");
            let path = path.replace("{channel}", "staging");
            let method = method.to_uppercase();
            let send = |token: Option<&str>| {
                let bearer = token.map(|token| format!("Bearer {token}"));
                let mut headers = vec![("content-type", "application/json")];
                headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
                server.request(&method, &path, &headers, Some("{}")).status
            };
            assert_eq!((send(None), send(Some("wrong"))), (401, 401), "{method} {path}");
            let needed = match (method.as_str(), path.contains("/channels/")) {
                ("GET", _) => "read",
                ("DELETE", _) => "delete",
                (_, true) => "promote",
                (_, false) => "build",
            };
            for (scope, token) in &scopes {
                let status = send(Some(token));
                assert_eq!(status == 403, *scope != needed, "{method} {path} with {scope}: {status}");
                assert_ne!(status, 401, "{method} {path} with {scope}");
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 14, "an operation was added or lost its token");
}

#[test]
fn a_page_of_another_site_and_another_host_are_refused() {
    let project = Project::new("hosts = [\"ami.example.com\"]");
    let server = project.start();
    let bearer = format!("Bearer {}", server.token);
    let send = |headers: &[(&str, &str)]| {
        let all = [&[("authorization", bearer.as_str()), ("content-type", "application/json")], headers].concat();
        server.request("POST", "/api/v1/images/build", &all, Some("{\"provider\":\"codex\"}"))
    };
    send(&[("host", "evil.example.com")]).assert_problem(403, "this server is not `evil.example.com`");
    send(&[("origin", "https://evil.example.com")]).assert_problem(403, "a page of `https://evil.example.com`");
    send(&[("origin", "null")]).assert_problem(403, "a page of `null`");
    send(&[("sec-fetch-site", "cross-site")]).assert_problem(403, "another site");
    assert_eq!(send(&[("host", "ami.example.com"), ("origin", "https://ami.example.com")]).status, 202);
    let answer = server.request("GET", "/health", &[], None);
    assert_eq!((answer.status, answer.header("x-content-type-options")), (200, "nosniff"));
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[test]
fn bodies_and_parameters_are_checked() {
    let project = Project::new("");
    let server = project.start();
    let bearer = format!("Bearer {}", server.token);
    let send = |kind: &str, body: &str| {
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        server.request("POST", "/api/v1/images/build", &headers, Some(body))
    };
    send("application/json", "{").assert_problem(400, "not JSON");
    send("text/plain", "{}").assert_problem(415, "application/json");
    send("application/json", &format!("{{\"provider\": \"{}\"}}", "x".repeat(70_000))).assert_problem(413, "");
    send("application/json", "{\"provider\":\"cursor\"}").assert_problem(422, "provider `cursor` is not supported");
    server.get("/api/v1/images?regoin=x").assert_problem(400, "unknown field `regoin`");
    server.get("/api/v1/images?limit=0").assert_problem(400, "`limit` is 0");
    server.get("/api/v1/images/builds?status=lost").assert_problem(400, "lost");
    server.get("/api/v1/images/builds?cursor=x").assert_problem(400, "not a cursor");
    server.get("/api/v1/images/builds/x").assert_problem(404, "no build `x`");
    server.get("/api/v1/images/builds/00000000-0000-0000-0000-000000000000/events").assert_problem(404, "no build");
    server.get("/api/v1/nothing").assert_problem(404, "no such path");
    server.delete("/api/v1/images").assert_problem(405, "method");
    server.post("/api/v1/channels/nothing/promote", &json!({ "image_id": "ami-1" })).assert_problem(404, "no channel");
    server.post("/api/v1/channels/staging/rollback", &json!({ "reason": " " })).assert_problem(422, "`reason`");
    server.post("/api/v1/channels/staging/promote", &json!({ "image": "x" })).assert_problem(422, "unknown field");
}

#[test]
fn lists_have_pages() {
    let project = Project::new("");
    let server = project.start();
    let mut builds: Vec<String> = (0..5).map(|_| server.build("20")).collect();
    builds.iter().for_each(|build| drop(server.wait(build, &["succeeded"])));
    builds.reverse();
    for (path, list, id, expected) in [
        ("/api/v1/images/builds?status=succeeded&limit=2", "builds", "build_id", builds),
        ("/api/v1/images?provider=codex&limit=2", "images", "build_id", Vec::new()),
    ] {
        let (mut found, mut next, mut pages) = (Vec::new(), Some(path.to_owned()), 0);
        while let Some(path) = next {
            let answer = server.get(&path);
            let entries = answer.json()[list].as_array().unwrap().clone();
            found.extend(entries.iter().map(|entry| entry[id].as_str().unwrap().to_owned()));
            let link = answer.header("link").to_owned();
            next = link.strip_prefix('<').and_then(|rest| Some(rest.split_once('>')?.0.to_owned()));
            pages += 1;
        }
        assert_eq!((found.len(), pages), (5, 3), "{path}");
        assert!(expected.is_empty() || found == expected, "{found:?} {expected:?}");
    }
}

#[test]
fn events_are_streamed_to_the_end_and_continue_after_the_last_one() {
    let project = Project::new("");
    let server = project.start();
    let build = server.build("1000");
    let all = events(&server.url, &server.token, &build, None);
    let numbers: Vec<i64> = all.iter().filter_map(|(_, id, _)| id.parse().ok()).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    let (kind, _, data) = all.last().unwrap();
    let end: Value = serde_json::from_str(data).unwrap();
    assert_eq!((kind.as_str(), end["status"].as_str()), ("end", Some("succeeded")));
    assert!(all.iter().any(|(_, _, data)| data.contains("\"result\"")), "the last event precedes the end");
    let rest = events(&server.url, &server.token, &build, Some(&numbers[numbers.len() - 3].to_string()));
    assert_eq!(rest.len(), 3, "{rest:?}");
    let path = format!("/api/v1/images/builds/{build}/events");
    let bearer = format!("Bearer {}", server.token);
    let wrong = server.request("GET", &path, &[("authorization", &bearer), ("last-event-id", "-1")], None);
    wrong.assert_problem(400, "Last-Event-ID");
    let log = server.get(&format!("/api/v1/images/builds/{build}/log"));
    assert!(log.header("content-type").starts_with("text/plain") && log.text.contains("[work] step 3"), "{}", log.text);
}

#[test]
fn a_long_log_is_complete() {
    let project = Project::new("");
    let server = project.start();
    let build = server.build("lines");
    server.wait(&build, &["succeeded"]);
    let log = server.get(&format!("/api/v1/images/builds/{build}/log")).text;
    let numbers: Vec<usize> = log.lines().filter_map(|line| line.strip_prefix("[work] line ")?.parse().ok()).collect();
    assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
}

#[test]
fn requests_and_wrong_tokens_are_limited() {
    let project = Project::new("").with("requests_per_minute = 1000000", "requests_per_minute = 20");
    let server = project.start();
    let statuses: Vec<u16> = (0..30).map(|_| server.get("/api/v1/channels").status).collect();
    assert!(statuses[..20].iter().all(|status| *status == 200) && statuses[29] == 429, "{statuses:?}");
    let refused = server.get("/api/v1/channels");
    refused.assert_problem(429, "requests_per_minute");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds <= 60));
    let wrong: Vec<u16> = (0..40)
        .map(|_| server.request("GET", "/api/v1/channels", &[("authorization", "Bearer x")], None).status)
        .collect();
    assert!(wrong[0] == 401 && wrong[39] == 429, "{wrong:?}");
}

#[test]
fn the_audit_log_has_who_asked_for_what_and_no_secret() {
    let project = Project::new("");
    let server = project.start();
    let ci = project.token("ci", "build,read");
    let headers = [("authorization", format!("Bearer {ci}")), ("content-type", "application/json".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = server.request("POST", "/api/v1/images/build", &headers, Some("{\"provider\":\"codex\"}"));
    assert_eq!(answer.status, 202);
    server.request("DELETE", "/api/v1/images/ami-1", &headers, None).assert_problem(403, "the scope `delete`");
    server.wait(answer.json()["build_id"].as_str().unwrap(), &["succeeded"]);
    let file = project.state().join("serve/audit.jsonl");
    let audit = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["what"], "POST /api/v1/images/build");
    assert_eq!((&lines[0]["who"], &lines[0]["status"]), (&json!("ci"), &json!(202)));
    assert_eq!((&lines[1]["what"], &lines[1]["status"]), (&json!("DELETE /api/v1/images/ami-1"), &json!(403)));
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o777, 0o600);
    let everything = [audit, server.log(), server.get("/metrics").text].concat();
    assert!(!everything.contains(&ci) && !everything.contains(&server.token), "{everything}");
    // A revoked token is refused at once.
    let revoked = project.command().args(["serve", "token", "revoke", "ci"]).output().unwrap();
    assert!(revoked.status.success());
    server.request("GET", "/api/v1/images", &headers, None).assert_problem(401, "no valid token");
}

#[test]
fn an_address_of_other_machines_requires_tls() {
    let project = Project::new("");
    let output = project.command().args(["serve", "--listen", "0.0.0.0:0", "--xtask", "/bin/true"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("it requires TLS"), "{text}");
    let (cert, key) = (project.dir.path().join("cert.pem"), project.dir.path().join("key.pem"));
    let made = support::run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            cert.to_str().unwrap(),
        ],
    );
    assert!(made.status.success());
    let options = ["--listen", "0.0.0.0:0", "--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = project.start_with(&options, &[]);
    let port = server.url.rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}/health");
    let curl = support::run("curl", &["--silent", "--show-error", "--cacert", cert.to_str().unwrap(), &url]);
    assert_eq!(
        String::from_utf8_lossy(&curl.stdout),
        "{\"status\":\"ok\"}",
        "{}",
        String::from_utf8_lossy(&curl.stderr)
    );
    let plain = support::run("curl", &["--silent", "--max-time", "5", &url.replace("https", "http")]);
    assert!(!String::from_utf8_lossy(&plain.stdout).contains("ok"));
}

#[test]
fn a_client_that_sends_its_request_slowly_is_disconnected() {
    let project = Project::new("");
    let server = project.start();
    let mut stream = std::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    let mut rest = Vec::new();
    let started = std::time::Instant::now();
    stream.read_to_end(&mut rest).unwrap();
    assert!(started.elapsed() < Duration::from_secs(20), "the header timeout is 10 s");
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[test]
fn a_client_that_sends_its_body_slowly_is_refused() {
    let project = Project::new("");
    let server = project.start();
    let mut stream = std::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    let head =
        format!("POST /api/v1/images/build HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n", server.token);
    let head = format!("{head}Content-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{{");
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    let mut rest = Vec::new();
    let started = std::time::Instant::now();
    stream.read_to_end(&mut rest).unwrap();
    let text = String::from_utf8_lossy(&rest).into_owned();
    assert!(started.elapsed() < Duration::from_secs(20) && text.contains("HTTP/1.1 4"), "{text}");
}

#[test]
fn health_readiness_and_metrics_are_reported() {
    let project = Project::new("");
    let server = project.start();
    let build = server.build("20");
    server.wait(&build, &["succeeded"]);
    assert_eq!(server.request("GET", "/health", &[], None).json(), json!({ "status": "ok" }));
    assert_eq!(server.request("GET", "/ready", &[], None).json(), json!({ "status": "ok" }));
    let metrics = wait("the metrics", || {
        let text = server.get("/metrics").text;
        text.contains("agent_ami_builds{status=\"succeeded\"} 1").then_some(text)
    });
    assert!(metrics.contains("route=\"/api/v1/images/builds/{build_id}\""), "{metrics}");
    assert!(!metrics.contains(&build), "an id would make a series of its own: {metrics}");
}

#[test]
fn the_openapi_document_lists_every_answer_of_an_operation() {
    let document = serde_json::to_value(xtask_serve::api::openapi()).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("429") && responses.contains_key("403"), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 10), "{method} {path}");
            for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
            }
        }
    }
    assert!(document["components"]["schemas"]["Problem"]["properties"]["detail"].is_object());
}
