//! A build of the image default-ec2 through the API, by the real `xtask`, in the state directory of the project.

mod support;

use serde_json::json;
use support::{Server, events, root, wait};

#[test]
#[ignore = "builds an image"]
fn the_api_builds_a_real_image_and_deletes_it() {
    let server = Server::real(&[]);
    let body = json!({ "provider": "codex", "variables": { "extra_packages": "ripgrep" } });
    let answer = server.post("/api/v1/images/build", &body);
    assert_eq!(answer.status, 202, "{}", answer.text);
    let build = answer.json()["build_id"].as_str().unwrap().to_owned();
    // The stream ends with the build.
    let stream = events(&server.url, &server.token, &build, None);
    let shown = server.show(&build);
    let log = server.get(&format!("/api/v1/images/builds/{build}/log")).text;
    assert_eq!(shown["status"], "succeeded", "{shown}\n{log}");
    let image = shown["image_id"].as_str().unwrap().to_owned();
    println!("{shown}\n{} events; the last lines of the log:", stream.len());
    log.lines().rev().take(5).for_each(|line| println!("{line}"));
    assert!(stream.iter().any(|(_, _, data)| data.contains("\"event\":\"step-finished\"")), "{log}");
    let listed = server.get("/api/v1/images?provider=codex").json();
    let entry = listed["images"].as_array().unwrap().iter().find(|entry| entry["image_id"] == image.as_str()).unwrap();
    assert_eq!((&entry["build_id"], &entry["region"]), (&json!(build), &json!("local-1")));
    server.get(&format!("/api/v1/images/{image}/smoke")).assert_problem(404, "was not tested");
    let promoted = server.post("/api/v1/channels/staging/promote", &json!({ "image_id": image }));
    promoted.assert_problem(409, "may not be promoted");
    let directory = root().join(".agent-ami/regions/local-1").join(&image);
    assert!(directory.join("image.json").exists());
    let deleted = server.delete(&format!("/api/v1/images/{image}"));
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    assert!(!directory.exists());
    wait("the list without it", || (!server.get("/api/v1/images").text.contains(&image)).then_some(()));
}

/// A request must not run a program on the server, also not through Packer, which has fewer limits.
#[test]
#[ignore = "uses the state directory of the project"]
fn an_inline_template_cannot_run_programs_of_the_server() {
    let server = Server::real(&[("AGENT_AMI_SERVE_INLINE_SOURCES", "true")]);
    let mark = tempfile::tempdir().unwrap();
    let file = mark.path().join("ran");
    let template = |block: &str| {
        format!(
            "variable \"provider\" {{\n  type = string\n}}\nsource \"qemu\" \"locus\" {{\n}}\nbuild {{\n  sources = [\"source.qemu.locus\"]\n{block}\n}}\n"
        )
    };
    let local = format!("  provisioner \"shell-local\" {{\n    inline = [\"touch {}\"]\n  }}", file.display());
    // Native does not support the first one, and Packer would run both.
    for (block, why) in
        [(format!("  provisioner \"ansible\" {{\n  }}\n{local}"), "ansible"), (local.clone(), "shell-local")]
    {
        let body = json!({ "template": { "type": "inline", "content": template(&block) }, "agent_provider": "codex" });
        let answer = server.post("/api/v1/images/build", &body);
        assert_eq!(answer.status, 202, "{}", answer.text);
        let ended = server.wait(answer.json()["build_id"].as_str().unwrap(), &["succeeded", "failed"]);
        assert!(ended["status"] == "failed" && ended["error"].as_str().unwrap().contains(why), "{ended}");
        assert!(!file.exists());
    }
}
