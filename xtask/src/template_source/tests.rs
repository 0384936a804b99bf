//! Every form of a source, and the hostile ones; real archives and repositories.

use std::io::Write as _;
use std::os::unix::fs::symlink;

use fs_err as fs;
use proptest::prelude::*;

use super::*;
use crate::process::Cmd;

const ONE: &str = "source \"qemu\" \"one\" {}\n";
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn parse(text: &str) -> TemplateSource {
    text.parse().unwrap_or_else(|e: Error| panic!("{text}: {}", crate::error::plain(&e)))
}

fn refusal(text: &str) -> String {
    let error = text.parse::<TemplateSource>().expect_err(text);
    assert_eq!(error.exit(), Exit::Usage);
    shown(&error)
}

/// The message and the hint, each on one line.
fn shown(error: &Error) -> String {
    crate::error::plain(error).replace("\n  │ ", " ").replace("\n        ", " ")
}

#[test]
fn every_documented_form_is_read_and_written_back() {
    for text in [
        "builtin://default-ec2",
        "packer",
        "templates/a.pkr.hcl",
        "https://example.org/a.pkr.hcl",
        &format!("http://example.org:8080/a.zip?checksum=sha256:{ZEROS}"),
        &format!("https://example.org/a.tar.gz//images/x?token=abc&checksum=sha256:{ZEROS}"),
        "git::https://example.org/a/b.git//packer?ref=v1.2.3",
        "git::ssh://git@example.org/a/b.git?ref=feature/x",
        "git::file:///srv/b.git//packer/a.pkr.hcl",
    ] {
        assert_eq!(parse(text).to_string(), text);
    }
    let TemplateSource::Git(git) = parse("git::https://example.org/a.git//p/q/?ref=main") else { panic!() };
    let expected = ("https://example.org/a.git", Some("p/q".into()), Some("main".to_owned()));
    assert_eq!((git.url.as_str(), git.path, git.reference), expected);
    assert_eq!(parse("builtin://default-ec2").in_project(), Some("packer/default-ec2".into()));
}

#[test]
fn hostile_and_unknown_sources_are_refused_by_name() {
    for (text, why) in [
        ("", "is empty"),
        ("builtin://other", "is not a builtin template; there is default-ec2"),
        ("git::ext::sh -c touch% /tmp/x", "has a repository that is not a URL"),
        ("git::ext::https://example.org/a", "unknown Git transport `ext::https`"),
        ("git::http://example.org/a.git", "without encryption"),
        ("git::git://example.org/a.git", "without encryption"),
        ("git::git@example.org:a/b.git", "not a URL; write git::ssh://"),
        ("git::--upload-pack=touch /tmp/x", "not a URL"),
        ("git::ssh://-oProxyCommand=x/a.git", "no valid host"),
        ("git::ssh://-oProxyCommand=x@host/a.git", "no valid host"),
        ("git::https:///a.git", "no valid host"),
        ("git::file://srv/a.git", "not absolute"),
        ("git::https://example.org/a.git//../x", "not a path below"),
        ("git::https://example.org/a.git//x/../../y", "not a path below"),
        ("git::https://example.org/a.git///etc", "not a path below"),
        ("git::https://example.org/a.git?ref=--upload-pack=x", "has the ref `--upload-pack=x`"),
        ("git::https://example.org/a.git?ref=a..b", "has the ref"),
        ("git::https://example.org/a.git?ref=HEAD@{1}", "has the ref"),
        ("git::https://example.org/a.git?ref=a b", "has the ref"),
        ("git::https://example.org/a.git?ref=a&ref=b", "two refs"),
        ("git::https://user:pw@example.org/a.git", "has a user or a password"),
        ("git::https://token@example.org/a.git", "has a user or a password"),
        ("git::https://example.org/a.git?depth=1", "the parameter `depth=1`; only `ref`"),
        ("git::https://example.org/a.git?sshkey=x", "only `ref`"),
        ("https://example.org/a.sh", "does not end in .pkr.hcl"),
        ("https://example.org/", "does not end in .pkr.hcl"),
        ("https:///a.pkr.hcl", "no valid host"),
        ("http://example.org/a.pkr.hcl", "not encrypted and has no checksum"),
        ("https://example.org/a.pkr.hcl?checksum=md5:abc", "not sha256"),
        ("https://example.org/a.pkr.hcl?checksum=sha256:abc", "not sha256"),
        (&format!("https://example.org/a.zip?checksum=sha256:+{}", &ZEROS[1..]), "not sha256"),
        (&format!("https://h/a.zip?checksum=sha256:{ZEROS}&checksum=sha256:{ZEROS}"), "two checksums"),
        ("https://example.org/a.zip?archive=tgz", "the parameter `archive`"),
        ("https://example.org/a.pkr.hcl//x", "after a file that is not an archive"),
        ("https://example.org/a.zip//..", "not a path below"),
        ("https://example.org/a.pkr.hcl#x", "fragment"),
        ("https://example.org/a\".pkr.hcl", "quotation mark"),
        ("https://example.org/a\n.pkr.hcl", "control character"),
        ("ftp://example.org/a.pkr.hcl", "unknown scheme `ftp`"),
        ("s3::https://example.org/a.pkr.hcl", "unknown scheme `s3`"),
        ("file:///etc/a.pkr.hcl", "unknown scheme `file`"),
    ] {
        let message = refusal(text);
        assert!(message.contains(why), "{text}: {message}");
        assert!(message.contains("git::https://HOST/REPOSITORY"), "no hint: {message}");
    }
}

