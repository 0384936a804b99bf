//! Real machines behind the endpoint: what EC2 would start, QEMU does, with the key, user data and disk the endpoint was told.
//!
//! One machine at a time, on one loopback port, which the provider is told as `ssh_host` and `ssh_port`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Instance, InstanceAttributeName};
use aws_smithy_types::base64;
use serde_json::{Value, json};
use xtask::cloud::local::qemu::{self, Boot, Vm};
use xtask::cloud::local::seed;
use xtask::process::{Background, Cmd};

use super::owner;

/// What the room is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The endpoint.
    pub(crate) url: String,
    /// Regions to look at.
    pub regions: Vec<String>,
    /// The base AMI's id.
    pub base_ami: String,
    /// Its disk.
    pub base_disk: PathBuf,
    /// Where disks and logs go.
    pub dir: PathBuf,
    /// The port that leads to the machine's port 22.
    pub port: u16,
    /// The port on which agents ask for commands.
    pub agents_port: u16,
}

/// The room; machines end with it.
pub(crate) struct Room {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Machine {
    process: Option<Background>,
    disk: PathBuf,
    qmp: PathBuf,
}

/// What plays amazon-ssm-agent in the machine: asks for commands and tells what came of them. No key, no open port.
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
        told = json.dumps({"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}).encode()
        http.urlopen(url + "/" + job["id"], data=told, timeout=30).close()
    except OSError:
        time.sleep(1)
"#;

impl Room {
    /// Opens it: from now on instances at the endpoint are machines.
    pub(crate) fn open(plan: Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut machines = HashMap::new();
            let mut images = HashMap::from([(plan.base_ami.clone(), plan.base_disk.clone())]);
            while !stopped.load(Ordering::SeqCst) {
                for region in &plan.regions {
                    let ec2 = owner(&plan.url).ec2(region);
                    runtime.block_on(look(&plan, &ec2, &mut machines, &mut images));
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Makes the machines what the endpoint says they are.
async fn look(
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
                let machine = start(plan, ec2, instance, &id, images).await;
                machines.insert(id, machine);
            }
            // The endpoint stops, images and terminates within one look of ours; a real one would have waited for the disk.
            ("stopped" | "terminated", Some(machine)) if machine.builds() => machine.power_off(),
            ("stopped" | "terminated", Some(machine)) => drop(machine.process.take()),
            _ => {}
        }
    }
    // An image is the disk of the machine it was made of: the one that stopped.
    for image in ec2.describe_images().owners("self").send().await.unwrap().images() {
        let made_of = machines.values().find(|m| m.builds());
        if let Some(machine) = made_of {
            images.entry(image.image_id().unwrap().to_owned()).or_insert_with(|| machine.disk.clone());
        }
    }
}

async fn start(plan: &Plan, ec2: &Client, instance: &Instance, id: &str, images: &HashMap<String, PathBuf>) -> Machine {
    let below = &images[instance.image_id().unwrap()];
    let base = *below == plan.base_disk;
    let dir = plan.dir.join(id);
    std::fs::create_dir_all(dir.join("seed")).unwrap();
    let disk = dir.join(if base { "builder.qcow2" } else { "instance.qcow2" });
    let create = Cmd::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
    create.arg(std::fs::canonicalize(below).unwrap()).arg(&disk).arg("20G").read().unwrap();

    let mut keys = Vec::new();
    if let Some(name) = instance.key_name().filter(|n| !n.is_empty() && *n != "None") {
        let told = ec2.describe_key_pairs().key_names(name).include_public_key(true).send().await.unwrap();
        keys.push(told.key_pairs()[0].public_key().expect("the endpoint tells the public key").trim().to_owned());
    }
    let told = ec2.describe_instance_attribute().instance_id(id).attribute(InstanceAttributeName::UserData);
    let told = told.send().await.unwrap();
    let told = told.user_data().and_then(|d| d.value()).and_then(|d| base64::decode(d).ok()).unwrap_or_default();
    let told = String::from_utf8(told).unwrap();
    let mut config: Value = serde_json::from_str(told.trim_start_matches("#cloud-config\n")).unwrap_or(json!({}));
    config["users"] = json!(["default"]);
    // cloud-init's schema takes no empty list.
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
        // What a network that intercepts TLS asks of every machine in it; an image must not keep it.
        seed::trust(&mut config, &seed::host_certificates().unwrap());
    }
    std::fs::write(dir.join("seed/user-data"), format!("#cloud-config\n{config:#}\n")).unwrap();
    let meta = json!({ "instance-id": id, "local-hostname": "ip-192-0-2-10" });
    std::fs::write(dir.join("seed/meta-data"), meta.to_string()).unwrap();

    let sockets = tempfile::Builder::new().prefix("room-").tempdir().unwrap().keep();
    let vm = Vm {
        name: format!("room/{id}"),
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

    /// As StopInstances does: the power button, and the plug when that does not help.
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

/// The local base image's disk, as `cargo xtask ami build` left it.
pub(crate) fn base_disk(root: &Path) -> PathBuf {
    let state = std::env::var_os("AGENT_AMI_LOCAL_STATE_DIR").map_or_else(|| root.join(".agent-ami"), PathBuf::from);
    let bases =
        std::fs::read_dir(state.join("base")).expect("run `cargo xtask ami build` first: it makes the base image");
    bases.flatten().map(|e| e.path().join("disk.qcow2")).find(|d| d.exists()).expect("a base image with a disk")
}
