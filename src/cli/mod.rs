//! The command line: one file a subcommand, each thin.

mod backup;
mod bootfiles;
mod cage;
mod check;
mod demo;
mod exit;
mod figures;
mod interrupt;
mod label;
mod mix;
mod run;
mod schema;
mod simulate;
mod size;
mod switch;
mod tally;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Netboots bare Raspberry Pi modules, writes the right image on each, proves it, and tells the factory.
#[derive(Parser, Debug)]
#[command(name = "bootline", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Demo(demo::Args),
    Simulate(simulate::Args),
    Schema(schema::Args),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    #[command(subcommand)]
    Bootfiles(bootfiles::Verb),
    #[command(subcommand)]
    Switch(switch::Verb),
    #[command(subcommand)]
    Label(label::Verb),
    #[command(hide = true)]
    Cage(cage::Args),
}

/// No thread exists yet: some subcommands enter namespaces of their own.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            drop(error.print());
            return if wrong { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Schema(args) => schema::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Bootfiles(verb) => bootfiles::run(verb),
        Command::Switch(verb) => switch::run(verb),
        Command::Label(verb) => label::run(verb),
        Command::Cage(args) => cage::run(&args),
    }
}