proptest! {
    #[test]
    fn a_source_that_is_accepted_is_written_back_as_the_same(text in "(git::|https://|builtin://)?[a-z:/.?=&@~-]{0,40}") {
        if let Ok(source) = text.parse::<TemplateSource>() {
            prop_assert_eq!(source.to_string().parse::<TemplateSource>().unwrap(), source);
        }
    }

    #[test]
    fn no_accepted_source_gives_git_an_option_or_another_transport(text in "git::[a-z:/.?=&@ -]{0,40}") {
        if let Ok(TemplateSource::Git(git)) = text.parse::<TemplateSource>() {
            prop_assert!(["https://", "ssh://", "file:///"].iter().any(|scheme| git.url.starts_with(scheme)));
            prop_assert!(!git.url.contains("::") || git.url.split("://").next() != Some("ext"));
            prop_assert!(git.reference.is_none_or(|reference| !reference.starts_with('-')));
        }
    }
}

/// A cache, and a directory for what is downloaded.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn fetch(&self, source: &str) -> Result<Fetched> {
        fetch(&parse(source), &self.path("cache"), Policy::default(), &|_| {}, &|_, _| {})
    }

    fn refused(&self, source: &str, why: &str) {
        let error = self.fetch(source).expect_err(source);
        assert!(shown(&error).contains(why), "{source}: {}", shown(&error));
        let of_source = self.path("cache").join(Digest::of(parse(source).to_string().as_bytes()).to_string());
        let left = walk(&of_source);
        let trees: Vec<_> = left.iter().filter(|p| p.contains("/tree-") || p.contains("staging")).collect();
        assert!(trees.is_empty(), "left behind: {trees:?}");
    }

    /// A repository with one commit of these files; a value that begins with `->` is a symbolic link.
    fn repository(&self, files: &[(&str, &str)]) -> String {
        let dir = self.path("repository");
        if !dir.exists() {
            fs::create_dir_all(&dir).unwrap();
            self.git(&["init", "--quiet", "--initial-branch=main"]);
        }
        for (name, text) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("->") {
                Some(target) => symlink(target, &path).unwrap(),
                None => fs::write(&path, text).unwrap(),
            }
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "A commit"]);
        format!("git::file://{}", dir.display())
    }

    fn git(&self, args: &[&str]) -> String {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgSign=false"];
        let cmd = Cmd::new("git").args(identity).args(args).dir(self.path("repository"));
        cmd.env("GIT_CONFIG_GLOBAL", "/dev/null").read().unwrap().trim().to_owned()
    }

    fn archive(&self, name: &str, kind: FileKind) -> Result<Vec<String>> {
        let to = tempfile::tempdir_in(self.0.path()).unwrap();
        archive::unpack(&self.path(name), kind, to.path())?;
        tree::inspect(to.path())?;
        Ok(walk(to.path()))
    }
}

