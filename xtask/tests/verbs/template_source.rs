//! `--template` and `template_source`: templates from Git repositories and web servers, which are real here.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use assert_cmd::Command;
use xtask::process::Cmd;

use super::*;

const TEMPLATE: &str = r#"
variable "provider" {
  type    = string
  default = "codex"
}

source "qemu" "small" {
  ssh_username = "ubuntu"
}

build {
  sources = ["source.qemu.small"]

  provisioner "shell" {
    script = "run.sh"
  }
}
"#;

/// A web server with one template in several forms, over HTTP and HTTPS.
struct Server {
    dir: tempfile::TempDir,
    process: Child,
    http: String,
    https: String,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "its ports are read from its standard output")]
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("ca.pem"), dir.path().join("key.pem"));
        let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
        let openssl = Cmd::new("openssl").args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
        openssl.args(subject).arg("-keyout").arg(&key).arg("-out").arg(&certificate).read().unwrap();
        fs::write(dir.path().join("run.sh"), "echo hello\n").unwrap();
        fs::write(dir.path().join("small.pkr.hcl"), TEMPLATE.replace("script = \"run.sh\"", "inline = [\"true\"]"))
            .unwrap();
        fs::create_dir(dir.path().join("images")).unwrap();
        fs::write(dir.path().join("images/small.pkr.hcl"), TEMPLATE).unwrap();
        fs::write(dir.path().join("images/run.sh"), "echo hello\n").unwrap();
        let tar = Cmd::new("tar").args(["-czf", "small.tar.gz", "images"]).dir(dir.path());
        tar.read().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/server.py");
        let mut process = std::process::Command::new("python3")
            .arg(script)
            .args([dir.path(), &certificate, &key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (http, https) = line.trim().split_once(' ').unwrap();
        let (http, https) = (format!("http://127.0.0.1:{http}"), format!("https://127.0.0.1:{https}"));
        Self { dir, process, http, https }
    }

    fn checksum(&self, name: &str) -> String {
        format!("checksum=sha256:{}", Digest::of(&fs::read(self.dir.path().join(name)).unwrap()))
    }

    /// `ami plan` with this template, by a command that trusts the server's certificate.
    fn command(&self, project: &Project, template: &str) -> Command {
        let mut command = project.command(&["ami", "plan", "locus-agent", "--template", template]);
        command.env("CURL_CA_BUNDLE", self.dir.path().join("ca.pem")).env_remove("CI");
        command
    }

    fn plan(&self, project: &Project, template: &str) -> project::Ended {
        ended(&mut self.command(project, template))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn trees(project: &Project) -> usize {
    let sources = fs::read_dir(project.path(".agent-ami/templates")).into_iter().flatten().flatten();
    let entries = sources.flat_map(|source| fs::read_dir(source.path()).unwrap().flatten());
    entries.filter(|entry| !["lock", "latest.json"].iter().any(|name| entry.file_name() == *name)).count()
}

#[test]
fn a_template_from_a_web_server_is_planned_and_cached_by_its_checksum() {
    let (project, server) = (Project::new(), Server::start());
    let source = format!("{}/files/small.tar.gz?{}", server.https, server.checksum("small.tar.gz"));
    let plan = server.plan(&project, &source);
    plan.assert_exit(0, &["source: qemu.small", "files/small.tar.gz"]);
    assert!(plan.stdout.contains("run") && plan.stdout.contains("codex"), "{}", plan.stdout);
    let file = format!("{}/files/small.pkr.hcl?{}", server.http, server.checksum("small.pkr.hcl"));
    server.plan(&project, &file).assert_exit(0, &[]);
    assert_eq!(trees(&project), 2);
    drop(server);
    // Nothing is downloaded again.
    project.run(&["ami", "plan", "locus-agent", "--template", &source]).assert_exit(0, &[]);
    assert_eq!(trees(&project), 2);
}

#[test]
fn a_download_that_is_not_what_was_named_is_refused() {
    let (project, server) = (Project::new(), Server::start());
    let good = server.checksum("small.pkr.hcl");
    let wrong = good.replace(&good[good.len() - 4..], if good.ends_with("0000") { "1111" } else { "0000" });
    let (http, https) = (&server.http, &server.https);
    for (template, exit, why) in [
        (format!("{https}/files/small.pkr.hcl?{wrong}"), 4, "has SHA-256"),
        (format!("{https}/files/none.pkr.hcl?{good}"), 4, "404"),
        (format!("{https}/to-http/small.pkr.hcl?{good}"), 4, "redirects to another protocol, or to http"),
        (format!("{https}/to-file/x.pkr.hcl?{good}"), 4, "redirects to another protocol"),
        (format!("{https}/loop/x.pkr.hcl?{good}"), 4, "more than 5 redirects"),
        (format!("{https}/endless/x.pkr.hcl?{good}"), 2, "is larger than 64 MiB"),
        (format!("{https}/files/small.tar.gz//other?{}", server.checksum("small.tar.gz")), 2, "no template at `other`"),
        (format!("{https}/files/run.sh?{good}"), 2, "does not end in .pkr.hcl"),
        (format!("{http}/files/small.pkr.hcl"), 2, "has no checksum"),
        ("git::ext::sh -c x".to_owned(), 2, "is not a URL"),
    ] {
        server.plan(&project, &template).assert_exit(exit, &[why]);
        assert_eq!(trees(&project), 0, "{template}");
    }
    // A redirect to https is followed.
    let template = format!("{https}/to-https/small.pkr.hcl?{good}");
    server.plan(&project, &template).assert_exit(0, &[]);
}

#[test]
fn a_missing_checksum_is_a_warning_here_and_an_error_in_ci() {
    let (project, server) = (Project::new(), Server::start());
    let template = format!("{}/files/small.pkr.hcl", server.https);
    server.plan(&project, &template).assert_exit(0, &["has no checksum: its content may change at any time"]);
    let in_ci = ended(server.command(&project, &template).env("CI", "true"));
    in_ci.assert_exit(2, &["has no checksum, which is required in CI"]);
}

#[test]
fn the_password_in_a_url_is_not_shown_and_not_recorded() {
    let (project, server) = (Project::new(), Server::start());
    let with_password = server.https.replace("https://", "https://deploy:PASSWORD-42@");
    for name in ["small.pkr.hcl", "none.pkr.hcl"] {
        // A token as a parameter is not shown, either.
        let template = format!("{with_password}/files/{name}?token=TOKEN-4242&{}", server.checksum("small.pkr.hcl"));
        let ended = server.plan(&project, &template);
        let shown = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!shown.contains("PASSWORD-42") && !shown.contains("TOKEN-4242"), "{shown}");
    }
    let grep = Cmd::new("grep").args(["-r", "--files-with-matches", "-e", "PASSWORD-42", "-e", "TOKEN-4242"]);
    assert_eq!(grep.arg(project.path(".agent-ami")).output().unwrap().stdout, "", "a file has the password");
}

/// A repository with one commit of a template that has this content.
fn repository(project: &Project, template: &str) -> (String, String) {
    let dir = project.path("repository");
    fs::create_dir_all(dir.join("images")).unwrap();
    fs::write(dir.join("images/small.pkr.hcl"), template).unwrap();
    fs::write(dir.join("images/run.sh"), "echo hello\n").unwrap();
    let commit = commit(&dir, "A commit");
    (format!("git::file://{}//images?ref=main", dir.display()), commit)
}

#[test]
fn the_commit_of_a_repository_is_printed_and_a_comment_adds_no_step() {
    let project = Project::new();
    let plan = |source: &str| project.data(&["ami", "plan", "locus-agent", "--template", source]);
    let (source, commit) = repository(&project, TEMPLATE);
    let first = project.run(&["ami", "plan", "locus-agent", "--template", &source]);
    first.assert_exit(0, &[&commit]);
    let one = plan(&source);
    let (_, other) = repository(&project, &format!("{TEMPLATE}\n# A comment\n"));
    assert_ne!(commit, other);
    let two = plan(&source);
    // Without a base there are no keys; the steps are the same.
    let inputs = |plan: &Value| plan["plan"]["steps"].as_array().unwrap().len();
    assert_eq!(inputs(&one), inputs(&two));
}

#[test]
fn what_a_template_from_elsewhere_may_not_do_is_refused_by_line() {
    for (from, to, why) in [
        ("script = \"run.sh\"", "script = \"/etc/hostname\"", "is not one of the template's own files"),
        ("script = \"run.sh\"", "script = \"../../ami.toml\"", "is not one of the template's own files"),
        ("script = \"run.sh\"", "inline = [file(\"/etc/hostname\")]", "is not one of the template's own files"),
        ("provisioner \"shell\"", "provisioner \"shell-local\"", "would run on this host"),
        (
            "  provisioner",
            "  post-processor \"shell-local\" {\n    inline = [\"true\"]\n  }\n\n  provisioner",
            "would run on this host",
        ),
        (
            "  provisioner",
            "  post-processor \"manifest\" {\n    output = \"../x.json\"\n  }\n\n  provisioner",
            "is not below its directory",
        ),
        ("default = \"codex\"", "default = env(\"HOME\")", "environment variable HOME"),
        ("default = \"codex\"", "default = try(env(\"HOME\"), \"codex\")", "environment variable HOME"),
        (
            "script = \"run.sh\"",
            "inline = [try(file(\"/etc/hostname\"), \"none\")]",
            "is not one of the template's own files",
        ),
        (
            "script = \"run.sh\"",
            "inline = [can(file(\"/etc/hostname\")) ? \"a\" : \"b\"]",
            "is not one of the template's own files",
        ),
        (
            "  provisioner",
            "  post-processor \"checksum\" {\n    checksum_types = [\"${path.cwd}/md5\"]\n  }\n\n  provisioner",
            "unknown checksum type",
        ),
        ("\"small\"", "\"../../x\"", "is not the type or name of a source"),
    ] {
        let project = Project::new();
        assert!(TEMPLATE.contains(from));
        let (source, _) = repository(&project, &TEMPLATE.replace(from, to));
        project.run(&["ami", "plan", "locus-agent", "--template", &source]).assert_exit(2, &["small.pkr.hcl:", why]);
    }
}

#[test]
fn paths_of_a_template_start_from_its_directory_and_var_files_from_the_project() {
    let project = Project::new();
    let with_root = TEMPLATE.replace("\"run.sh\"", "\"${path.root}/run.sh\"");
    let (source, _) = repository(&project, &with_root);
    fs::write(project.path("mine.pkrvars.hcl"), "provider = \"gemini\"\n").unwrap();
    fs::write(project.path("repository/images/mine.pkrvars.hcl"), "provider = \"theirs\"\n").unwrap();
    repository(&project, &format!("{with_root}\n"));
    let plan = project.run(&["ami", "plan", "locus-agent", "--template", &source, "--var-file", "mine.pkrvars.hcl"]);
    plan.assert_exit(0, &[]);
    assert!(plan.stdout.contains("provider = \"gemini\""), "{}", plan.stdout);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    fs::write(project.path("repository/images/run.sh"), pointer).unwrap();
    commit(&project.path("repository"), "A pointer");
    let refused = project.run(&["ami", "plan", "locus-agent", "--template", &source]);
    refused.assert_exit(2, &["is not a script but a pointer of Git LFS"]);
}

#[test]
fn a_template_without_an_image_name_selects_its_image() {
    let project = Project::new();
    let image = |args: &[&str]| {
        project.data(&[&["ami", "plan", "--template"], args].concat())["plan"]["image"].as_str().unwrap().to_owned()
    };
    assert_eq!(image(&["builtin://default-ec2"]), "default-ec2");
    assert_eq!(image(&["packer/default-ec2/"]), "default-ec2");
    assert_eq!(image(&["./packer"]), "locus-agent");
    let (source, _) = repository(&project, TEMPLATE);
    project
        .run(&["ami", "plan", "--template", &source])
        .assert_exit(2, &["name the image", "default-ec2, locus-agent"]);
    assert_eq!(image(&[&source, "locus-agent"]), "locus-agent");
}

#[test]
fn an_upload_of_links_to_links_ends_at_a_limit() {
    let project = Project::new();
    let upload = "provisioner \"file\" {\n    source      = \"d0\"\n    destination = \"/tmp\"\n  }";
    let (source, _) = repository(
        &project,
        &TEMPLATE.replace("provisioner \"shell\"", &format!("{upload}\n\n  provisioner \"shell\"")),
    );
    for i in 0..20 {
        let dir = project.path(&format!("repository/images/d{i}"));
        fs::create_dir(&dir).unwrap();
        for name in ["a", "b"] {
            std::os::unix::fs::symlink(format!("../d{}", i + 1), dir.join(name)).unwrap();
        }
    }
    fs::create_dir(project.path("repository/images/d20")).unwrap();
    fs::write(project.path("repository/images/d20/x"), "x").unwrap();
    repository(&project, &fs::read_to_string(project.path("repository/images/small.pkr.hcl")).unwrap());
    let refused = project.run(&["ami", "plan", "locus-agent", "--template", &source]);
    refused.assert_exit(2, &["has too many files and directories"]);
}

#[test]
fn a_sensitive_variable_that_a_new_commit_declares_is_not_recorded() {
    let project = Project::new();
    let (source, _) = repository(&project, TEMPLATE);
    project.run(&["ami", "plan", "locus-agent", "--template", &source]).assert_exit(0, &[]);
    let token = "variable \"token\" {\n  type      = string\n  sensitive = true\n}\n";
    repository(&project, &format!("{token}{TEMPLATE}"));
    // It fails after the run has begun.
    let state = State::open(project.path(".agent-ami")).unwrap();
    let _other = state.lock("build", "another build").unwrap();
    let build = project.run(&["ami", "build", "locus-agent", "--template", &source, "--var", "token=HUNTER2SECRET"]);
    build.assert_exit(3, &["build is busy"]);
    let grep = Cmd::new("grep").args(["-r", "--files-with-matches", "HUNTER2SECRET"]);
    assert_eq!(grep.arg(project.path(".agent-ami")).output().unwrap().stdout, "", "the value was recorded");
}

#[test]
fn packer_runs_a_template_from_elsewhere_only_after_confirmation() {
    let project = Project::new();
    let (source, _) = repository(&project, TEMPLATE);
    let plan = project.data(&["ami", "plan", "locus-agent", "--template", &source]);
    assert_eq!(plan["plan"]["engine"], "native");
    let build = project.run(&["ami", "build", "locus-agent", "--engine", "packer", "--template", &source]);
    build.assert_exit(3, &["files, the environment and the programs of this host", "with Packer", "--yes"]);
}

#[test]
fn template_source_is_the_template_of_images_without_one() {
    let project = Project::new();
    let (source, commit) = repository(&project, TEMPLATE);
    project.edit("ami.toml", "template = \"packer\" ", "# ");
    let unset = project.run(&["ami", "plan"]);
    assert_eq!(unset.code, 2, "the default has no qemu.locus: {}", unset.stdout);
    let default = "template_source = \"builtin://default-ec2\"";
    project.edit("ami.toml", default, &format!("template_source = \"{source}\""));
    project.edit("ami.toml", "source_local = \"qemu.locus\"", "source_local = \"qemu.small\"");
    project.run(&["ami", "plan"]).assert_exit(0, &[&commit]);
    project.edit("ami.toml", &source, "git::http://example.org/x.git");
    project.run(&["ami", "plan"]).assert_exit(2, &["ami.toml:", "template_source", "without encryption"]);
    project.edit("ami.toml", "git::http://example.org/x.git", "nowhere");
    project.run(&["ami", "plan"]).assert_exit(2, &["`template_source`: nowhere does not exist"]);
}

#[test]
fn a_template_without_the_source_of_ami_toml_must_have_one_of_its_type() {
    let project = Project::new();
    let two = format!("{TEMPLATE}\nsource \"qemu\" \"large\" {{\n  ssh_username = \"ubuntu\"\n}}\n");
    let (source, _) = repository(&project, &two);
    project
        .run(&["ami", "plan", "locus-agent", "--template", &source])
        .assert_exit(2, &["does not declare the source qemu.locus", "qemu.small, qemu.large"]);
    let local: PathBuf = project.path("repository/images/small.pkr.hcl");
    fs::write(&local, TEMPLATE.replace("run.sh", "repository/images/run.sh")).unwrap();
    project
        .run(&["ami", "plan", "locus-agent", "--template", "repository/images"])
        .assert_exit(0, &["source: qemu.small"]);
    project.run(&["ami", "plan", "locus-agent", "--template", "none"]).assert_exit(2, &["does not exist"]);
}
