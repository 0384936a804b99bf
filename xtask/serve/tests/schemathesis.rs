//! The API answers as in its OpenAPI document: schemathesis sends requests that the document permits and others that it does not.

mod support;

use support::{Project, provided, run};

#[test]
fn no_request_causes_a_server_error_or_an_undocumented_answer() {
    let project = Project::new("queue_limit = 100000");
    let server = project.start();
    // An image and an ended build, so that some requests find one.
    let build = server.build("20");
    server.wait(&build, &["succeeded"]);
    let program = provided("schemathesis").join("schemathesis");
    let (url, token) =
        (format!("{}/api/v1/openapi.json", server.url), format!("Authorization: Bearer {}", server.token));
    let output = run(
        program.to_str().unwrap(),
        &[
            "run",
            &url,
            "--header",
            &token,
            "--max-examples",
            "30",
            "--phases",
            "examples,coverage,fuzzing",
            "--seed",
            "18",
            // What ami.toml allows is not in the document, so requests that it permits may be refused.
            "--exclude-checks",
            "positive_data_acceptance",
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text.split_once("SUMMARY").map_or(&*text, |(_, summary)| summary);
    assert!(output.status.success(), "{text}\n{}", server.log());
    assert!(text.contains("16 selected / 16 total"), "{text}");
    println!("{summary}");
}