fn walk(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.is_symlink() {
            found.extend(walk(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

/// A tar.gz with these entries, whose names are written as they are.
fn tar_gz(path: &Path, entries: &[(&str, tar::EntryType, &[u8])]) {
    let file = flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(file);
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

fn zip_of(path: &Path, entries: &[(&str, u32, &[u8])]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, mode, content) in entries {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        if mode & 0o170_000 == 0o120_000 {
            zip.add_symlink(*name, "/etc/passwd", options).unwrap();
        } else {
            zip.start_file(*name, options).unwrap();
            zip.write_all(content).unwrap();
        }
    }
    zip.finish().unwrap();
}

#[test]
fn archives_are_unpacked_with_their_modes() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    tar_gz(
        &bench.path("a.tar.gz"),
        &[
            ("t/", tar::EntryType::Directory, b""),
            ("t/a.pkr.hcl", tar::EntryType::Regular, ONE.as_bytes()),
            ("./t/run.sh", tar::EntryType::Regular, b"#!/bin/sh\n"),
        ],
    );
    assert_eq!(bench.archive("a.tar.gz", FileKind::TarGz).unwrap().len(), 2);
    zip_of(&bench.path("a.zip"), &[("t/a.pkr.hcl", 0o644, ONE.as_bytes()), ("t/run.sh", 0o755, b"#!/bin/sh\n")]);
    let to = bench.path("to");
    fs::create_dir(&to).unwrap();
    archive::unpack(&bench.path("a.zip"), FileKind::Zip, &to).unwrap();
    assert_eq!(fs::read_to_string(to.join("t/a.pkr.hcl")).unwrap(), ONE);
    let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("t/run.sh"), mode("t/a.pkr.hcl")), (0o755, 0o644));
}

#[test]
fn no_entry_of_an_archive_leads_out_of_its_directory() {
    let bench = Bench::new();
    let file = tar::EntryType::Regular;
    for (entries, why) in [
        (vec![("../x", file)], "leads out of"),
        (vec![("a/../../x", file)], "leads out of"),
        (vec![("/tmp/x", file)], "leads out of"),
        (vec![("a\\..\\x", file)], "not valid on every system"),
        (vec![(".git/config", file)], "below a directory `.git`"),
        (vec![("a/.GIT/hooks/x", file)], "below a directory `.git`"),
        (vec![("a", tar::EntryType::Symlink)], "neither a file nor a directory"),
        (vec![("a", tar::EntryType::Link)], "neither a file nor a directory"),
        (vec![("a", tar::EntryType::Fifo)], "neither a file nor a directory"),
        (vec![("a", tar::EntryType::Char)], "neither a file nor a directory"),
        (vec![("a.pkr.hcl", file), ("A.pkr.hcl", file)], "only in case"),
        (vec![("a/x", file), ("A/y", file)], "only in case"),
        (vec![("a", file), ("a", file)], "twice"),
        (vec![("a", file), ("./a", file)], "twice"),
    ] {
        let entries: Vec<_> = entries.into_iter().map(|(name, kind)| (name, kind, b"".as_slice())).collect();
        tar_gz(&bench.path("bad.tar.gz"), &entries);
        let message = shown(&bench.archive("bad.tar.gz", FileKind::TarGz).expect_err(why));
        assert!(message.contains(why), "{entries:?}: {message}");
    }
    for (name, mode, why) in [
        ("../x", 0o644, "leads out of"),
        ("/tmp/x", 0o644, "leads out of"),
        ("a", 0o120_777, "neither a file nor a directory"),
    ] {
        zip_of(&bench.path("bad.zip"), &[(name, mode, b"x")]);
        let message = shown(&bench.archive("bad.zip", FileKind::Zip).expect_err(why));
        assert!(message.contains(why), "{name}: {message}");
    }
    assert_eq!(walk(bench.0.path()).iter().filter(|path| path.ends_with("/x")).count(), 0, "an entry was written");
}

#[test]
fn a_compression_bomb_ends_at_the_limit() {
    let bench = Bench::new();
    let zeros = vec![0; usize::try_from(tree::MAX_BYTES).unwrap() + 1];
    zip_of(&bench.path("bomb.zip"), &[("zeros", 0o644, &zeros)]);
    tar_gz(&bench.path("bomb.tar.gz"), &[("zeros", tar::EntryType::Regular, &zeros)]);
    for (name, kind) in [("bomb.zip", FileKind::Zip), ("bomb.tar.gz", FileKind::TarGz)] {
        assert!(fs::metadata(bench.path(name)).unwrap().len() < 1 << 20, "it is small before it is unpacked");
        let message = shown(&bench.archive(name, kind).unwrap_err());
        assert!(message.contains("more than 64 MiB when it is unpacked"), "{message}");
    }
    fs::write(bench.path("bad.zip"), "not a zip").unwrap();
    assert!(bench.archive("bad.zip", FileKind::Zip).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn a_tag_a_branch_and_a_commit_are_resolved_to_a_commit() {
    let bench = Bench::new();
    let url = bench.repository(&[("images/a.pkr.hcl", ONE), ("images/run.sh", "echo 1\n"), ("other.txt", "x")]);
    let first = bench.git(&["rev-parse", "HEAD"]);
    bench.git(&["tag", "v1"]);
    bench.git(&["tag", "--annotate", "--message", "x", "v1-annotated"]);
    bench.repository(&[("images/a.pkr.hcl", "source \"qemu\" \"two\" {}\n")]);
    let second = bench.git(&["rev-parse", "HEAD"]);
    // A branch with the name of a tag: the tag precedes it, as for `git checkout`.
    bench.git(&["branch", "v1", "main"]);

    for (reference, commit) in [
        ("?ref=v1", &first),
        ("?ref=v1-annotated", &first),
        ("?ref=main", &second),
        ("", &second),
        (&format!("?ref={first}"), &first),
        (&format!("?ref={}", &first[..10]), &first),
    ] {
        let fetched = bench.fetch(&format!("{url}//images{reference}")).unwrap();
        assert_eq!(fetched.origin.commit.as_ref(), Some(commit), "{reference}");
        assert!(fetched.template().join("run.sh").is_file(), "the scripts beside the template come along");
        let text = fs::read_to_string(fetched.template().join("a.pkr.hcl")).unwrap();
        assert_eq!(text == ONE, *commit == first, "{reference}");
    }
    bench.refused(&format!("{url}//images?ref=v9"), "has no tag, branch or commit `v9`");
}

#[test]
fn a_commit_in_the_cache_needs_no_repository_and_a_changed_cache_is_replaced() {
    let bench = Bench::new();
    let url = bench.repository(&[("a.pkr.hcl", ONE)]);
    let source = format!("{url}?ref={}", bench.git(&["rev-parse", "HEAD"]));
    let fetched = bench.fetch(&source).unwrap();
    assert_eq!(cached(&bench.path("cache"), &source), Some(fetched.clone()));
    fs::rename(bench.path("repository"), bench.path("moved")).unwrap();
    assert_eq!(bench.fetch(&source).unwrap(), fetched);
    // A file in the cache is edited.
    fs::write(fetched.tree.join("a.pkr.hcl"), "changed").unwrap();
    fs::rename(bench.path("moved"), bench.path("repository")).unwrap();
    assert_eq!(bench.fetch(&source).unwrap(), fetched, "it is fetched again");
    assert_eq!(fs::read_to_string(fetched.tree.join("a.pkr.hcl")).unwrap(), ONE);
}

#[test]
fn nothing_in_a_repository_leads_out_of_it() {
    for (files, why) in [
        (vec![("a.pkr.hcl", ONE), ("x", "->/etc/passwd")], "points to /etc/passwd, which is not in it"),
        (vec![("a.pkr.hcl", ONE), ("x", "->../../../etc")], "which is not in it"),
        (vec![("a.pkr.hcl", ONE), ("d/y", "x"), ("l", "->d"), ("m", "->l/../../..")], "which is not in it"),
        (vec![("a.pkr.hcl", ONE), ("d/x", "x"), ("l", "->../tree/d")], "which is not in it"),
        (vec![("a.pkr.hcl", ONE), ("A.pkr.hcl", ONE)], "only in case"),
        (vec![("a.txt", ONE)], "has no template at `.`"),
    ] {
        let bench = Bench::new();
        let url = bench.repository(&files);
        bench.refused(&url, why);
    }
    let bench = Bench::new();
    let url = bench.repository(&[("d/a.pkr.hcl", ONE), ("current", "->d")]);
    assert!(bench.fetch(&format!("{url}//d")).unwrap().tree.join("current/a.pkr.hcl").is_file());
}

#[test]
fn programs_that_a_repository_configures_are_not_run() {
    let bench = Bench::new();
    let url = bench.repository(&[("a.pkr.hcl", ONE), (".gitattributes", "*.hcl filter=evil\n")]);
    let mark = bench.path("mark");
    let script = format!("touch {}; cat", mark.display());
    // Of the cache's repository, as if the fetched one could write it, and of the hooks of the source.
    fs::write(bench.path("repository/.git/hooks/post-checkout"), format!("#!/bin/sh\n{script}\n")).unwrap();
    bench.git(&["config", "filter.evil.smudge", &script]);
    bench.git(&["config", "uploadpack.packObjectsHook", &script]);
    bench.fetch(&url).unwrap();
    assert!(!mark.exists(), "a program of the repository was run");
}

#[test]
fn a_large_repository_is_refused_before_it_is_written() {
    let bench = Bench::new();
    let zeros = "0".repeat(usize::try_from(tree::MAX_BYTES).unwrap() / 2 + 1);
    let url = bench.repository(&[("a.pkr.hcl", ONE), ("x", &zeros), ("y", &zeros)]);
    bench.refused(&url, "has more than 64 MiB");
}

#[test]
fn tokens_in_a_source_are_not_recorded() {
    for (text, recorded) in [
        ("https://TOKEN-1:x-oauth-basic@h/a.zip", "https://h/a.zip"),
        ("https://user:p@ss@h/a.zip?token=TOKEN-2&x=1", "https://h/a.zip?token=<sensitive>&x=<sensitive>"),
        ("git::ssh://git@h/a.git?ref=v1", "git::ssh://git@h/a.git?ref=v1"),
    ] {
        assert_eq!(parse(text).recorded(), recorded);
    }
    for secret in ["TOKEN-1", "p@ss", "TOKEN-2"] {
        assert!(!sensitive::redacted(&format!("see {secret} here")).contains(secret), "{secret}");
    }
}

#[test]
fn archives_are_read_as_tar_and_unzip_do() {
    let bench = Bench::new();
    // Two members of gzip are one file.
    tar_gz(&bench.path("a.tar.gz"), &[("a.pkr.hcl", tar::EntryType::Regular, ONE.as_bytes())]);
    let mut plain = Vec::new();
    let packed = fs::read(bench.path("a.tar.gz")).unwrap();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut plain).unwrap();
    let mut two = fs::File::create(bench.path("two.tar.gz")).unwrap();
    for half in [&plain[..700], &plain[700..]] {
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        member.write_all(half).unwrap();
        two.write_all(&member.finish().unwrap()).unwrap();
    }
    assert_eq!(bench.archive("two.tar.gz", FileKind::TarGz).unwrap().len(), 1);
    // Two entries of a zip file with one name: the library writes no such file.
    zip_of(&bench.path("b.zip"), &[("a.pkr.hcl", 0o644, b"1"), ("b.pkr.hcl", 0o644, b"2")]);
    let text = fs::read(bench.path("b.zip")).unwrap();
    let same: Vec<u8> = text.windows(1).map(|b| b[0]).collect();
    let name = |at: usize| same[at..].starts_with(b"b.pkr.hcl");
    let places: Vec<usize> = (0..same.len()).filter(|&at| name(at)).collect();
    let mut same = same;
    places.iter().for_each(|&at| same[at] = b'a');
    fs::write(bench.path("same.zip"), same).unwrap();
    let error = bench.archive("same.zip", FileKind::Zip).unwrap_err();
    assert!(shown(&error).contains("two of its entries have the same name"), "{}", shown(&error));
}

#[test]
fn a_missing_repository_is_an_error_that_names_it() {
    let bench = Bench::new();
    bench.refused("git::file:///nonexistent/x.git", "git could not list the refs of file:///nonexistent/x.git");
}
