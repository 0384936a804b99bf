//! Functional tests of programs, and comparisons of the image's manifest and SBOM with what is installed.

use std::fs;
use std::time::SystemTime;

use smoke::spec::Works;
use smoke::version;

use super::documents::{self, MANIFEST, SBOM};
use super::tools;
use crate::check::{Check, CheckFn, CheckResult, Failure, Host};

pub(super) fn all(works: Works) -> Vec<Check> {
    let table: [(bool, &str, CheckFn); 6] = [
        (works.compiler, "compiler", compiler),
        (works.npm, "npm", npm),
        (works.bun, "bun", bun),
        (works.git_clone, "git-clone", git_clone),
        (works.manifest, "manifest", manifest),
        (works.sbom, "sbom", sbom),
    ];
    table.into_iter().filter(|(enabled, ..)| *enabled).map(|(_, name, run)| Check::new(name, run)).collect()
}

/// The login user can compile and run a C program.
fn compiler(host: &Host) -> CheckResult {
    let scratch = host.scratch()?;
    let program = "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", 6 * 7); return 0; }\n";
    let (source, binary) = (scratch.write("answer.c", program)?, scratch.join("answer"));
    host.user_stdout(&["cc", "-O0", "-o", &binary, &source], None)?;
    let output = host.user_stdout(&[&binary], None)?;
    if output.trim() == "42" { Ok("a C program compiles and runs".to_owned()) } else { Err(unexpected(&output)) }
}

