//! `bootline token`: tokens of the operator side.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use crate::app::tokens::{self, By, Errand, Said};
use crate::cli::exit;
use crate::config;
use crate::core::role::Role;
use crate::core::token::TokenName;

/// Tokens for REST, WebSocket and the page: make one, list them, take one back.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Makes a token and prints it, once and never again
    #[command(after_help = "Example:\n  bootline token create erp --role operator")]
    Create {
        /// Its name: [A-Za-z0-9_-]{1,64}
        name: TokenName,
        /// viewer reads; operator also commands devices, sessions and active projects; admin everything
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        place: Place,
    },
    /// Lists names, roles and last use
    #[command(after_help = "Example:\n  bootline token list --json")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Takes a token back; what its bearer did stays in the journal
    #[command(after_help = "Example:\n  bootline token revoke erp")]
    Revoke {
        name: TokenName,
        #[command(flatten)]
        place: Place,
    },
}

/// Which station: that of the configuration. It may run or not.
#[derive(clap::Args, Debug)]
pub struct Place {
    /// The configuration; else ./conf/bootline.yml or /etc/bootline/bootline.yml
    #[arg(long, env = "BOOTLINE_CONFIG")]
    config: Option<PathBuf>,
    /// Where database and images are; overrides the file
    #[arg(long)]
    data: Option<PathBuf>,
    /// JSON in the place of text
    #[arg(long)]
    json: bool,
}

pub fn run(verb: Verb) -> ExitCode {
    let (errand, place) = match verb {
        Verb::Create { name, role, place } => (Errand::Create { name, role }, place),
        Verb::List { place } => (Errand::List, place),
        Verb::Revoke { name, place } => (Errand::Revoke { name }, place),
    };
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let config = config::find(place.config).and_then(|path| config::load(&path, &environment, place.data));
    let config = match config {
        Ok(config) => config,
        Err(error) => return exit::say(exit::CONFIG, &error.into()),
    };
    let done: Result<(Value, By)> = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(tokens::run(&config, &errand)));
    match done {
        Ok((answer, _)) if place.json => println!("{answer:#}"),
        Ok((answer, by)) => show(&errand, &answer, &tokens::place(&config.data, by)),
        Err(error) if error.downcast_ref::<Said>().is_some() => return exit::say(exit::FOUND, &error),
        Err(error) => return exit::say(exit::code_of(&error), &error),
    }
    ExitCode::SUCCESS
}

/// The token alone goes to standard output, so that it can be piped into a file.
fn show(errand: &Errand, answer: &Value, place: &str) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    match errand {
        Errand::Create { name, role } => {
            eprintln!("made token {name} with the role {role}, {place}; it is shown this once:");
            println!("{}", text(&answer["secret"]));
        }
        Errand::Revoke { name } => eprintln!("revoked token {name}, {place}"),
        Errand::List => {
            println!("{:<24} {:<9} {:<25} {:<25} REVOKED", "NAME", "ROLE", "CREATED", "LAST USED");
            for token in answer["tokens"].as_array().into_iter().flatten() {
                let [name, role, created, used, revoked] =
                    ["name", "role", "created_at", "last_used", "revoked_at"].map(|field| text(&token[field]));
                println!("{name:<24} {role:<9} {created:<25} {used:<25} {revoked}");
            }
        }
    }
}
