//! The tokens of the API: a file with their hashes, scopes and expiry, which only its owner can read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use xtask::cli::Scope;
use xtask::durable;
use xtask::error::{Exit, Result};

/// The file with the hashes, in the server's directory.
const FILE: &str = "tokens.toml";
/// The file with the token that is made at the first start.
const FIRST: &str = "admin-token";
/// The name of that token.
const FIRST_NAME: &str = "admin";
/// The beginning of every token, by which secret scanners find it.
const PREFIX: &str = "ami_";

/// A token. The secret itself is not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub name: String,
    pub scopes: Vec<ScopeName>,
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// SHA-256 of the token, in hexadecimal. The token has 244 random bits, so that a slow hash would add nothing.
    sha256: String,
}

/// A scope by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeName(pub Scope);

impl Serialize for ScopeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for ScopeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let all = [Scope::Read, Scope::Build, Scope::Promote, Scope::Delete];
        let found = all.into_iter().find(|scope| scope.name() == name).map(Self);
        found.ok_or_else(|| serde::de::Error::custom(format!("unknown scope `{name}`")))
    }
}

/// The content of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default, rename = "token")]
    tokens: Vec<Token>,
}

/// The tokens of a server. The file is read again when it changed, so that a revocation has effect at once.
#[derive(Debug)]
pub struct Tokens {
    dir: PathBuf,
    read: Mutex<Option<(Version, Vec<Token>)>>,
}

/// Which version of the file was read: its inode, size and time of change.
type Version = (u64, u64, i64, i64);

impl Tokens {
    /// The tokens in the server's directory. The first start makes one with all scopes, and returns the file that has it.
    pub fn open(dir: &Path) -> Result<(Self, Option<PathBuf>)> {
        let tokens = Self { dir: dir.to_owned(), read: Mutex::new(None) };
        if tokens.file().exists() {
            tokens.all()?;
            return Ok((tokens, None));
        }
        let secret = tokens.create(FIRST_NAME, &[Scope::Read, Scope::Build, Scope::Promote, Scope::Delete], None)?;
        let file = dir.join(FIRST);
        durable::replace_private(&file, format!("{secret}\n").as_bytes())?;
        Ok((tokens, Some(file)))
    }

    fn file(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// All tokens, also expired ones.
    pub fn all(&self) -> Result<Vec<Token>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let about = match fs_err::metadata(self.file()) {
            Ok(about) => about,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        self.require_private(&about)?;
        let version = (about.ino(), about.size(), about.mtime(), about.mtime_nsec());
        if let Some((_, tokens)) = read.as_ref().filter(|(before, _)| *before == version) {
            return Ok(tokens.clone());
        }
        let text = fs_err::read_to_string(self.file())?;
        let content: Content = toml::from_str(&text).map_err(|e| {
            let message = format!("cannot read {}: {}", self.file().display(), e.message());
            Exit::Precondition.error(message, "correct the file, or delete it and create tokens again")
        })?;
        *read = Some((version, content.tokens.clone()));
        Ok(content.tokens)
    }

    fn require_private(&self, about: &Metadata) -> Result<()> {
        if about.mode() & 0o077 == 0 {
            return Ok(());
        }
        let file = self.file();
        let message = format!("other users have access to {} (mode {:o})", file.display(), about.mode() & 0o777);
        Err(Exit::Precondition.error(message, format_args!("run `chmod 600 {}`", file.display())))
    }

    /// Adds a token, and returns its secret.
    pub fn create(&self, name: &str, scopes: &[Scope], expires: Option<Timestamp>) -> Result<String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
            let hint = "use at most 64 letters, digits and -_.@";
            return Err(Exit::Usage.error(format_args!("`{name}` is not the name of a token"), hint));
        }
        let mut tokens = self.all()?;
        if tokens.iter().any(|token| token.name == name) {
            let hint = format!("revoke it with `cargo xtask serve token revoke {name}`, or use another name");
            return Err(Exit::Usage.error(format_args!("there is a token `{name}` already"), hint));
        }
        let secret = format!("{PREFIX}{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut scopes = scopes.to_vec();
        scopes.sort();
        scopes.dedup();
        let scopes = scopes.into_iter().map(ScopeName).collect();
        tokens.push(Token { name: name.to_owned(), scopes, created: Timestamp::now(), expires, sha256: hash(&secret) });
        self.write(tokens)?;
        Ok(secret)
    }

