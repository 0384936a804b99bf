//! Real machines behind the endpoint: QEMU starts each instance with the key, user data and disk that it has at the endpoint.
//!
//! One machine at a time, on one loopback port, which the provider gets as `ssh_host` and `ssh_port`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Instance, InstanceAttributeName};
use aws_smithy_types::base64;
use serde_json::{Value, json};
use xtask::cloud::local::qemu::{self, Boot, Vm};
use xtask::cloud::local::seed;
use xtask::process::{Background, Cmd};

use super::owner;
use crate::poller::Poller;

/// Settings of [`run_machines`].
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The endpoint.
    pub(crate) url: String,
    /// Regions whose instances are started.
    pub regions: Vec<String>,
    /// The base AMI's id.
    pub base_ami: String,
    /// Its disk.
    pub base_disk: PathBuf,
    /// Directory of disks and logs.
    pub dir: PathBuf,
    /// Port that is forwarded to the machine's port 22.
    pub port: u16,
    /// Port from which agents get commands.
    pub agents_port: u16,
}

struct Machine {
    process: Option<Background>,
    disk: PathBuf,
    qmp: PathBuf,
}

/// A stand-in for amazon-ssm-agent in the machine: polls for commands and posts their results. Needs no key and no open port.
const AGENT: &str = r#"
import json, subprocess, sys, time, urllib.request as http
url = sys.argv[1]
while True:
    try:
        with http.urlopen(url, timeout=30) as answer:
            body = answer.read()
        if not body:
            time.sleep(0.2)
            continue
        job = json.loads(body)
        done = subprocess.run(["sh", "-c", job["script"]], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        result = json.dumps({"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}).encode()
        http.urlopen(url + "/" + job["id"], data=result, timeout=30).close()
    except OSError:
        time.sleep(1)
"#;

/// Starts a machine for each instance at the endpoint from now on. The machines end when the poller is dropped.
pub(crate) fn run_machines(plan: Plan) -> Poller {
    Poller::start(Duration::from_millis(500), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut machines = HashMap::new();
        let mut images = HashMap::from([(plan.base_ami.clone(), plan.base_disk.clone())]);
        move || {
            for region in &plan.regions {
                let ec2 = owner(&plan.url).ec2(region);
                runtime.block_on(update(&plan, &ec2, &mut machines, &mut images));
            }
        }
    })
}

/// Starts and stops machines to match the instances at the endpoint.
async fn update(
    plan: &Plan,
    ec2: &Client,
    machines: &mut HashMap<String, Machine>,
    images: &mut HashMap<String, PathBuf>,
) {
    let answer = ec2.describe_instances().send().await.unwrap();
    for instance in answer.reservations().iter().flat_map(aws_sdk_ec2::types::Reservation::instances) {
        let id = instance.instance_id().unwrap().to_owned();
        let state = instance.state().unwrap().name().unwrap().as_str().to_owned();
        match (state.as_str(), machines.get_mut(&id)) {
            ("running", None) => {
                let machine = start_machine(plan, ec2, instance, &id, images).await;
                machines.insert(id, machine);
            }
            // The endpoint may stop, image and terminate an instance between two updates. EC2 would wait for the disk.
            ("stopped" | "terminated", Some(machine)) if machine.builds() => machine.power_off(),
            ("stopped" | "terminated", Some(machine)) => drop(machine.process.take()),
            _ => {}
        }
    }
    // The disk of an image is the disk of the builder that it was created from.
    for image in ec2.describe_images().owners("self").send().await.unwrap().images() {
        let made_of = machines.values().find(|m| m.builds());
        if let Some(machine) = made_of {
            images.entry(image.image_id().unwrap().to_owned()).or_insert_with(|| machine.disk.clone());
        }
    }
}

async fn start_machine(
    plan: &Plan,
    ec2: &Client,
    instance: &Instance,
    id: &str,
    images: &HashMap<String, PathBuf>,
) -> Machine {
    let below = &images[instance.image_id().unwrap()];
    let base = *below == plan.base_disk;
    let dir = plan.dir.join(id);
    std::fs::create_dir_all(dir.join("seed")).unwrap();
    let disk = dir.join(if base { "builder.qcow2" } else { "instance.qcow2" });
    let create = Cmd::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
    create.arg(std::fs::canonicalize(below).unwrap()).arg(&disk).arg("20G").read().unwrap();

    let mut keys = Vec::new();
    if let Some(name) = instance.key_name().filter(|n| !n.is_empty() && *n != "None") {
        let found = ec2.describe_key_pairs().key_names(name).include_public_key(true).send().await.unwrap();
        keys.push(found.key_pairs()[0].public_key().expect("the endpoint returns the public key").trim().to_owned());
    }
    let call = ec2.describe_instance_attribute().instance_id(id).attribute(InstanceAttributeName::UserData);
    let answer = call.send().await.unwrap();
    let user_data = answer.user_data().and_then(|d| d.value()).and_then(|d| base64::decode(d).ok()).unwrap_or_default();
    let user_data = String::from_utf8(user_data).unwrap();
    let mut config: Value = serde_json::from_str(user_data.trim_start_matches("#cloud-config\n")).unwrap_or(json!({}));
    config["users"] = json!(["default"]);
    // cloud-init's schema does not allow an empty list.
    if !keys.is_empty() {
        config["ssh_authorized_keys"] = json!(keys);
    }
    let agent = format!("http://10.0.2.2:{}/{id}", plan.agents_port);
    let script = "setsid python3 -c \"$0\" \"$1\" </dev/null >/dev/null 2>&1 &";
    let agent = json!(["sh", "-c", script, AGENT, agent]);
    match config["bootcmd"].as_array_mut() {
        Some(commands) => commands.push(agent),
        None => config["bootcmd"] = json!([agent]),
    }
    if base {
        // Builders need the CA certificates of a network that intercepts TLS; images must not contain them.
        seed::trust(&mut config, &seed::host_certificates().unwrap());
    }
    std::fs::write(dir.join("seed/user-data"), format!("#cloud-config\n{config:#}\n")).unwrap();
    let meta = json!({ "instance-id": id, "local-hostname": "ip-192-0-2-10" });
    std::fs::write(dir.join("seed/meta-data"), meta.to_string()).unwrap();

    let sockets = tempfile::Builder::new().prefix("machines-").tempdir().unwrap().keep();
    let vm = Vm {
        name: format!("machines/{id}"),
        acceleration: qemu::probe(None, None).unwrap().acceleration,
        cpus: 2,
        memory_mib: 2048,
        disk: disk.clone(),
        node: "root".to_owned(),
        seed: dir.join("seed"),
        ssh_port: plan.port,
        console: dir.join("console.log"),
        qmp: sockets.join("qmp"),
        pid_file: dir.join("pid"),
        boot: Boot::Firmware,
    };
    let process = vm.command().start(&dir.join("qemu.log")).unwrap();
    Machine { process: Some(process), disk, qmp: vm.qmp }
}

impl Machine {
    fn builds(&self) -> bool {
        self.disk.ends_with("builder.qcow2")
    }

    /// As StopInstances: powers the machine off by ACPI, and kills it if it does not stop in time.
    fn power_off(&mut self) {
        let Some(process) = self.process.take() else { return };
        if let Ok(mut socket) = UnixStream::connect(&self.qmp) {
            let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
            lines.next();
            for command in ["qmp_capabilities", "system_powerdown"] {
                writeln!(socket, "{}", json!({ "execute": command })).unwrap();
                lines.next();
            }
        }
        let deadline = Instant::now() + Duration::from_secs(120);
        while !process.wait(Duration::from_millis(200)) && Instant::now() < deadline {}
    }
}

/// The disk of the local base image, which `cargo xtask ami build` creates.
pub(crate) fn base_disk(root: &Path) -> PathBuf {
    let state = std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or_else(|| root.join(".agent-ami"), PathBuf::from);
    let bases =
        std::fs::read_dir(state.join("base")).expect("run `cargo xtask ami build` first: it creates the base image");
    bases.flatten().map(|e| e.path().join("disk.qcow2")).find(|d| d.exists()).expect("a base image with a disk")
}
