//! The queue: builds are run once, also if servers are killed, stopped and started again; they can be cancelled; and the queue is bounded.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use support::postgres::Postgres;
use support::{Project, wait};

/// The number of images that each run made.
fn images(lines: &[String]) -> BTreeMap<&str, usize> {
    let mut images = BTreeMap::new();
    for run in lines.iter().filter_map(|line| line.strip_prefix("image ")) {
        *images.entry(run).or_insert(0) += 1;
    }
    images
}

#[test]
fn a_build_succeeds_and_its_image_is_listed_and_deleted() {
    let project = Project::new("");
    let server = project.start();
    let build = server.build("100");
    let shown = server.wait(&build, &["succeeded"]);
    let image = shown["image_id"].as_str().unwrap().to_owned();
    assert_eq!((shown["provider"].as_str(), shown["region"].as_str()), (Some("codex"), Some("local-1")));
    assert!(shown["error"].is_null() && shown["started_at"].is_string() && shown["completed_at"].is_string());
    assert_eq!(shown.as_object().unwrap().len(), 8, "{shown}");
    let listed = server.get("/api/v1/images?region=local-1&provider=codex").json();
    let expected = json!([{
        "image_id": image, "provider": "codex", "region": "local-1", "status": "available", "created_at": "2026-11-28T09:00:00Z",
        "build_id": build,
    }]);
    assert_eq!(listed, json!({ "images": expected }));
    assert_eq!(server.get("/api/v1/images?region=local-2").json(), json!({ "images": [] }));
    std::fs::write(project.state().join("promoted"), &image).unwrap();
    let path = format!("/api/v1/images/{image}");
    server.delete(&path).assert_problem(409, "the channel `staging` points at");
    server.delete(&format!("{path}?force=true")).assert_problem(409, "promote another image first");
    std::fs::remove_file(project.state().join("promoted")).unwrap();
    let deleted = server.delete(&path);
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    server.delete(&path).assert_problem(404, "no image");
    assert_eq!(server.get("/api/v1/images").json(), json!({ "images": [] }));
}

#[test]
fn a_failed_build_has_its_error_and_a_crashed_one_is_resumed_under_its_run() {
    let project = Project::new("");
    let server = project.start();
    let (fails, dies, always) = (server.build("fail"), server.build("die"), server.build("always-die"));
    assert_eq!(server.wait(&fails, &["failed"])["error"], "the step `work` failed");
    server.wait(&dies, &["succeeded"]);
    let error = server.wait(&always, &["failed"])["error"].as_str().unwrap().to_owned();
    assert!(error.contains("ended 3 times without a result"), "{error}");
    let runs = project.built();
    let of_dies = runs.iter().find_map(|line| line.strip_prefix("image ")).unwrap();
    assert_eq!(runs.iter().filter(|line| line.ends_with(of_dies)).count(), 3, "begun twice, one image: {runs:?}");
}

#[test]
fn a_build_is_cancelled_while_it_waits_and_while_it_runs() {
    let project = Project::new("");
    let server = project.start();
    let (running, waiting) = (server.build("30000"), server.build("100"));
    server.wait(&running, &["building"]);
    let cancel = |build: &str| server.post(&format!("/api/v1/images/builds/{build}/cancel"), &json!({}));
    assert_eq!(cancel(&waiting).json()["status"], "failed");
    assert_eq!(cancel(&running).status, 202);
    let ended = server.wait(&running, &["failed"]);
    assert_eq!(ended["error"], "cancelled by admin");
    cancel(&running).assert_problem(409, "has ended: failed");
    let next = server.build("20");
    server.wait(&next, &["succeeded"]);
    assert_eq!(server.show(&waiting)["error"], "cancelled by admin");
    assert_eq!(images(&project.built()).len(), 1);
}

