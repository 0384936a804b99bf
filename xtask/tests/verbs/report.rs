//! `ami report`, and the outputs, summary and annotations of a workflow.

use super::*;

#[test]
fn a_workflow_gets_outputs_a_summary_and_annotations() {
    let project = Project::new();
    let image = project.ready("one");
    let (output, summary) = (project.path("output"), project.path("summary"));
    let run = |args: &[&str]| {
        let mut command = project.command(args);
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", &output).env("GITHUB_STEP_SUMMARY", &summary);
        ended(&mut command)
    };
    let read = |file: &std::path::Path| fs::read_to_string(file).unwrap();

    run(&["ami", "promote", "--yes"]).assert_exit(0, &["report: .agent-ami/reports/run-"]);
    let outputs = read(&output);
    for line in ["channel=staging\n", &format!("ami_id={}\n", image.id), "ami_id_local_2=ami-local-", "run=run-"] {
        assert!(outputs.contains(line), "{line}: {outputs}");
    }
    let page = outputs.lines().find_map(|line| line.strip_prefix("report=")).unwrap();
    assert!(fs::read_to_string(page).unwrap().contains(&image.id.0));
    assert!(read(&summary).contains(&format!("| local-1 | `{}` |", image.id)), "{}", read(&summary));

    run(&["ami", "plan", "--all"]).assert_exit(0, &[]);
    let images = read(&output);
    let images = images.lines().find_map(|line| line.strip_prefix("images=")).unwrap();
    let images: Value = serde_json::from_str(images).unwrap();
    assert_eq!((&images[0]["image"], &images[1]["image"]), (&"default-ec2".into(), &"locus-agent".into()));

    project.edit("scripts/pins.json", "\"eol\": \"2028-04-30\"", "\"eol\": \"2026-04-30\"");
    let ended = run(&["validate"]);
    ended.assert_exit(2, &["::error title=pins,file=scripts/pins.json,line="]);
    assert!(read(&summary).contains("end of life"), "{}", read(&summary));
    assert!(
        project.run(&["validate"]).stderr.lines().all(|line| !line.starts_with("::")),
        "an annotation outside of a workflow"
    );
}

#[test]
fn report_writes_the_report_and_documents_of_a_run_or_image() {
    let project = Project::new();
    project.run(&["ami", "report"]).assert_exit(2, &["no report yet"]);
    let image = project.ready("one");
    project.contents(&image, &[("node", "24.0.0")]);
    let promoted = project.run(&["ami", "promote", "--yes"]);
    let page = promoted.stderr.lines().find_map(|line| line.trim().strip_prefix("report: ")).unwrap();
    let run = std::path::Path::new(page).parent().unwrap().file_name().unwrap().to_str().unwrap();
    let latest = project.run(&["ami", "report"]);
    let html = fs::read_to_string(latest.stdout.trim()).unwrap();
    assert!(html.contains("copy local-2") && html.contains("promote staging"), "not all runs of the image: {html}");
    let (file, dir) = (project.path("one.html"), project.path("documents"));
    let output = ["--output", file.to_str().unwrap(), "--documents", dir.to_str().unwrap()];
    for what in [run, &image.id.0, &image.name] {
        project
            .run(&[&["ami", "report", what][..], &output].concat())
            .assert_exit(0, &["report.html", "sbom.cdx.json"]);
        let html = fs::read_to_string(&file).unwrap();
        assert!(html.contains(&image.id.0) && html.contains("channels/staging.env"), "{what}: {html}");
        assert!(dir.join("manifest.json").exists() && dir.join("smoke.json").exists());
    }
    project.run(&["ami", "report", "run-nothing"]).assert_exit(2, &["no report of run-nothing"]);
}