    /// Removes a token.
    pub fn revoke(&self, name: &str) -> Result<()> {
        let mut tokens = self.all()?;
        let before = tokens.len();
        tokens.retain(|token| token.name != name);
        if tokens.len() == before {
            let hint = "list the tokens with `cargo xtask serve token list`";
            return Err(Exit::Usage.error(format_args!("there is no token `{name}`"), hint));
        }
        self.write(tokens)
    }

    fn write(&self, tokens: Vec<Token>) -> Result<()> {
        let text = toml::to_string(&Content { tokens })
            .map_err(|e| Exit::Failed.error(format_args!("cannot write the tokens: {e}"), "report this as a bug"))?;
        durable::replace_private(&self.file(), text.as_bytes())
    }

    /// The token with this secret, if there is one that has not expired.
    pub fn find(&self, secret: &str) -> Result<Option<Token>> {
        let presented = hash(secret);
        let mut found = None;
        // Every token is compared, each in constant time, so that the time does not depend on which one is close.
        for token in self.all()? {
            if bool::from(token.sha256.as_bytes().ct_eq(presented.as_bytes())) {
                found = Some(token);
            }
        }
        Ok(found.filter(Token::is_valid))
    }

    /// The token of this name, if it has not expired.
    pub fn named(&self, name: &str) -> Result<Option<Token>> {
        Ok(self.all()?.into_iter().find(|token| token.name == name).filter(Token::is_valid))
    }
}

impl Token {
    fn is_valid(&self) -> bool {
        self.expires.is_none_or(|at| Timestamp::now() < at)
    }

    /// True if it permits what requires the scope.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&ScopeName(scope))
    }
}

/// The SHA-256 of a text in hexadecimal.
pub fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_start_makes_one_private_token_whose_secret_is_not_in_the_file_of_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let (tokens, first) = Tokens::open(dir.path()).unwrap();
        let first = first.unwrap();
        let secret = std::fs::read_to_string(&first).unwrap().trim().to_owned();
        let stored = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(secret.starts_with(PREFIX) && secret.len() == 68 && !stored.contains(&secret), "{secret}\n{stored}");
        for file in [&first, &dir.path().join(FILE)] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
        let token = tokens.find(&secret).unwrap().unwrap();
        assert!(token.has(Scope::Delete) && token.name == "admin");
        assert_eq!(tokens.find(&secret[..67]).unwrap(), None);
        assert!(Tokens::open(dir.path()).unwrap().1.is_none(), "a second start makes none");
    }

    #[test]
    fn a_revoked_and_an_expired_token_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (server, _) = Tokens::open(dir.path()).unwrap();
        let secret = server.create("ci", &[Scope::Build, Scope::Read, Scope::Build], None).unwrap();
        let found = server.find(&secret).unwrap().unwrap();
        assert!(found.has(Scope::Build) && !found.has(Scope::Delete) && found.scopes.len() == 2);
        // Another process revokes it.
        Tokens::open(dir.path()).unwrap().0.revoke("ci").unwrap();
        assert_eq!(server.find(&secret).unwrap(), None);
        let past = Timestamp::now() - jiff::SignedDuration::from_secs(1);
        let expired = server.create("old", &[Scope::Read], Some(past)).unwrap();
        assert_eq!(server.find(&expired).unwrap(), None);
        assert!(server.create("old", &[Scope::Read], None).unwrap_err().to_string().contains("already"));
        assert!(server.create("a b", &[Scope::Read], None).is_err());
        assert!(server.revoke("other").is_err());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (tokens, _) = Tokens::open(dir.path()).unwrap();
        std::fs::set_permissions(dir.path().join(FILE), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(tokens.all().unwrap_err().to_string().contains("other users have access"));
    }
}
