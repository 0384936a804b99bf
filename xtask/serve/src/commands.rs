//! The commands of this binary.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use jiff::Timestamp;
use xtask::cli::{Cli, Command, Format, Serve, ServeCommand, Token};
use xtask::commands::{Finish, project_root};
use xtask::config::{Config, Overrides};
use xtask::error::{Exit, Result};
use xtask::event::{Document, Event, Observer};
use xtask::report::{Human, Json, Verbosity, render};

use crate::server;
use crate::settings::Settings;
use crate::tokens::Tokens;

/// Runs the command line, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let events: Box<dyn Observer> = match cli.common.format {
        Format::Json => Box::new(Json::default()),
        Format::Human => Box::new(Human::new(Verbosity::Normal)),
    };
    let result = run(&cli, events.as_ref());
    let code = result.as_ref().map_or_else(|error| error.exit() as u8, |_| 0);
    events.event(match result {
        Ok(finish) => Event::Result { ok: true, exit: 0, summary: finish.summary, error: None, data: finish.data },
        Err(error) => Event::Result {
            ok: false,
            exit: code,
            summary: error.to_string(),
            error: Some(render(&error)),
            data: serde_json::Value::Null,
        },
    });
    ExitCode::from(code)
}

fn run(cli: &Cli, events: &dyn Observer) -> Result<Finish> {
    let Command::Serve(args) = &cli.command else {
        return Err(Exit::Usage.error("this program has only the command `serve`", "run `cargo xtask`"));
    };
    let env: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let root = project_root();
    let overrides = Overrides { state_dir: cli.common.state.clone(), ..Overrides::default() };
    let config = Config::load(&root, &overrides, &env)?;
    match &args.command {
        None if cli.common.dry_run => {
            let settings = Settings::new(&config, cli.common.on, args, root)?;
            let text = format!("serve on {} with the state directory {}\n", settings.listen, settings.state.display());
            let data = serde_json::json!({ "listen": settings.listen, "state": settings.state });
            events.event(Event::Document(Document { kind: "plan".to_owned(), data, text }));
            Ok(Finish::default())
        }
        None => serve(&config, cli, args, root),
        Some(ServeCommand::Token(token)) => tokens(token, &root.join(&config.local.state_dir).join("serve"), events),
    }
}

fn serve(config: &Config, cli: &Cli, args: &Serve, root: PathBuf) -> Result<Finish> {
    let settings = Settings::new(config, cli.common.on, args, root)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let summary = runtime.block_on(server::run(settings))?;
    Ok(Finish { summary, data: serde_json::Value::Null })
}

fn tokens(command: &Token, dir: &std::path::Path, events: &dyn Observer) -> Result<Finish> {
    fs_err::create_dir_all(dir)?;
    let (tokens, first) = Tokens::open(dir)?;
    if let Some(file) = first {
        let message = format!("the token `admin`, with all scopes, is in {}", file.display());
        events.event(Event::Note { message });
    }
    let document = |kind: &str, data: serde_json::Value, text: String| {
        events.event(Event::Document(Document { kind: kind.to_owned(), data, text }));
    };
    match command {
        Token::Create(args) => {
            let expires = args.expires.map(|time| Timestamp::now().checked_add(time)).transpose();
            let expires = expires.map_err(|e| Exit::Usage.error(format_args!("--expires: {e}"), "use a shorter time"))?;
            let secret = tokens.create(&args.name, &args.scopes, expires)?;
            document("token", serde_json::json!({ "name": args.name, "token": secret }), format!("{secret}\n"));
            Ok(Finish { summary: format!("created the token {}", args.name), data: serde_json::Value::Null })
        }
        Token::List => {
            let all = tokens.all()?;
            let mut text = String::new();
            for token in &all {
                let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.0.name()).collect();
                let expires = token.expires.map_or("never".to_owned(), |at| at.to_string());
                let created = token.created.strftime("%FT%TZ");
                text.push_str(&format!("{:24} {:28} created {created}  expires {expires}\n", token.name, scopes.join(",")));
            }
            let listed = all.iter().map(|token| {
                serde_json::json!({ "name": token.name, "scopes": token.scopes, "created": token.created, "expires": token.expires })
            });
            let data = serde_json::json!({ "tokens": listed.collect::<Vec<_>>() });
            document("tokens", data, text);
            Ok(Finish::default())
        }
        Token::Revoke(args) => {
            tokens.revoke(&args.name)?;
            Ok(Finish { summary: format!("revoked the token {}", args.name), data: serde_json::Value::Null })
        }
    }
}
