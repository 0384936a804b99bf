//! Things that must really work, not only print a version; and that the image's own papers tell the truth.

use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use serde::Deserialize;
use smoke::spec::Works;
use smoke::version;

use super::{Check, Failure, Host, Plain, Verdict, tools};

const MANIFEST: &str = "/etc/agent-ami/manifest.json";
const SBOM: &str = "/etc/agent-ami/sbom.cdx.json";

pub(super) fn all(works: Works) -> Vec<Check> {
    let table: [(bool, &str, Plain); 6] = [
        (works.compiler, "compiler", compiler),
        (works.npm, "npm", npm),
        (works.bun, "bun", bun),
        (works.git_clone, "git-clone", git_clone),
        (works.manifest, "manifest", manifest),
        (works.sbom, "sbom", sbom),
    ];
    table.into_iter().filter(|(wanted, ..)| *wanted).map(|(_, name, run)| Check::new(name, run)).collect()
}

/// A C program is compiled by the login user, and runs.
fn compiler(host: &Host) -> Verdict {
    let scratch = host.scratch()?;
    let program = "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", 6 * 7); return 0; }\n";
    let (source, binary) = (scratch.write("answer.c", program)?, scratch.join("answer"));
    host.ask_as_user(&["cc", "-O0", "-o", &binary, &source], None)?;
    let said = host.ask_as_user(&[&binary], None)?;
    if said.trim() == "42" { Ok("a C program compiles and runs".to_owned()) } else { Err(odd(&said)) }
}