/// npm packs a package and installs it into another project, without a network. It uses the user's cache, because a cache that root owns is
/// the most frequent defect of an npm installation.
fn npm(host: &Host) -> CheckResult {
    let scratch = host.scratch()?;
    let (package, project) = (scratch.directory("package")?, scratch.directory("project")?);
    let description = r#"{"name": "smoke-package", "version": "1.0.0", "bin": {"smoke-answer": "answer.js"}}"#;
    scratch.write("package/package.json", description)?;
    scratch.write("package/answer.js", "#!/usr/bin/env node\nconsole.log(6 * 7);\n")?;
    scratch.write("project/package.json", r#"{"name": "smoke-project", "version": "1.0.0", "private": true}"#)?;
    let quiet = ["--offline", "--no-audit", "--no-fund", "--install-links", "--loglevel=error"];
    let line: Vec<&str> = ["npm", "install", package.as_str()].into_iter().chain(quiet).collect();
    host.user_stdout(&line, Some(project.as_ref())).map_err(|e| Failure::from(e).caused_by("tool-npm"))?;
    let output = host.user_stdout(&[&format!("{project}/node_modules/.bin/smoke-answer")], None)?;
    if output.trim() == "42" { Ok("npm packs and installs a package".to_owned()) } else { Err(unexpected(&output)) }
}

/// Bun runs a TypeScript file.
fn bun(host: &Host) -> CheckResult {
    let scratch = host.scratch()?;
    let script = scratch.write("answer.ts", "const n: number = 6;\nconsole.log(`${n * 7} ${typeof Bun}`);\n")?;
    let output =
        host.user_stdout(&["bun", "run", &script], None).map_err(|e| Failure::from(e).caused_by("tool-bun"))?;
    if output.trim() == "42 object" { Ok("bun runs a TypeScript file".to_owned()) } else { Err(unexpected(&output)) }
}

/// Git clones the bundle of the fixtures.
fn git_clone(host: &Host) -> CheckResult {
    let bundle = host.fixture_path("repo.bundle").ok_or("the fixtures (--fixtures) have no repo.bundle")?;
    let scratch = host.scratch()?;
    let (copy, clone) = (scratch.join("repo.bundle"), scratch.join("clone"));
    fs::copy(&bundle, &copy)?;
    let failure = |e: String| Failure::from(e).caused_by("tool-git");
    host.user_stdout(&["git", "clone", "--quiet", "--branch", "main", &copy, &clone], None).map_err(failure)?;
    host.user_stdout(&["git", "-C", &clone, "fsck", "--no-progress"], None).map_err(failure)?;
    let text = fs::read_to_string(format!("{clone}/README.md"))?;
    if text == "# smoke\n" { Ok("git clones a repository".to_owned()) } else { Err(unexpected(&text)) }
}

fn unexpected(output: &str) -> Failure {
    format!("it runs, but its output is {:?}", output.trim()).into()
}

/// The manifest has the operating system and the version of every program as they are installed.
fn manifest(host: &Host) -> CheckResult {
    let manifest = documents::manifest()?;
    if manifest.schema != 1 {
        return Err(format!("{MANIFEST} has schema {}, expected 1", manifest.schema).into());
    }
    let recipe = manifest.build.as_ref().and_then(|b| b.get("recipe_hash")).and_then(serde_json::Value::as_str);
    if recipe.is_none_or(|hash| hash.len() != 64) {
        return Err(format!("{MANIFEST} has no recipe hash of the build").into());
    }
    let os = format!("{} {}", manifest.os.id, manifest.os.version_id);
    if os != host.os() {
        return Err(Failure::from(format!("{MANIFEST} has {os}; the instance is {}", host.os())).caused_by("os"));
    }
    if manifest.tools.is_empty() {
        return Err(format!("{MANIFEST} has no tools").into());
    }
    for (name, listed) in &manifest.tools {
        let failure = |message: String| Failure::from(message).caused_by(&tools::check_name(name));
        let command = host.spec.tools.iter().find(|t| t.name == *name).map(|t| t.command.clone()).unwrap_or_default();
        let output = tools::version_output(host, name, &command).map_err(failure)?;
        let found = version::find(&output).unwrap_or_default();
        if found != listed {
            return Err(failure(format!("{MANIFEST} has {name} {listed}; installed is {found}")));
        }
    }
    Ok(format!("{} tools match", manifest.tools.len()))
}

/// The SBOM lists every package of the distribution, and the npm package of every tool in its installed version.
fn sbom(host: &Host) -> CheckResult {
    let sbom = documents::sbom()?;
    if sbom.format != "CycloneDX" {
        return Err(format!("{SBOM} is not a CycloneDX document").into());
    }
    let written = fs::metadata(SBOM)?.modified()?;
    let installed = host.stdout(&["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Architecture}\n"])?;
    let is_listed = |name: &str| {
        let purl = format!("/{name}@");
        sbom.components.iter().any(|c| c.name == name && c.purl.starts_with("pkg:deb/") && c.purl.contains(&purl))
    };
    let installed: Vec<&str> = installed.lines().filter_map(|l| l.strip_prefix("installed ")).collect();
    let missing: Vec<&str> = installed
        .iter()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, arch)| !is_listed(name) && !is_newer(name, arch, written))
        .map(|(name, _)| name)
        .collect();
    if !missing.is_empty() || installed.is_empty() {
        let some = missing.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        return Err(format!("{} of {} packages are not listed: {some}", missing.len(), installed.len()).into());
    }
    for tool in host.spec.tools.iter().filter_map(|t| Some((t, t.package.as_ref()?))) {
        let (tool, package) = tool;
        if !tools::is_required(host, tool)? {
            continue;
        }
        let failure = |message: String| Failure::from(message).caused_by(&tools::check_name(&tool.name));
        let output = tools::version_output(host, &tool.name, &tool.command).map_err(failure)?;
        let found = version::find(&output).unwrap_or_default();
        if !sbom.components.iter().any(|c| c.name == *package && c.version == found) {
            return Err(failure(format!("{package} {found} is not listed")));
        }
    }
    Ok(format!("{} components, with all {} packages", sbom.components.len(), installed.len()))
}

/// True if the package was installed after the time: security updates may install new packages.
fn is_newer(name: &str, arch: &str, time: SystemTime) -> bool {
    let files = [format!("/var/lib/dpkg/info/{name}.list"), format!("/var/lib/dpkg/info/{name}:{arch}.list")];
    files.iter().filter_map(|f| fs::metadata(f).ok()?.modified().ok()).any(|changed| changed > time)
}