#[test]
fn the_queue_is_bounded_and_a_repeated_request_is_not_queued_twice() {
    let project = Project::new("queue_limit = 2");
    let server = project.start();
    let first = server.build("30000");
    server.wait(&first, &["building"]);
    server.build("1");
    let bearer = format!("Bearer {}", server.token);
    let send = |key: &str, provider: &str| {
        let headers =
            [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
        let body = json!({ "provider": provider }).to_string();
        server.request("POST", "/api/v1/images/build", &headers, Some(&body))
    };
    let (one, again) = (send("k1", "codex"), send("k1", "codex"));
    assert_eq!((one.status, again.status), (202, 202));
    assert_eq!(one.json(), again.json());
    send("k1", "gemini").assert_problem(422, "used for another request");
    let full = send("k2", "codex");
    full.assert_problem(503, "2 builds are queued");
    assert_eq!(full.header("retry-after"), "60");
    send("", "codex").assert_problem(422, "printable ASCII");
    assert_eq!(server.get("/api/v1/images/builds?status=queued").json()["builds"].as_array().unwrap().len(), 2);
}

#[test]
fn a_stopped_server_waits_for_its_builds_and_interrupts_them_after_a_second_signal() {
    let project = Project::new("");
    let server = project.start();
    let short = server.build("1000");
    server.wait(&short, &["building"]);
    server.signal(Signal::TERM);
    wait("the server to stop", || server.log().contains("waiting up to").then_some(()));
    server.get("/ready").assert_problem(503, "stops");
    server.post("/api/v1/images/build", &json!({ "provider": "codex" })).assert_problem(503, "accepts no build");
    assert_eq!(server.ended(), Some(0));
    let server = project.start();
    assert_eq!(server.show(&short)["status"], "succeeded");
    let long = server.build("3000");
    server.wait(&long, &["building"]);
    server.signal(Signal::TERM);
    wait("the server to stop", || server.log().contains("waiting up to").then_some(()));
    server.signal(Signal::TERM);
    assert_eq!(server.ended(), Some(0));
    assert_eq!(images(&project.built()).len(), 1, "{:?}", project.built());
    let server = project.start();
    server.wait(&long, &["succeeded"]);
    let runs: Vec<String> =
        project.built().iter().filter_map(|l| l.strip_prefix("begin ").map(str::to_owned)).collect();
    assert!(runs.len() == 3 && runs[1] == runs[2], "resumed under its run id: {runs:?}");
}

#[test]
fn only_one_server_uses_a_state_directory() {
    let project = Project::new("");
    let _server = project.start();
    let output = project.command().args(["serve", "--xtask", "/bin/true"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && text.contains("serve is busy"), "{text}");
}

#[test]
fn a_build_is_queued_and_shown_on_the_command_line() {
    let project = Project::new("");
    let server = project.start();
    let run = |words: &[&str]| {
        let output = project.command().arg("ami").args(words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let queue = ["build", "--queue", "--provider=codex", "--var=node_version=20"];
    let (code, id, text) = run(&queue);
    assert_eq!(code, Some(0), "{text}");
    let id = id.trim();
    server.wait(id, &["succeeded"]);
    let (code, shown, text) = run(&["status", id]);
    assert!(
        code == Some(0) && shown.contains("status     succeeded") && shown.contains("ami-local-run-"),
        "{shown}{text}"
    );
    for (words, why) in [
        (&["build", "--queue", "--force"][..], "--force cannot be used with --queue"),
        (&["build", "--queue", "--engine=packer"], "--engine cannot be used with --queue"),
        (&["build", "--queue", "--var=base_ami=ami-1"], "`variables.base_ami` is not allowed"),
        (&["build", "--queue", "--template=/etc"], "paths are not allowed"),
        (&["build", "--queue", "--wait"], "cannot be used with"),
        (&["status", "00000000-0000-0000-0000-000000000000"], "no build `00000000"),
    ] {
        let (code, _, text) = run(words);
        assert!(code == Some(2) && text.contains(why), "{words:?}: {text}");
    }
}

/// Fifty builds, during which the server is killed twenty times at random.
#[test]
fn no_build_is_lost_or_doubled_when_the_server_is_killed() {
    let project = Project::new("lease_secs = 3");
    let mut server = project.start();
    let builds: Vec<String> = (0..50).map(|_| server.build("200")).collect();
    let mut random = fastrand::Rng::with_seed(18);
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(random.u64(50..900)));
        server.signal(Signal::KILL);
        assert_eq!(server.ended(), None);
        server = project.start();
    }
    let runs: Vec<serde_json::Value> =
        builds.iter().map(|build| server.wait(build, &["succeeded", "failed"])).collect();
    let failed: Vec<_> = runs.iter().filter(|run| run["status"] != "succeeded").collect();
    assert!(failed.is_empty(), "{failed:?}\n{}", server.log());
    let lines = project.built();
    let made = images(&lines);
    assert!(made.len() == 50 && made.values().all(|count| *count == 1), "{made:?}");
    let ids: std::collections::BTreeSet<&str> = runs.iter().map(|run| run["image_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 50);
    let begun = lines.iter().filter(|line| line.starts_with("begin ")).count();
    assert!(begun > 50, "no kill hit a running build: {begun}");
}

/// Two servers with two state directories share one queue, and one is killed for good.
#[test]
fn servers_share_a_queue_in_postgresql_and_builds_of_a_dead_one_end_once() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let env = [("AGENT_AMI_SERVE_DATABASE_URL", url.as_str())];
    let settings = "lease_secs = 2\nabandon_secs = 3";
    let (one, two) = (Project::new(settings), Project::new(settings));
    let (first, second) = (one.start_with(&[], &env), two.start_with(&[], &env));
    let builds: Vec<String> = (0..20).map(|_| first.build("500")).collect();
    wait("both servers to build", || (one.built().len() > 2 && two.built().len() > 2).then_some(()));
    // Within a build: the server is killed when one has begun and not ended.
    wait("a build of the first server", || {
        one.built().last().is_some_and(|line| line.starts_with("begin ")).then_some(())
    });
    first.signal(Signal::KILL);
    first.ended();
    let ended: Vec<serde_json::Value> =
        builds.iter().map(|build| second.wait(build, &["succeeded", "failed"])).collect();
    let failed: Vec<&serde_json::Value> = ended.iter().filter(|build| build["status"] == "failed").collect();
    assert!(failed.len() <= 1, "{failed:?}");
    for build in &failed {
        assert!(build["error"].as_str().unwrap().contains("was not started again"), "{build}");
    }
    let lines = [one.built(), two.built()].concat();
    let made = images(&lines);
    assert!(made.values().all(|count| *count == 1), "{made:?}");
    assert_eq!(made.len(), 20 - failed.len());
    // The log of the killed server's builds is read through the other one.
    let log = second.get(&format!("/api/v1/images/builds/{}/log", builds[0]));
    assert!(log.text.contains("[work] step 0"), "{}", log.text);
    for project in [&one, &two] {
        let audit = std::fs::read_to_string(project.state().join("serve/audit.jsonl")).unwrap();
        assert!(!audit.contains("secret-of-the-database"));
    }
    assert!(!second.log().contains("secret-of-the-database"), "{}", second.log());
}

/// The same, but the killed server is started again in time.
#[test]
fn builds_of_a_dead_server_are_resumed_when_it_is_started_again() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let env = [("AGENT_AMI_SERVE_DATABASE_URL", url.as_str())];
    let (one, two) = (Project::new("lease_secs = 2"), Project::new("lease_secs = 2"));
    let (mut first, second) = (one.start_with(&[], &env), two.start_with(&[], &env));
    let builds: Vec<String> = (0..10).map(|_| second.build("400")).collect();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(random.u64(100..700)));
        first.signal(Signal::KILL);
        first.ended();
        first = one.start_with(&[], &env);
    }
    for build in &builds {
        assert_eq!(second.wait(build, &["succeeded", "failed"])["status"], "succeeded", "{}", second.show(build));
    }
    let lines = [one.built(), two.built()].concat();
    let made = images(&lines);
    assert!(made.len() == 10 && made.values().all(|count| *count == 1), "{made:?}");
}