/// npm makes a package and installs it into another project, without a network. It uses the user's own cache: one that
/// belongs to root is how npm is most often broken.
fn npm(host: &Host) -> Verdict {
    let scratch = host.scratch()?;
    let (package, project) = (scratch.folder("package")?, scratch.folder("project")?);
    let description = r#"{"name": "smoke-package", "version": "1.0.0", "bin": {"smoke-answer": "answer.js"}}"#;
    scratch.write("package/package.json", description)?;
    scratch.write("package/answer.js", "#!/usr/bin/env node\nconsole.log(6 * 7);\n")?;
    scratch.write("project/package.json", r#"{"name": "smoke-project", "version": "1.0.0", "private": true}"#)?;
    let quiet = ["--offline", "--no-audit", "--no-fund", "--install-links", "--loglevel=error"];
    let line: Vec<&str> = ["npm", "install", package.as_str()].into_iter().chain(quiet).collect();
    let follows = |e: String| Failure::from(e).follows("tool-npm");
    host.ask_as_user(&line, Some(project.as_ref())).map_err(follows)?;
    let said = host.ask_as_user(&[&format!("{project}/node_modules/.bin/smoke-answer")], None)?;
    if said.trim() == "42" { Ok("npm packs and installs a package".to_owned()) } else { Err(odd(&said)) }
}

/// Bun runs a TypeScript file.
fn bun(host: &Host) -> Verdict {
    let scratch = host.scratch()?;
    let script = scratch.write("answer.ts", "const n: number = 6;\nconsole.log(`${n * 7} ${typeof Bun}`);\n")?;
    let said = host.ask_as_user(&["bun", "run", &script], None).map_err(|e| Failure::from(e).follows("tool-bun"))?;
    if said.trim() == "42 object" { Ok("bun runs a TypeScript file".to_owned()) } else { Err(odd(&said)) }
}

/// Git clones a repository, from the bundle that was uploaded along or one made on the spot.
fn git_clone(host: &Host) -> Verdict {
    let bundle = host.fixture_path("repo.bundle").ok_or("there is no repo.bundle among the fixtures (--fixtures)")?;
    let scratch = host.scratch()?;
    let (copy, clone) = (scratch.join("repo.bundle"), scratch.join("clone"));
    fs::copy(&bundle, &copy)?;
    let follows = |e: String| Failure::from(e).follows("tool-git");
    host.ask_as_user(&["git", "clone", "--quiet", "--branch", "main", &copy, &clone], None).map_err(follows)?;
    host.ask_as_user(&["git", "-C", &clone, "fsck", "--no-progress"], None).map_err(follows)?;
    let text = fs::read_to_string(format!("{clone}/README.md"))?;
    if text == "# smoke\n" { Ok("git clones a repository".to_owned()) } else { Err(odd(&text)) }
}

fn odd(said: &str) -> Failure {
    format!("it ran, but said {:?}", said.trim()).into()
}

#[derive(Deserialize)]
struct Manifest {
    schema: u32,
    #[serde(default)]
    provider: String,
    os: ManifestOs,
    tools: BTreeMap<String, String>,
    build: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ManifestOs {
    id: String,
    version_id: String,
}

/// The agent that the image was built with, or `all`; a manifest that cannot be read is for its own check to tell.
pub(super) fn provider(host: &Host) -> Result<String, String> {
    host.once("provider", || {
        let manifest = read::<Manifest>(MANIFEST).map_err(|e| e.message)?;
        Ok(manifest.provider)
    })
}

/// The manifest tells what is really installed: the system, and every tool's version by asking the tool.
fn manifest(host: &Host) -> Verdict {
    let manifest: Manifest = read(MANIFEST)?;
    if manifest.schema != 1 {
        return Err(format!("{MANIFEST} has schema {}, not 1", manifest.schema).into());
    }
    let recipe = manifest.build.as_ref().and_then(|b| b.get("recipe_hash")).and_then(serde_json::Value::as_str);
    if recipe.is_none_or(|hash| hash.len() != 64) {
        return Err(format!("{MANIFEST} does not say which recipe the image was built from").into());
    }
    let os = format!("{} {}", manifest.os.id, manifest.os.version_id);
    if os != host.os() {
        return Err(Failure::from(format!("{MANIFEST} says {os}; this is {}", host.os())).follows("os"));
    }
    if manifest.tools.is_empty() {
        return Err(format!("{MANIFEST} names no tools").into());
    }
    for (name, told) in &manifest.tools {
        let follows = |message: String| Failure::from(message).follows(&format!("tool-{name}"));
        let command = host.spec.tools.iter().find(|t| t.name == *name).map(|t| t.command.clone()).unwrap_or_default();
        let said = tools::answer(host, name, &command).map_err(follows)?;
        let found = version::find(&said).unwrap_or_default();
        if found != told {
            return Err(follows(format!("{MANIFEST} says {name} {told}; it is {found}")));
        }
    }
    Ok(format!("{} tools are what it says", manifest.tools.len()))
}

#[derive(Deserialize)]
struct Sbom {
    #[serde(rename = "bomFormat")]
    format: String,
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    name: String,
    version: String,
    purl: String,
}

/// The bill of materials lists every package of the distribution, and the npm tools as they answer.
fn sbom(host: &Host) -> Verdict {
    let sbom: Sbom = read(SBOM)?;
    if sbom.format != "CycloneDX" {
        return Err(format!("{SBOM} is no CycloneDX document").into());
    }
    let made = fs::metadata(SBOM)?.modified()?;
    let installed = host.ask(&["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Architecture}\n"])?;
    let listed = |name: &str| {
        let purl = format!("/{name}@");
        sbom.components.iter().any(|c| c.name == name && c.purl.starts_with("pkg:deb/") && c.purl.contains(&purl))
    };
    let installed: Vec<&str> = installed.lines().filter_map(|l| l.strip_prefix("installed ")).collect();
    let missing: Vec<&str> = installed
        .iter()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, arch)| !listed(name) && !is_newer(name, arch, made))
        .map(|(name, _)| name)
        .collect();
    if !missing.is_empty() || installed.is_empty() {
        let some = missing.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        return Err(format!("{} of {} packages are not listed: {some}", missing.len(), installed.len()).into());
    }
    for tool in host.spec.tools.iter().filter_map(|t| Some((t, t.package.as_ref()?))) {
        let (tool, package) = tool;
        if !tools::wanted(host, tool)? {
            continue;
        }
        let said = tools::answer(host, &tool.name, &tool.command)
            .map_err(|e| Failure::from(e).follows(&format!("tool-{}", tool.name)))?;
        let found = version::find(&said).unwrap_or_default();
        if !sbom.components.iter().any(|c| c.name == *package && c.version == found) {
            return Err(
                Failure::from(format!("{package} {found} is not listed")).follows(&format!("tool-{}", tool.name))
            );
        }
    }
    Ok(format!("{} components, all {} packages among them", sbom.components.len(), installed.len()))
}

/// True if the package came after the document was made: security updates may bring new ones.
fn is_newer(name: &str, arch: &str, made: SystemTime) -> bool {
    let files = [format!("/var/lib/dpkg/info/{name}.list"), format!("/var/lib/dpkg/info/{name}:{arch}.list")];
    files.iter().filter_map(|f| fs::metadata(f).ok()?.modified().ok()).any(|changed| changed > made)
}

fn read<T: for<'a> Deserialize<'a>>(path: &str) -> Result<T, Failure> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    Ok(serde_json::from_str(&text).map_err(|e| format!("{path}: {e}"))?)
}
