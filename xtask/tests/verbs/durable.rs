//! Files in the state directory and env files: damaged, incomplete, behind a symbolic link, written by several processes at once.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xtask::cloud::Cloud as _;
use xtask::cloud::local::{Local, Settings, Size};
use xtask::state::{RunRequest, State};

use crate::project::Project;

#[test]
fn gc_and_rollback_work_with_a_damaged_file_of_marks_and_report_it() {
    for damage in ["", "{\"promoted:staging\": 1}", "not JSON"] {
        let project = Project::new();
        let (first, second) = (project.ready("20261121-0001"), project.ready("20261121-0002"));
        let other = project.ready("20261121-0003");
        for image in [&first, &second] {
            project.run(&["ami", "promote", &image.id.0, "--yes"]).assert_exit(0, &[]);
        }
        let dir = project.path(&format!(".agent-ami/regions/local-1/{}", other.id));
        fs::write(dir.join("marks.json"), damage).unwrap();
        let plan = project.data(&["ami", "gc"])["decisions"].clone();
        let of = plan.as_array().unwrap().iter().find(|d| d["id"] == other.id.0.as_str()).unwrap();
        assert_eq!(of["action"], "keep");
        assert!(of["reason"].as_str().unwrap().contains("marks.json.damaged-"), "{of}");
        let aside: Vec<_> =
            fs::read_dir(&dir).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
        assert!(aside.iter().any(|name| name.starts_with("marks.json.damaged-")), "{aside:?}");
        project
            .run(&["ami", "promote", &other.id.0, "--yes"])
            .assert_exit(1, &["its marks were damaged", "marks.json"]);
        let back = ["ami", "rollback", "--channel", "staging", "--reason", "x", "--yes"];
        project.run(&back).assert_exit(0, &[&first.name]);
        fs::remove_file(dir.join("marks.json")).unwrap();
        project.run(&["ami", "promote", &other.id.0, "--yes"]).assert_exit(0, &[]);
    }
}

#[test]
fn marks_written_concurrently_are_all_kept() {
    let project = Project::new();
    let image = project.ready("20261121-0001");
    let state = State::open(project.path(".agent-ami")).unwrap();
    let settings = Settings {
        regions: ["local-1", "local-2"].map(Into::into).into(),
        size: Size { cpus: 1, memory_mib: 1024, boot_timeout: Duration::from_secs(60) },
        disk_gib: 8,
        build_gib: 1,
        acceleration: None,
        builder: None,
        base: None,
        ubuntu_releases: String::new(),
    };
    let cloud = || {
        let run = state.begin_run(RunRequest { command: "test", words: &[], on: "local" }).unwrap();
        Local::new(&state, settings.clone(), &project.path(""), Some(Arc::new(run)))
    };
    let clouds: Vec<Local> = (0..8).map(|_| cloud()).collect();
    std::thread::scope(|scope| {
        for (n, cloud) in clouds.iter().enumerate() {
            let image = &image;
            scope.spawn(move || cloud.mark(image, &format!("mark-{n}"), "x").unwrap());
        }
    });
    let marks = clouds[0].marks(&image).unwrap();
    assert_eq!(marks.keys().filter(|k| k.starts_with("mark-")).count(), 8, "{marks:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test interrupts the process while it runs")]
fn an_interrupted_copy_leaves_no_files() {
    for signals in [1, 2] {
        let project = Project::new();
        let mut image = project.image("local-1", "20261121-0001");
        let dir = project.path(&format!(".agent-ami/regions/local-1/{}", image.id));
        // Large enough that the copy can be interrupted. The source is sparse; the copy is not.
        image.disk_bytes = 3 << 30;
        fs::File::options().write(true).open(dir.join("disk.qcow2")).unwrap().set_len(image.disk_bytes).unwrap();
        fs::write(dir.join("image.json"), serde_json::to_string(&image).unwrap()).unwrap();
        let command = project.command(&["ami", "copy", &image.id.0]);
        let mut plain = std::process::Command::new(command.get_program());
        plain.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
        plain.env("CARGO_MANIFEST_DIR", project.path("xtask")).stderr(std::process::Stdio::null());
        let mut child = plain.spawn().unwrap();
        let there = project.path(".agent-ami/regions/local-2");
        let begun = || fs::read_dir(&there).is_ok_and(|mut entries| entries.next().is_some());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !begun() {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "the copy did not begin");
            std::thread::sleep(Duration::from_millis(1));
        }
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        for _ in 0..signals {
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signals}");
        let left: Vec<_> = fs::read_dir(&there).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{signals} signals: {left:?}");
    }
}

#[test]
fn gc_removes_an_unfinished_image_without_a_run_after_a_day() {
    let project = Project::new();
    project.image("local-1", "20261121-0001");
    let dir = project.path(".agent-ami/regions/local-1/.unfinished-ami-local-1");
    fs::create_dir_all(&dir).unwrap();
    let action = || {
        let plan = project.data(&["ami", "gc"])["decisions"].clone();
        plan.as_array().unwrap().iter().find(|d| d["what"] == "directory").unwrap()["action"].clone()
    };
    assert_eq!(action(), "keep");
    xtask::process::Cmd::new("touch").args(["-d", "2 days ago"]).arg(&dir).read().unwrap();
    assert_eq!(action(), "remove");
    project.run(&["ami", "gc", "--apply", "--yes"]).assert_exit(0, &["1 to remove"]);
    assert!(!dir.exists());
}

#[test]
fn an_env_file_is_written_through_a_symbolic_link_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = Project::new();
    let image = project.ready("20261121-0001");
    fs::create_dir_all(project.path("etc")).unwrap();
    fs::create_dir_all(project.path("channels")).unwrap();
    let real = project.path("etc/locus.env");
    fs::write(&real, "PORT=1\nLOCUS_AMI_ID=ami-old\n").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("../etc/locus.env", project.path("channels/staging.env")).unwrap();
    project.run(&["ami", "promote", &image.id.0, "--yes"]).assert_exit(0, &["written and read back"]);
    let text = fs::read_to_string(&real).unwrap();
    assert!(text.starts_with(&format!("PORT=1\nLOCUS_AMI_ID={}\n", image.id)), "{text}");
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::symlink_metadata(project.path("channels/staging.env")).unwrap().is_symlink());
}