/// A crashed process may have left an instance or an image, so no other server runs its build.
#[test]
fn a_crashed_build_is_resumed_only_by_the_server_that_began_it() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let env = [("AGENT_AMI_SERVE_DATABASE_URL", url.as_str())];
    let (one, two) = (Project::new(""), Project::new(""));
    let (first, _second) = (one.start_with(&[], &env), two.start_with(&[], &env));
    let builds: Vec<String> = (0..6).map(|_| first.build("die")).collect();
    for build in &builds {
        first.wait(build, &["succeeded"]);
    }
    let (of_one, of_two) = (one.built(), two.built());
    let lines = [of_one.clone(), of_two.clone()].concat();
    assert!(images(&lines).len() == 6 && lines.len() == 18, "begun twice, one image each: {lines:?}");
    let common: Vec<&String> = of_one.iter().filter(|line| of_two.contains(line)).collect();
    assert!(common.is_empty(), "{common:?}");
}

#[test]
fn builds_run_at_the_same_time_up_to_both_limits() {
    let project = Project::new("concurrency = 3\nregion_concurrency = 2");
    let server = project.start_with(&["--on", "aws"], &[]);
    let build = |region: &str| {
        let body = json!({ "provider": "codex", "region": region, "variables": { "node_version": "2500" } });
        server.post("/api/v1/images/build", &body).json()["build_id"].as_str().unwrap().to_owned()
    };
    let builds: Vec<String> =
        ["us-east-1", "us-east-1", "us-east-1", "us-east-1", "eu-west-1", "eu-west-1"].map(build).to_vec();
    let mut most = BTreeMap::new();
    wait("all builds", || {
        let all = server.get("/api/v1/images/builds").json()["builds"].clone();
        let all = all.as_array().unwrap();
        let running = |region: &str| {
            let is = |build: &&serde_json::Value| {
                build["status"] == "building" && (region.is_empty() || build["region"] == region)
            };
            all.iter().filter(is).count()
        };
        for region in ["", "us-east-1", "eu-west-1"] {
            let most = most.entry(region).or_insert(0);
            *most = running(region).max(*most);
        }
        all.iter().all(|build| build["status"] == "succeeded").then_some(())
    });
    assert_eq!((most[""], most["us-east-1"]), (3, 2), "{most:?}");
    assert!(most["eu-west-1"] >= 1, "{most:?}");
    assert_eq!(images(&project.built()).len(), builds.len());
}
